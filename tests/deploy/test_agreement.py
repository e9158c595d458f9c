"""The exported program, in numpy, ONNX, StableHLO and C, gives the actions that jax gives."""

import numpy as np
import pytest
from gymnasium import spaces

from fewstep import deploy
from fewstep.deploy.formats import registry as formats
from fewstep.deploy.formats.numpy.run import NumpyPolicy
from fewstep.envs.spaces import ActionView
from fewstep.types import Spec
from tests.deploy.helpers import (
    SPEC,
    TINY,
    act_c,
    agreement,
    compiled_c,
    exported,
    from_jax,
    needs_gcc,
    observations,
    surroundings,
)
from tests.few import slow


def limit(algo, sets=()):
    """The largest observation: the clip behind a normalisation makes any size an ordinary one."""
    clipped = "replay.normalise_obs=true" in sets or (algo == "ppo" and "normalise.obs=false" not in sets)
    return 1e6 if clipped else 1e3


VARIANTS = [
    ("sac", ()),
    ("sac", ("actor.activation=gelu",)),
    ("sac", ("actor.trunk=xqc",)),
    ("sac", ("actor.trunk=flash", "actor.hidden=[8,8]")),
    ("ppo", ()),
    ("ppo", ("normalise.obs=false",)),
    ("mfpo", ()),
    ("mfpo", ("actor.steps=1",)),
    ("mfpo", ("actor.steps=3", "actor.bound=tanh")),
    ("smfp", ()),
    ("smfp", ("actor.output=residual",)),
    ("smfp", ("actor.bound=tanh",)),
    ("smfp", ("actor.backbone=dit", "actor.hidden=[8,8]")),
    ("td3", ()),
    ("crossq", ()),
    ("crossq", ("replay.normalise_obs=true",)),
]


BEST = [
    ("crossq", ()),
    ("mfpo", ()),
    ("mfpo", ("critic.reduce=mean",)),
    ("sac", ()),
    ("sac", ("critic.trunk=xqc", "critic.head=categorical", "critic.atoms=11")),
    ("sac", ("critic.trunk=flash", "critic.hidden=[8,8]")),
    ("smfp", ()),
    ("smfp", ("critic.trunk=layernorm", "actor.backbone=dit", "actor.hidden=[8,8]")),
    ("smfp", ("replay.normalise_obs=true",)),
]
CASES = [(*variant, mode) for variant in VARIANTS for mode in ("sample", "mode")] + [
    (*variant, "best-of-3") for variant in BEST
]
FIRST = [
    *((algo, (), "sample") for algo in ("sac", "ppo", "mfpo", "smfp", "td3", "crossq")),
    ("smfp", (), "mode"),
    ("crossq", (), "best-of-3"),
    ("smfp", (), "best-of-3"),
]


@pytest.mark.parametrize(
    ("algo", "sets", "mode"), FIRST + slow(*(case for case in CASES if case not in FIRST))
)
@needs_gcc
def test_tiny_networks(algo, sets, mode, tmp_path):
    sets = TINY[algo] + sets
    artefact, obs = exported(algo, sets, mode=mode), observations(SPEC.obs_size, limit=limit(algo, sets))
    want, noise = from_jax(algo, obs, mode, sets)
    assert np.abs(want).std() > 0.05  # actions that say something
    given = noise if artefact.noise_size else None
    check = agreement(artefact.program, obs, noise, want)
    formats.write(artefact, "c", tmp_path / "policy")
    check(act_c(compiled_c(tmp_path, "policy"), obs, noise, SPEC.act_size))
    path, _ = formats.write(artefact, "onnx", tmp_path / "policy")
    for policy in (NumpyPolicy(artefact), deploy.load(path)):
        got = policy.act(obs, given)
        check(got)
        one = [policy.act(o, None if given is None else n) for o, n in zip(obs[:20], noise, strict=False)]
        np.testing.assert_allclose(one, got[:20], atol=2e-5)


