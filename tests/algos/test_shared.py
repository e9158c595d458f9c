"""Parts that algorithms are made of: delayed improvement with its metrics held, the temperature."""

from dataclasses import replace
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from fewstep.algos import registry
from fewstep.algos.shared import temperature
from fewstep.algos.shared.delay import PLACES, delayed, nothing_held
from fewstep.algos.shared.temperature import Temperature, TemperatureConfig
from fewstep.config import resolve
from fewstep.errors import UsageError

# -------------------------------------------------------------------------------- the delay


class State(eqx.Module):
    value: Array
    updates: Array
    held: Array


def improve(state):
    value = 2.0 * state.value
    return replace(state, value=value), {"actor/value": value, "actor/count": state.updates}


def start():
    return State(jnp.float32(1.0), jnp.int32(0), nothing_held())


@pytest.mark.parametrize("delay", [1, 3])
def test_an_improvement_is_due_at_every_nth_update_from_the_first_on(delay):
    states, seen = [start()], []
    for _ in range(7):
        state, metrics = delayed(delay, states[-1], improve)
        states.append(state)
        seen.append(metrics)
    due = [count % delay == 0 for count in range(7)]
    assert [bool(new.value != old.value) for old, new in pairwise(states)] == due
    assert [int(state.updates) for state in states] == list(range(8))
    last = [count - count % delay for count in range(7)]
    assert [int(metrics["actor/count"]) for metrics in seen] == last
    assert [float(metrics["actor/value"]) for metrics in seen] == [
        2.0 ** (1 + count // delay) for count in range(7)
    ]
    assert all(metrics.keys() == {"actor/value", "actor/count"} for metrics in seen)


def test_what_is_not_due_is_not_computed():
    ran = []

    def counted(state):
        jax.debug.callback(lambda: ran.append(1))
        return improve(state)

    run = jax.jit(lambda state: delayed(3, state, counted)[0])
    state = start()
    for _ in range(4):
        state = run(state)
    jax.effects_barrier()
    assert len(ran) == 2


def test_more_metrics_than_can_be_held_are_refused():
    def many(state):
        return state, {f"actor/{i}": state.value for i in range(PLACES + 1)}

    with pytest.raises(UsageError, match=f"has {PLACES + 1} metrics, {PLACES} can be held"):
        delayed(2, start(), many)


def test_a_delayed_improvement_keeps_the_types_of_the_state():
    """One program for both branches, which a scan demands too."""
    state = jax.lax.scan(lambda s, _: delayed(2, s, improve), start(), length=5)[0]
    assert int(state.updates) == 5
    assert float(state.value) == 8.0


# -------------------------------------------------------------------------------- the temperature


@pytest.mark.parametrize(("entropy", "direction"), [(-3.0, 1), (3.0, -1)])
def test_alpha_rises_below_the_target_entropy_and_falls_above(entropy, direction):
    cfg = TemperatureConfig(target_entropy_per_dim=-0.5)
    before = Temperature.create(cfg)
    after, metrics = before.adjusted(cfg, jnp.float32(entropy), act_size=2)
    assert np.sign(float(after.alpha - before.alpha)) == direction
    np.testing.assert_allclose(metrics["temperature/alpha"], 0.01, rtol=1e-6)
    np.testing.assert_allclose(metrics["temperature/loss"], 0.01 * (entropy + 1.0), rtol=1e-5)


def test_the_target_is_per_dimension():
    cfg = TemperatureConfig(target_entropy_per_dim=-0.5)
    for act_size, moves in ((2, False), (6, True)):
        after, metrics = Temperature.create(cfg).adjusted(cfg, jnp.float32(-1.0), act_size)
        assert (float(metrics["temperature/loss"]) != 0.0) == moves
        assert (float(after.log.params) != float(jnp.log(jnp.float32(0.01)))) == moves


def test_its_loss_differentiates_log_alpha_alone():
    grads = jax.grad(lambda x: temperature.loss(x, jnp.float32(0.4), -1.0)[0])(jnp.log(jnp.float32(0.3)))
    np.testing.assert_allclose(grads, 0.3 * 1.4, rtol=1e-6)


def test_the_loss_in_log_alpha_has_the_same_slope_without_the_factor_alpha():
    slope = jax.grad(lambda x: temperature.log_loss(x, jnp.float32(0.4), -1.0)[0])(jnp.log(jnp.float32(0.3)))
    np.testing.assert_allclose(slope, 1.4, rtol=1e-6)
    cfg = TemperatureConfig(initial=0.3, objective="log_alpha", target_entropy_per_dim=-0.5)
    _, metrics = Temperature.create(cfg).adjusted(cfg, jnp.float32(0.4), act_size=2)
    np.testing.assert_allclose(metrics["temperature/loss"], 1.4 * np.log(0.3), rtol=1e-5)


def test_one_step_is_one_of_adam_in_log_alpha():
    cfg = TemperatureConfig(initial=0.2, learning_rate=0.01)
    after, _ = Temperature.create(cfg).step(cfg, jnp.float32(-9.0), -1.0)
    np.testing.assert_allclose(after.alpha, 0.2 * np.exp(0.01), rtol=1e-5)


@pytest.mark.parametrize(("entropy", "bound"), [(-99.0, 0.011), (99.0, 0.009)])
def test_alpha_stays_inside_its_bounds(entropy, bound):
    cfg = TemperatureConfig(initial=0.01, minimum=0.009, maximum=0.011, learning_rate=0.5)
    after, _ = Temperature.create(cfg).adjusted(cfg, jnp.float32(entropy), act_size=2)
    np.testing.assert_allclose(after.alpha, bound, rtol=1e-5)


def test_a_fixed_temperature_is_recorded_and_stays():
    cfg = TemperatureConfig(initial=0.3, automatic=False)
    before = Temperature.create(cfg)
    after, metrics = before.adjusted(cfg, jnp.float32(-9.0), act_size=2)
    assert after is before
    assert metrics.keys() == {"temperature/alpha"}
    np.testing.assert_allclose(metrics["temperature/alpha"], 0.3, rtol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"initial": 0.0}, {"initial": 99.0}, {"minimum": 1.0, "maximum": 0.5}, {"minimum": 0.5}]
)
def test_bounds_that_contradict_each_other_are_refused(changes):
    with pytest.raises(UsageError, match="minimum <= initial <= maximum"):
        TemperatureConfig(**changes)


# ------------------------------------------------------------- settings that would stop the learning


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("sac", "actor.log_std_min", 2.0),  # log sigma would be the constant 2
        ("mpo", "actor.initial_std", 20.0),  # outside of the range in which gradients flow
        ("mpo", "improvement.samples", 1),  # one action alone is its own mean
        ("qvpo", "regression.candidates", 1),
        ("dpmd", "regression.rate", 1.5),  # a running mean that overshoots
        ("fpmd", "regression.rate", 0.0),
        ("flowrl", "regression.smallest", 2.0),  # above the largest
    ],
)
def test_they_are_refused(name, setting, value):
    with pytest.raises(UsageError, match=setting.rsplit(".", maxsplit=1)[-1]):
        resolve(name, registry.get(name).config, "Pendulum-v1", overrides={setting: value})
