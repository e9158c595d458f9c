"""Averages of the policy's parameters: their closed form, who acts with them, and that learning does not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import registry
from fewstep.nets.trained import Averaged
from fewstep.types import Spec
from tests.algos.common import batch, changed, same
from tests.few import slow

NAMES = ("sac", "crossq", "smfp", "mfpo")
SPEC = Spec(3, 2)


def config(name, **more):
    algorithm = registry.get(name)
    return changed(algorithm.config(), dict(algorithm.tiny) | {"actor.delay": 2} | more)


@partial(jax.jit, static_argnums=(0, 1))
def step(name, cfg, state, data):
    return registry.get(name).update(cfg, state, data)


def trained(name, cfg, updates):
    """The states after each update."""
    state = registry.get(name).init(cfg, SPEC, jax.random.key(0))
    found = []
    for n in range(updates):
        state, _ = step(name, cfg, state, batch(seed=n))
        found.append(state)
    return found


def average(over, trees):
    """By the closed form."""
    weights = (1.0 - 1.0 / over) ** np.arange(len(trees) - 1, -1, -1)
    return jax.tree.map(lambda *x: np.tensordot(weights, np.stack(x), 1) / weights.sum(), *trees)


def close(found, expected):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected)


def test_the_average_has_exponential_weights_that_add_up_to_one():
    """sum_i w_i theta_i with w_i = tau (1 - tau)^(n - i), over their sum; the start has no weight."""
    rng, over = np.random.default_rng(0), 7
    series = rng.standard_normal((30, 4)).astype(np.float32)
    found = Averaged.start(over, jnp.full(4, 10.0))
    for n, theta in enumerate(series, start=1):
        found = found.moved(over, jnp.array(theta), jnp.int32(n))
        close(found.of(jnp.zeros(4)), average(over, list(series[:n])))


@pytest.mark.parametrize("over", [1, 2, 100_000])
def test_an_average_of_equal_parameters_is_these(over):
    """For one update it is the last parameters, over very many it does not lose digits."""
    found = Averaged.start(over, jnp.zeros(3))
    for n in range(1, 6):
        found = found.moved(over, jnp.array([1.0, -2.0, 3.0]), jnp.int32(n))
    np.testing.assert_allclose(found.of(jnp.zeros(3)), [1.0, -2.0, 3.0], rtol=1e-6)


def test_whole_numbers_are_taken_over():
    """As the count of batches of running statistics is."""
    found = Averaged.start(3, {"x": jnp.zeros(2), "batches": jnp.int32(0)})
    found = found.moved(3, {"x": jnp.ones(2), "batches": jnp.int32(5)}, jnp.int32(4))
    both = found.of({"x": jnp.ones(2), "batches": jnp.int32(9)})
    assert both["batches"].dtype == jnp.int32
    assert int(both["batches"]) == 5
    assert 0.0 < float(both["x"].min()) <= float(both["x"].max()) < 1.0


@pytest.mark.parametrize("name", ["sac", "smfp", *slow("crossq", "mfpo")])
def test_learning_and_collecting_are_the_same_with_an_average(name):
    """What is evaluated is another policy, and nothing else is (another program may round otherwise)."""
    algorithm = registry.get(name)
    plain, averaged = (trained(name, config(name, **{"actor.average": over}), 6)[-1] for over in (0, 4))
    close(algorithm.policy(plain), algorithm.collecting(averaged))
    close(plain.critics, averaged.critics)
    policy, last = algorithm.policy(averaged).actor, algorithm.collecting(averaged).actor
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), policy, last))
    assert max(moved) > 0.0


@pytest.mark.parametrize("name", NAMES)
def test_the_evaluated_policy_is_the_average_of_the_policies_after_each_policy_update(name):
    """Updates 0, 2 and 4 change the policy (delay 2); the others leave the average as it is."""
    algorithm, over = registry.get(name), 4
    states = trained(name, config(name, **{"actor.average": over}), 6)
    made = [algorithm.collecting(state).actor for state in states[::2]]
    close(algorithm.policy(states[-1]).actor, average(over, made))


def test_running_statistics_are_averaged_with_the_weights_they_belong_to():
    """CrossQ's actor is normalised by batches: at three policy updates by the same closed form."""
    algorithm, over = registry.get("crossq"), 4
    states = trained("crossq", config("crossq", **{"actor.average": over}), 6)
    found = algorithm.policy(states[-1]).stats[0]
    expected = average(over, [state.stats[0] for state in states[::2]])
    close((found.mean, found.variance), (expected.mean, expected.variance))
    assert int(found.batches) == int(states[-1].stats[0].batches) == 3


def test_with_normalised_observations_the_collecting_policy_has_the_moments_too():
    """``replay.normalise_obs`` wraps both policies."""
    cfg = config("sac", **{"actor.average": 4, "replay.normalise_obs": True})
    algorithm, state = registry.get("sac"), trained("sac", cfg, 4)[-1]
    policy, collector = algorithm.policy(state), algorithm.collecting(state)
    same(policy.moments, state.moments)
    same(collector.moments, state.moments)
    same(collector.inner.actor, state.inner.actor.params)
    same(policy.inner.actor, state.inner.averaged.average[0])