@pytest.mark.parametrize(
    ("algo", "mode"), [("ppo", "sample"), ("smfp", "mode"), *slow(("mfpo", "best-of-3"), ("td3", "sample"))]
)
def test_stablehlo(algo, mode, tmp_path):
    artefact, obs = exported(algo, TINY[algo], mode=mode), observations(SPEC.obs_size, limit=limit(algo))
    want, noise = from_jax(algo, obs, mode, TINY[algo])
    policy = deploy.load(formats.write(artefact, "stablehlo", tmp_path / "policy")[0])
    agreement(artefact.program, obs, noise, want)(policy.act(obs, noise if artefact.noise_size else None))


@pytest.mark.parametrize(
    ("algo", "mode"),
    [
        ("sac", "sample"),
        ("smfp", "native"),
        *slow(
            ("crossq", "sample"),
            ("mfpo", "native"),
            ("mfpo", "sample"),
            ("ppo", "sample"),
            ("smfp", "sample"),
            ("td3", "sample"),
        ),
    ],
)
@needs_gcc
def test_the_sizes_of_the_presets(algo, mode, tmp_path):
    spec = Spec(17, 6)
    artefact = exported(algo, spec=spec, mode=mode)
    # Far out, what rounding does to an action is enough to change which candidate is best.
    native = mode == "native"
    obs = observations(spec.obs_size, 400 if native else 1000, 30.0 if native else limit(algo))
    want, noise = from_jax(algo, obs, mode, spec=spec)
    check = agreement(artefact.program, obs, noise, want)
    given = noise if artefact.noise_size else None
    check(NumpyPolicy(artefact).act(obs, given))
    check(deploy.load(formats.write(artefact, "onnx", tmp_path / "policy")[0]).act(obs, given))
    formats.write(artefact, "c", tmp_path / "policy")
    check(act_c(compiled_c(tmp_path, "policy"), obs, noise, spec.act_size))


@needs_gcc
def test_actions_are_in_the_environments_units(tmp_path):
    low, high = np.array([[-2.0], [0.0], [1.0]], np.float32), np.array([[2.0], [0.4], [50.0]], np.float32)
    view = ActionView(spaces.Box(low, high), "some/Env-v0")
    env = surroundings(SPEC, low.ravel(), high.ravel(), low.shape)
    artefact, obs = exported("smfp", TINY["smfp"], env=env), observations(SPEC.obs_size, 200)
    want, noise = from_jax("smfp", obs, sets=TINY["smfp"])
    got = NumpyPolicy(artefact).act(obs, noise)
    assert got.shape == (200, 3, 1)
    scaled = np.stack([view.to_env(action) for action in want])
    np.testing.assert_allclose(got[50:], scaled[50:], atol=25 * 1e-5)
    at_ends = np.abs(want) == 1.0
    assert at_ends.any()
    assert (got[..., 0][at_ends] == scaled[..., 0][at_ends]).all()
    formats.write(artefact, "c", tmp_path / "policy")
    actions = act_c(compiled_c(tmp_path, "policy"), obs, noise, SPEC.act_size)
    onnx = deploy.load(formats.write(artefact, "onnx", tmp_path / "policy")[0]).act(obs, noise)
    for others in (actions, onnx[..., 0]):
        np.testing.assert_allclose(others[50:], scaled[50:, :, 0], atol=25 * 1e-5)
        assert (others[at_ends] == scaled[..., 0][at_ends]).all()


def test_time_embeddings_are_constants_and_the_state_is_seen_once():
    """One product of the observation however many steps; no instruction for times."""
    program = exported("mfpo", (*TINY["mfpo"], "actor.steps=3")).program
    assert sum("obs" in step.args for step in program.instructions) == 1
    assert {step.op for step in program.instructions} == {
        "affine",
        "add",
        "layer_norm",
        "gelu",
        "clip",
    }
