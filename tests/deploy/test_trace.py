"""Export of any algorithm: ``draw`` and ``value`` as jax sees them become a program, or are refused."""

import dataclasses
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep import deploy
from fewstep.algos import registry
from fewstep.cli import main
from fewstep.config import RunConfig
from fewstep.deploy import export
from fewstep.deploy.formats import registry as formats
from fewstep.deploy.formats.numpy.run import NumpyPolicy
from fewstep.errors import FewstepError, UsageError
from fewstep.nets.layers import LayerNorm
from fewstep.runs.layout import RunDir
from fewstep.training import saved_policy
from tests.deploy.helpers import SPEC, act_c, agreement, compiled_c, needs_gcc, observations, surroundings
from tests.deploy.own_algorithm import ALGORITHM
from tests.e2e.helpers import one_line

OWN = "tests.deploy.own_algorithm:ALGORITHM"
WEIGHT = 0.4 * np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)


def policy():
    return ALGORITHM.policy(ALGORITHM.init(ALGORITHM.config(), SPEC, jax.random.key(1)))


def packed(draw, mode="sample", algorithm=ALGORITHM, held=None, noise=(3,)):
    """``draw(obs, noise)`` as the policy of an algorithm."""
    own = dataclasses.replace(algorithm, draw=lambda cfg, p, s, e: draw(s, e), noise=lambda cfg, p: noise)
    return export.pack(
        own, own.config(), held or policy(), surroundings(), env_steps=0, updates=0, actions=mode
    )


def checked(exported, folder, limit=1e3):
    """numpy, ONNX and C give what jax gives."""
    obs = observations(SPEC.obs_size, 200, limit)
    noise = np.random.default_rng(2).normal(size=(len(obs), exported.noise_size)).astype(np.float32)
    given = [obs, noise] if exported.noise_size else [obs]
    want = np.asarray(jax.jit(exported.function)(*given))
    check = agreement(exported.program, obs, noise, want)
    check(NumpyPolicy(exported).act(*given))
    check(deploy.load(formats.write(exported, "onnx", folder / "policy")[0]).act(*given))
    formats.write(exported, "c", folder / "policy")
    check(act_c(compiled_c(folder, "policy"), obs, noise, SPEC.act_size))
    return want


@pytest.mark.parametrize("mode", ["sample", "mode", "native"])
@needs_gcc
def test_an_algorithm_of_the_users_own(mode, tmp_path):
    own = registry.get(OWN)
    exported = export.pack(own, own.config(), policy(), surroundings(), env_steps=0, updates=0, actions=mode)
    want = checked(exported, tmp_path, limit=20.0)
    assert np.abs(want).std() > 0.1
    assert exported.noise_size == {"sample": 3, "mode": 0, "native": 12}[mode]


def _first(x):
    return x[:3] @ WEIGHT[:3, :3]


def _each(members, s):
    return jax.vmap(lambda w: jnp.tanh(s @ w))(members)


FUNCTIONS = {
    "sigmoid gates": lambda s, e: jax.nn.sigmoid(_first(s)) * e,
    "softplus": lambda s, e: 0.1 * jax.nn.softplus(_first(s)) * e,
    "mish": lambda s, e: 0.1 * jax.nn.mish(_first(s)) + 0.1 * e,
    "elu and leaky relu": lambda s, e: 0.01 * jax.nn.elu(_first(s)) + 0.01 * jax.nn.leaky_relu(s[2:] - e),
    "gelu by jax": lambda s, e: 0.1 * jax.nn.gelu(_first(jnp.tanh(s))) + e,
    "features": lambda s, e: jnp.concatenate([jnp.sin(s[:2]), jnp.cos(s[:1])]) * e,
    "norm": lambda s, e: (_first(s) + e) / jnp.sqrt(1.0 + jnp.sum((_first(s) + e) ** 2)),
    "softmax": lambda s, e: jax.nn.softmax(_first(s) + e),
    "max, min, abs": lambda s, e: jnp.maximum(jnp.minimum(_first(s), e), -jnp.abs(s[2:])),
    "bounds per entry": lambda s, e: jnp.clip(_first(s) + e, jnp.array([-0.5, -0.1, 0.0]), 0.4),
    "reversed and padded": lambda s, e: jnp.pad(s[:2] @ WEIGHT[:2, :2], (1, 0))[::-1] + 0.1 * e,
    "members by vmap": lambda s, e: _each(WEIGHT[:6, :5].reshape(2, 5, 3), s).mean(0) * e,
    "dot of two": lambda s, e: jnp.tanh(_first(s) @ e) * jnp.ones(3),
    "rows and columns": lambda s, e: (
        jnp.outer(jnp.tanh(_first(s)), jnp.ones(3)).T.reshape(9)[jnp.array([0, 4, 8])]
    ),
    "a residual block": lambda s, e: _residual(_first(s) + e),
    "eqx.nn.LayerNorm": lambda s, e: 0.2 * eqx.nn.LayerNorm(3)(_first(s) + e),
    "the same always": lambda s, e: jnp.array([0.5, -2.0, 0.1]),
}  # fmt: skip


def _residual(x):
    norm = LayerNorm(jnp.array([1.0, 2.0, 0.5]), jnp.array([0.1, 0.0, -0.1]))
    return x + jax.nn.relu(norm(x) @ WEIGHT[:3]) @ WEIGHT[:, :3]


