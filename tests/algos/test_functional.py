"""``fewstep.functional`` as a contract: names, configs, numbers traced in them, seeds in one program."""

import dataclasses
import inspect
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep import functional as fs
from fewstep.algos import registry
from fewstep.config import resolve, settings
from fewstep.errors import UsageError
from fewstep.nets.trained import AdamConfig
from tests.algos.common import SPEC, assert_close, batch, changed, numbered, representatives, same, tiny

FUNCTIONS = {
    "init": "cfg spec key",
    "update": "cfg state data",
    "policy": "state",
    "act": "cfg policy obs key mode",
    "collect": "cfg policy obs key",
    "noise": "cfg policy",
    "draw": "cfg policy obs noise",
    "native": "cfg",
    "mode": "cfg text",
}
"""The arguments that docs/functional.md promises, by position."""


def small(name="sac", **more):
    algorithm = fs.algorithm(name)
    return algorithm, fs.config(algorithm, settings=dict(algorithm.tiny) | more)


def real_numbers(cfg):
    """The settings that docs/functional.md says can be traced."""
    return {
        name: settings.flatten(cfg)[name]
        for name, annotation in settings.schema(type(cfg)).items()
        if annotation is float
        and not name.startswith("replay.")
        and not {name, name.rpartition(".")[2]} & set(fs.STATIC)
    }


def data_of(algorithm, cfg):
    if algorithm.rollout is None:
        return numbered() if algorithm.numbered else batch()
    rows = (algorithm.rollout(cfg), 2)
    obs, action, nothing = jnp.zeros((*rows, 3)), jnp.zeros((*rows, 2)), jnp.zeros(rows)
    return fs.Rollout(obs, action, nothing, nothing > 0, nothing > 0, obs)


def test_the_public_names():
    assert sorted(fs.__all__) == fs.__all__
    assert set(fs.__all__) == {
        "ActionMode",
        "Algorithm",
        "Metrics",
        "Rollout",
        "Spec",
        "Transition",
        "algorithm",
        "config",
        "traced",
    }
    assert fs.Transition._fields == (
        "obs",
        "action",
        "reward",
        "terminated",
        "next_obs",
        "number",
        "discount",
    )
    assert fs.Rollout._fields == ("obs", "action", "reward", "terminated", "truncated", "next_obs")
    for cls, fields in (
        (fs.Spec, ["obs_size", "act_size", "image"]),
        (fs.ActionMode, ["candidates", "noise_free"]),
    ):
        assert [field.name for field in dataclasses.fields(cls)] == fields


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_the_functions_take_what_the_page_says(name):
    algorithm = fs.algorithm(name)
    for function, arguments in FUNCTIONS.items():
        assert len(inspect.signature(getattr(algorithm, function)).parameters) == len(arguments.split())


def test_a_config_is_that_of_a_run():
    algorithm = fs.algorithm("dpmd")
    ours = fs.config(algorithm, preset="small", env="Ant-v4", settings={"critic": {"ensemble": 3}})
    run = resolve("dpmd", algorithm.config, "Ant-v4", preset="small", overrides={"critic.ensemble": 3})
    assert ours == run.algorithm
    assert fs.config(fs.algorithm("sac")) == fs.algorithm("sac").config()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"training.envs": 4}, "training.envs is a setting of fewstep's own training loop, not of sac"),
        ({"training": {"envs": 4}}, "training is a setting of fewstep's own training loop"),
        ({"critic.ensembel": 4}, "critic.ensemble"),
        ({"discount": 2.0}, r"discount must be in \[0, 1\]"),
        ({"critic.ensemble": "two"}, "must be a whole number"),
    ],
)
def test_a_config_is_checked(given, message):
    with pytest.raises(UsageError, match=message):
        fs.config(fs.algorithm("sac"), settings=given)


