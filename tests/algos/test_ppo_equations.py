"""PPO's equations against numbers worked out by hand or by numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.ppo import losses, policy
from fewstep.algos.ppo.advantages import gae
from fewstep.algos.ppo.normalise import running_returns, scale_reward
from fewstep.algos.shared.moments import Moments, observe, scale_obs

# --------------------------------------------------------------------------------------------- advantages

#          in the middle   terminal   in the middle   time limit   begun again, cut by the rollout's end
REWARD = [1.0, 2.0, 3.0, 4.0, 5.0]
VALUE = [10.0, 20.0, 30.0, 40.0, 50.0]
NEXT_VALUE = [20.0, 99.0, 40.0, 60.0, 70.0]  # 99 belongs to a terminal state and must not count
TERMINATED = [False, True, False, False, False]
TRUNCATED = [False, False, False, True, False]
# With gamma = 0.5 and lambda = 0.5, so gamma lambda = 0.25:
DELTA = [
    1 + 0.5 * 20 - 10,  # 1
    2 - 20,  # -18: a terminal state is worth nothing
    3 + 0.5 * 40 - 30,  # -7
    4 + 0.5 * 60 - 40,  # -6: a time limit bootstraps from its own successor
    5 + 0.5 * 70 - 50,  # -10
]
ADVANTAGE = [
    1 + 0.25 * -18,  # -3.5
    -18,  # what comes behind a terminal state is another episode
    -7 + 0.25 * -6,  # -8.5
    -6,  # and behind a time limit, too
    -10,  # the rollout's end cuts the trace, not the value
]


def advantages(discount=0.5, gae_lambda=0.5, **changed):
    fields = {"reward": REWARD, "value": VALUE, "next_value": NEXT_VALUE}
    fields |= {"terminated": TERMINATED, "truncated": TRUNCATED} | changed
    arrays = {name: jnp.array(values) for name, values in fields.items()}
    return np.asarray(gae(**arrays, discount=discount, gae_lambda=gae_lambda))


def test_advantages_of_a_table_worked_out_by_hand():
    np.testing.assert_allclose(advantages(), ADVANTAGE, rtol=1e-6)


def test_advantages_at_the_ends_of_lambda():
    """0: the one-step error. 1: the discounted rewards up to the cut, bootstrapped there, less the value."""
    np.testing.assert_allclose(advantages(gae_lambda=0.0), DELTA, rtol=1e-6)
    whole = [1 + 0.5 * 2 - 10, 2 - 20, 3 + 0.5 * (4 + 0.5 * 60) - 30, -6, -10]
    np.testing.assert_allclose(advantages(gae_lambda=1.0), whole, rtol=1e-6)


def test_the_value_behind_a_terminal_state_does_not_count_and_that_behind_a_time_limit_does():
    other = [20.0, -1e6, 40.0, 60.0, 70.0]
    np.testing.assert_array_equal(advantages(next_value=other), advantages())
    other = [20.0, 99.0, 40.0, 64.0, 70.0]
    np.testing.assert_allclose(advantages(next_value=other) - advantages(), [0, 0, 0.5, 2.0, 0], atol=1e-6)


def test_nothing_flows_back_over_the_end_of_an_episode():
    """Rows 2 and 3 are one episode, row 4 the next: its reward reaches neither, nor rows 0 and 1."""
    moved = advantages(reward=[1.0, 2.0, 3.0, 4.0, 1000.0]) - advantages()
    np.testing.assert_allclose(moved, [0, 0, 0, 0, 995.0])
    moved = advantages(reward=[1.0, 2.0, 3.0, 1000.0, 5.0]) - advantages()
    np.testing.assert_allclose(moved, [0, 0, 0.25 * 996, 996, 0])


def test_a_step_that_is_both_terminal_and_at_the_time_limit_is_terminal():
    both = [False, True, False, True, False]
    assert advantages(terminated=both)[3] == 4 - 40


# ----------------------------------------------------------------------------------------- the objective


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.0),
        (1.5, 2.0, 2.4, 0.0),  # gone far enough towards a good action
        (0.5, 2.0, 1.0, 2.0),  # a good action made rarer: it must come back
        (0.5, -2.0, -1.6, 0.0),  # gone far enough from a bad one
        (1.5, -2.0, -3.0, -2.0),  # a bad one made likelier: it must go back
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_the_clipped_objective_and_where_its_gradient_is_zero(ratio, advantage, value, slope):
    found = jax.value_and_grad(losses.clipped_objective)(ratio, advantage, 0.2)
    np.testing.assert_allclose(found, (value, slope), rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "clip", "error", "slope"),
    [
        (1.0, None, 0.5 * 4, -2.0),  # the target is 3
        (1.0, 0.2, 0.5 * 4, -2.0),  # where it began
        (1.1, 0.2, 0.5 * 1.9**2, -1.9),  # inside the band
        (2.0, 0.2, 0.5 * 1.8**2, 0.0),  # beyond it towards the target: as good as its edge, no gradient
        (0.5, 0.2, 0.5 * 2.5**2, -2.5),  # beyond it the other way: the error counts in full
        (5.5, 0.2, 0.5 * 2.5**2, 2.5),  # beyond the target, further off than the edge
    ],
)
def test_the_clipped_error_of_a_value_that_was_1(value, clip, error, slope):
    found = jax.value_and_grad(losses.value_error)(value, 1.0, 3.0, clip)
    np.testing.assert_allclose(found, (error, slope), rtol=1e-5)


def test_standardised_advantages():
    rows = np.random.default_rng(0).normal(3.0, 5.0, 50).astype(np.float32)
    found = np.asarray(losses.standardised(jnp.array(rows)))
    np.testing.assert_allclose(found, (rows - rows.mean()) / rows.std(), rtol=1e-4, atol=1e-6)
    assert float(losses.standardised(jnp.array([7.0]))[0]) == 0.0


def test_explained_variance():
    target = jnp.array([1.0, 2.0, 4.0])
    assert float(losses.explained_variance(target, target)) == 1.0
    assert float(losses.explained_variance(jnp.full(3, 9.0), target)) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.explained_variance(-target, target)) == pytest.approx(-3.0)
    assert float(losses.explained_variance(target, jnp.ones(3))) == 0.0


# --------------------------------------------------------------------------------------------- the Gaussian


def test_log_density_and_entropy_of_a_gaussian():
    rng = np.random.default_rng(0)
    a, mean, log_std = rng.normal(size=(3, 4))
    sigma = np.exp(log_std)
    by_hand = np.sum(-0.5 * ((a - mean) / sigma) ** 2 - log_std - 0.5 * math.log(2 * math.pi))
    np.testing.assert_allclose(policy.log_density(*map(jnp.array, (a, mean, log_std))), by_hand, rtol=1e-5)
    draws = jnp.array(mean + sigma * rng.normal(size=(200_000, 4)))
    estimate = -jax.vmap(policy.log_density, (0, None, None))(draws, jnp.array(mean), jnp.array(log_std))
    np.testing.assert_allclose(policy.entropy(jnp.array(log_std)), estimate.mean(), atol=0.02)
    np.testing.assert_allclose(policy.entropy(jnp.zeros(1)), 0.5 * math.log(2 * math.pi * math.e), rtol=1e-6)


# --------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("cuts", [(1000,), (1, 999), (300, 1, 699), (250, 250, 500)])
def test_running_moments_are_those_of_everything_seen(cuts):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(1000, 3)) * [1.0, 10.0, 0.01] + [0.0, 100.0, -5.0]).astype(np.float32)
    rows[:300] += [3.0, -20.0, 0.5]  # batches that differ
    moments = Moments.create(3)
    for part in np.split(rows, np.cumsum(cuts)[:-1]):
        moments = observe(moments, jnp.array(part))
    exact = rows.astype(np.float64)
    assert float(moments.count) == 1000
    np.testing.assert_allclose(moments.mean, exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.var, exact.var(0), rtol=1e-4)
    np.testing.assert_allclose(moments.std, exact.std(0), rtol=1e-4)


def test_moments_stay_sound_over_a_long_run():
    """float32 sums would stall; the combination does not."""
    rows = np.random.default_rng(0).normal(5.0, 2.0, (2048, 2)).astype(np.float32)

    def again(moments, _):
        return observe(moments, jnp.array(rows)), None

    moments = jax.lax.scan(again, Moments.create(2), None, length=5000)[0]
    assert float(moments.count) == 2048 * 5000
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.var, rows.var(0), rtol=1e-3)


def test_scaling_of_observations_and_rewards():
    moments = Moments(jnp.float32(9.0), jnp.array([1.0, 0.0]), jnp.array([4.0, 0.25]))
    np.testing.assert_allclose(scale_obs(moments, jnp.array([5.0, -1.0]), 10.0), [2.0, -2.0], rtol=1e-6)
    np.testing.assert_allclose(scale_obs(moments, jnp.array([1e9, -6.0]), 10.0), [10.0, -10.0])
    np.testing.assert_allclose(scale_obs(Moments.create(2), jnp.array([3.0, -4.0]), 10.0), [3.0, -4.0])
    returns = Moments(jnp.float32(9.0), jnp.float32(50.0), jnp.float32(16.0))
    np.testing.assert_allclose(scale_reward(returns, jnp.array([2.0, -80.0]), 10.0), [0.5, -10.0], rtol=1e-6)


def test_running_returns_begin_again_with_every_episode():
    reward, ended = jnp.array([1.0, 2.0, 4.0, 8.0]), jnp.array([False, True, False, False])
    np.testing.assert_allclose(running_returns(reward, ended, 0.5), [1.0, 2.5, 4.0, 10.0])