@pytest.mark.parametrize("name", FUNCTIONS)
@needs_gcc
def test_what_a_policy_may_be_made_of(name, tmp_path):
    checked(packed(FUNCTIONS[name]), tmp_path, limit=20.0)


def test_what_is_not_known_is_refused_by_its_name_but_by_stablehlo(tmp_path):
    exported = packed(lambda s, e: jnp.sort(_first(s)) * e)
    with pytest.raises(UsageError, match=r"own acts by lax\.sort, which only stablehlo can hold"):
        formats.write(exported, "numpy", tmp_path / "policy")
    policy = deploy.load(formats.write(exported, "stablehlo", tmp_path / "policy")[0])
    obs, noise = np.arange(5.0), np.ones(3)
    want = np.clip(np.sort(obs[:3] @ WEIGHT[:3, :3]), -1.0, 1.0)
    np.testing.assert_allclose(policy.act(obs, noise), want, atol=1e-6)


def test_what_the_action_does_not_need_is_no_obstacle():
    """A density on the way may take what programs cannot."""

    def draw(s, e):
        action = jnp.tanh(_first(s) + e)
        return (action, jax.scipy.special.gammaln(action).sum())[0]

    assert {step.op for step in packed(draw).program.instructions} == {"slice", "affine", "add", "tanh"}


def test_the_mean_of_observations_far_from_zero_costs_no_digits():
    """(s - 5000) / 0.1 of numbers around 5000: folded into the weights, float32 would be off by 0.01."""
    exported = packed(lambda s, e: jnp.tanh(((s - 5000.0) / 0.1)[:3] @ WEIGHT[:3, :3]), mode="mode")
    obs = (5000.0 + 0.1 * np.random.default_rng(0).normal(size=(100, 5))).astype(np.float32)
    want = np.asarray(jax.jit(exported.function)(obs))
    assert want.std() > 0.2
    assert np.abs(NumpyPolicy(exported).act(obs) - want).max() <= 1e-5


def test_norms_gates_and_activations_are_single_operations():
    def ops(draw):
        return [step.op for step in packed(draw, mode="mode").program.instructions]

    wide = lambda s: s @ np.tile(WEIGHT[:5], 2)  # noqa: E731
    norm = LayerNorm(jnp.linspace(0.5, 2.0, 16), jnp.ones(16))
    last = np.tile(WEIGHT[:, :3], (2, 1))
    assert ops(lambda s, e: jnp.tanh(norm(wide(s)) @ last)) == ["affine", "layer_norm", "affine", "tanh"]
    assert ops(lambda s, e: jax.nn.silu(wide(s)) @ last) == ["affine", "silu", "affine", "clip"]
    assert ops(lambda s, e: jax.nn.relu(wide(s) * 2.0 + 1.0) @ last) == ["affine", "relu", "affine", "clip"]
    # Two maps in a row are one where that is fewer multiplications, and two where it is more.
    assert ops(lambda s, e: jnp.tanh(wide(s) @ last)) == ["affine", "tanh"]
    back = np.ones((1, 16), np.float32)
    narrow = ["affine", "affine", "relu", "affine", "clip"]
    assert ops(lambda s, e: jax.nn.relu(wide(s) @ last[:, :1] @ back) @ last) == narrow


def test_noise_that_an_action_ignores(tmp_path):
    exported = packed(lambda s, e: jnp.tanh(s[:3]))
    assert exported.noise_size == 3
    formats.write(exported, "c", tmp_path / "policy")
    compiled_c(tmp_path, "policy")  # no complaint about what is not used


def test_a_policy_that_diverged_is_not_exported_in_any_format():
    broken = eqx.tree_at(lambda p: p.inner, policy(), jnp.full((8, 8), jnp.nan))
    with pytest.raises(FewstepError, match="its training has diverged"):
        export.pack(ALGORITHM, ALGORITHM.config(), broken, surroundings(), env_steps=0, updates=0)


def test_a_run_is_exported_where_its_environment_cannot_be_imported(tmp_path, capsys, monkeypatch):
    info = dataclasses.replace(surroundings(SPEC, -2.0, 3.0), env="gone_simulator:Gone-v0")
    config = RunConfig(OWN, info.env, seed=0, preset="default", algorithm=ALGORITHM.config())
    directory = RunDir.create(tmp_path / "run", config.to_toml())
    saved = saved_policy.SavedPolicy(ALGORITHM, ALGORITHM.config(), info, policy(), 500, 400)
    saved_policy.save(directory.policy, saved, OWN)
    monkeypatch.setitem(sys.modules, "gone_simulator", None)
    for module in ("envs.vector", "training.evaluation.evaluate", "training.device.env", "envs.registry"):
        monkeypatch.setattr(f"fewstep.{module}.resolve", _no_environment)
    assert saved_policy.load(directory.policy).info == info
    assert main(["export", str(directory.path), "--to", "numpy", "--actions", "native"]) == 0
    exported = deploy.load(capsys.readouterr().out.split()[0], obs_names=info.obs_names)
    actions = exported.act(observations(5, 200), np.random.default_rng(0).normal(size=(200, 12)))
    assert -2.0 <= actions.min() < -1.0
    assert 2.0 < actions.max() <= 3.0
    assert (
        main(["export", str(directory.path), "--to", "numpy", "--actions", "mode", "--noise", "inside"]) == 2
    )
    one_line(capsys.readouterr().err, "--noise inside has no meaning with --actions mode")


def _no_environment(env_id):
    raise AssertionError(f"{env_id} was looked for")