@pytest.mark.parametrize(("name", "preset"), [("ppo", "default"), ("mpo", "default"), ("qsm", "small")])
def test_a_config_for_a_task_in_jax_is_that_of_a_loop_of_ones_own(name, preset):
    """What fewstep's own loop on the device cannot do is no fault of it."""
    cfg = fs.config(fs.algorithm(name), preset=preset, env="brax/ant")
    assert isinstance(cfg, fs.algorithm(name).config)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"actor.learning_rat": 1.0}, "actor.learning_rate"),
        ({"replay.updates_per_step": 1.0}, "no update reads it"),
        ({"critic.ensemble": 2}, "only settings that are real numbers can"),
        ({"critic.head": 2}, "only settings that are real numbers can"),
        ({"actor.max_grad_norm": 1.0}, "0 means that nothing is clipped"),
        ({"critic.reward_scale": 1.0}, "1 means that nothing is scaled"),
        ({"actor.log_std_min": -5.0}, "part of the policy network"),
        ({"discount": jnp.ones(3)}, r"must be a scalar, got shape \(3,\); vmap over its values"),
    ],
)
def test_what_cannot_be_traced_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        fs.traced(small()[1], given)


def test_the_rest_of_a_traced_config_is_as_it_was():
    cfg = small()[1]
    made = fs.traced(cfg, {"actor.learning_rate": 0.5, "discount": 0.25})
    assert made == changed(cfg, {"actor.learning_rate": 0.5, "discount": 0.25})
    assert cfg == small()[1]


@pytest.mark.parametrize("name", representatives("smfp", "dpmd"))
def test_every_real_number_can_be_traced(name):
    """All at once, through everything that an algorithm does. A traced value in a static field of a network
    warns."""
    algorithm, cfg = small(name)
    values = real_numbers(cfg)
    data = data_of(algorithm, cfg)

    def all_of_it(values):
        one = fs.traced(cfg, values)
        state, metrics = algorithm.update(one, algorithm.init(one, SPEC, jax.random.key(0)), data)
        policy, obs, key = algorithm.policy(state), jnp.zeros((2, 3)), jax.random.key(1)
        act = algorithm.act(one, policy, obs, key, fs.ActionMode())
        return metrics, act, algorithm.collect(one, policy, obs, key)

    assert {"critic.learning_rate", "discount"} & set(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(all_of_it, {name: jnp.float32(value) for name, value in values.items()})


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("sac", "actor.max_grad_norm"),
        ("sac", "critic.reward_scale"),
        ("sac", "actor.log_std_min"),
        ("crossq", "critic.momentum"),
        ("flame", "actor.equal_share"),
        ("flame", "actor.grid_share"),
        ("flame", "actor.pathwise"),
        ("mpo", "improvement.epsilon_penalty"),
        ("smfp", "mirror.weight"),
    ],
)
def test_what_is_refused_could_not_have_been_traced(name, setting, monkeypatch):
    algorithm, cfg = small(name)
    monkeypatch.setattr(fs, "STATIC", {})

    def update(value):
        one = fs.traced(cfg, {setting: value})
        return algorithm.update(one, algorithm.init(one, SPEC, jax.random.key(0)), data_of(algorithm, cfg))[1]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises((TypeError, ValueError, UserWarning)):
                traced_twice(update, jnp.float32(settings.flatten(cfg)[setting]))
    finally:
        # Traces made here stay in jax's caches, and the next network of the same shape would be compared.
        jax.clear_caches()


def traced_twice(function, value):
    """What is in a static field of a network is compared when there is an earlier trace."""
    for _ in range(2):
        jax.eval_shape(lambda value: function(value), value)


def trained(algorithm, cfg, key, updates=3):
    """The state after some updates, each on a batch of its own."""
    batches = jax.tree.map(lambda *each: jnp.stack(each), *(batch(seed=i) for i in range(updates)))
    state = algorithm.init(cfg, SPEC, key)
    return jax.lax.scan(lambda now, data: algorithm.update(cfg, now, data), state, batches)[0]


