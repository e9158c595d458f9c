"""The exported program, in numpy and in C, gives the actions that jax gives."""

import numpy as np
import pytest
from gymnasium import spaces

from fewstep.deploy import formats
from fewstep.deploy.description import Box
from fewstep.deploy.numpy_runtime import NumpyPolicy
from fewstep.envs.spaces import ActionView
from fewstep.types import Spec
from tests.deploy.helpers import (
    SPEC,
    TINY,
    act_c,
    assert_agrees,
    compiled_c,
    exported,
    from_jax,
    needs_gcc,
    observations,
)

VARIANTS = [
    ("sac", ()),
    ("sac", ("actor.activation=gelu",)),
    ("ppo", ()),
    ("ppo", ("normalise.obs=false",)),
    ("mfpo", ()),
    ("mfpo", ("actor.steps=1",)),
    ("mfpo", ("actor.steps=3", "actor.bound=tanh")),
    ("smfp", ()),
    ("smfp", ("actor.output=residual",)),
    ("smfp", ("actor.backbone=dit", "actor.hidden=[8,8]")),
]


@pytest.mark.parametrize(("algo", "sets"), VARIANTS)
@pytest.mark.parametrize("mode", ["sample", "mode"])
@needs_gcc
def test_tiny_networks(algo, sets, mode, tmp_path):
    sets = TINY[algo] + sets
    artefact, obs = exported(algo, sets, mode=mode), observations(SPEC.obs_size)
    want, noise = from_jax(algo, obs, mode, sets)
    assert np.abs(want).std() > 0.05  # actions that say something
    policy = NumpyPolicy(artefact)
    got = policy.act(obs, noise if mode == "sample" else None)
    assert got.dtype == np.float32
    assert_agrees(got, want, artefact.program, obs, noise)
    one = [policy.act(o, n if mode == "sample" else None) for o, n in zip(obs[:20], noise, strict=False)]
    np.testing.assert_allclose(one, got[:20], atol=1e-5)
    formats.write(artefact, "c", tmp_path / "policy")
    actions = act_c(compiled_c(tmp_path, "policy"), obs, noise, SPEC.act_size)
    assert_agrees(actions, want, artefact.program, obs, noise)


@pytest.mark.parametrize("algo", ["mfpo", "ppo", "sac", "smfp"])
@needs_gcc
def test_the_sizes_of_the_presets(algo, tmp_path):
    spec, box = Spec(17, 6), Box((-1.0,) * 6, (1.0,) * 6, (6,))
    artefact, obs = exported(algo, spec=spec, box=box), observations(spec.obs_size)
    want, noise = from_jax(algo, obs, spec=spec)
    assert_agrees(NumpyPolicy(artefact).act(obs, noise), want, artefact.program, obs, noise)
    formats.write(artefact, "c", tmp_path / "policy")
    library = compiled_c(tmp_path, "policy")
    assert_agrees(act_c(library, obs, noise, spec.act_size), want, artefact.program, obs, noise)


@needs_gcc
def test_actions_are_in_the_environments_units(tmp_path):
    low, high = np.array([[-2.0], [0.0], [1.0]], np.float32), np.array([[2.0], [0.4], [50.0]], np.float32)
    view = ActionView(spaces.Box(low, high), "some/Env-v0")
    box = Box(tuple(low.ravel().tolist()), tuple(high.ravel().tolist()), low.shape)
    artefact, obs = exported("smfp", TINY["smfp"], box=box), observations(SPEC.obs_size, 200)
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
    np.testing.assert_allclose(actions[50:], scaled[50:, :, 0], atol=25 * 1e-5)
    assert (actions[at_ends] == scaled[..., 0][at_ends]).all()


def test_time_embeddings_are_constants_and_the_state_is_seen_once():
    """One product of the observation however many steps; no instruction for times."""
    program = exported("mfpo", (*TINY["mfpo"], "actor.steps=3")).program
    assert sum("obs" in step.args for step in program.instructions) == 1
    assert {step.op for step in program.instructions} == {
        "affine",
        "add",
        "layer_norm",
        "gelu",
        "axpy",
        "clip",
    }