def test_hyper_parameters_side_by_side_are_runs_with_those_settings():
    grid = {"critic.head": "categorical", "critic.v_min": -10.0, "critic.v_max": 10.0}
    flat = {"actor.eps": 1e-2, "critic.eps": 1e-2}  # rounding must not turn Adam's first steps round
    algorithm, cfg = small(**grid | flat)
    values = {
        "actor.learning_rate": [1e-3, 1e-2],
        "critic.learning_rate": [3e-3, 3e-3],
        "critic.tau": [0.1, 0.5],
        "critic.v_max": [10.0, 20.0],
        "discount": [0.9, 0.99],
        "temperature.initial": [0.1, 1.0],
        "temperature.target_entropy_per_dim": [-1.0, 0.0],
    }
    together = jax.jit(jax.vmap(lambda one: trained(algorithm, fs.traced(cfg, one), jax.random.key(0))))(
        {name: jnp.array(each) for name, each in values.items()}
    )
    settled = [changed(cfg, {name: each[lane] for name, each in values.items()}) for lane in range(2)]
    alone = [jax.jit(partial(trained, algorithm, one))(jax.random.key(0)) for one in settled]
    for lane, expected in enumerate(alone):
        found = jax.tree.map(lambda leaf, at=lane: leaf[at], together)
        assert_close(found.actor.params, expected.actor.params, rtol=1e-4, atol=1e-5)
        assert_close(found.critics.online.params, expected.critics.online.params, rtol=1e-4, atol=1e-5)
        assert_close(found.temperature, expected.temperature, rtol=1e-4)
    assert not same(alone[0].actor.params, alone[1].actor.params)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_a_learning_rate_that_falls_can_be_traced(decay):
    cfg = AdamConfig(decay=decay, decay_steps=4)
    values = {"learning_rate": 1e-2, "final_share": 0.3}

    def rate(values):
        return fs.traced(cfg, values).rate(jnp.int32(3))

    expected = dataclasses.replace(cfg, **values).rate(jnp.int32(3))
    np.testing.assert_allclose(jax.jit(rate)(values), expected, rtol=1e-6)
    assert jax.grad(rate)(values)["final_share"] > 0


def test_seeds_side_by_side_are_runs_of_their_own():
    algorithm, cfg = small(**{"actor.delay": 2})
    keys = jax.random.split(jax.random.key(5), 3)
    together = jax.jit(jax.vmap(lambda key: trained(algorithm, cfg, key)))(keys)
    one = jax.jit(lambda key: trained(algorithm, cfg, key))
    for lane, key in enumerate(keys):
        found = jax.tree.map(lambda leaf, at=lane: leaf[at], together)
        assert_close(found.actor.params, one(key).actor.params, rtol=1e-4, atol=1e-6)


SMOOTH = {"activation": "tanh", "eps": 1e-2}
"""No dead units, at whose zero gradients Adam's root has no derivative, and no steep steps."""


def test_the_gradient_through_an_update_is_that_of_finite_differences():
    """In float64, of the actions after an update of SAC; by the discount it is 0, as targets are constant."""
    smooth = {f"{net}.{name}": value for net in ("actor", "critic") for name, value in SMOOTH.items()}
    with jax.enable_x64(True):
        algorithm, cfg = small(**smooth)
        start = wide(jax.jit(partial(trained, algorithm, cfg))(jax.random.key(0)))
        data = wide(batch(seed=7))

        def after(values):
            one = fs.traced(cfg, values)
            policy = algorithm.policy(algorithm.update(one, start, data)[0])
            mode = fs.ActionMode(noise_free=True)
            return jnp.sum(algorithm.act(one, policy, data.obs, jax.random.key(1), mode))

        values = {"actor.learning_rate": 1e-2, "critic.learning_rate": 1e-2, "actor.b1": 0.9, "discount": 0.9}
        values = {name: jnp.float64(value) for name, value in values.items()}
        measure, slopes = jax.jit(after), jax.jit(jax.grad(after))(values)
        for name, value in values.items():
            step = 1e-4 * value
            up, down = (measure(values | {name: value + sign * step}) for sign in (1, -1))
            assert up != down
            if name != "discount":
                np.testing.assert_allclose(slopes[name], (up - down) / (2 * step), rtol=1e-4)
        assert slopes["discount"] == 0


def wide(tree):
    """The tree with its real numbers in float64."""
    return jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, tree)


def test_the_records_are_those_of_the_registry():
    """``functional`` adds nothing of its own between the caller and an algorithm."""
    algorithm, cfg = small()
    assert (algorithm, cfg) == tiny("sac")[:2]
