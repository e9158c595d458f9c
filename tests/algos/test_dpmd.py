"""DPMD: its weights by numbers, the literal form's fault, running statistics, what it denoises."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import dpmd
from fewstep.algos.contract import use_key
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.diffusion_policy import Noised
from tests.algos.common import apart, assert_critics_learn, batch, bump, lower_value, noisy_best, same, tiny

VALUES = jnp.array([100.0, 110.0, 130.0])
M, STD = jnp.float32(110.0), jnp.float32(10.0)


def test_weights_are_exponentials_of_the_clipped_advantage():
    weights = dpmd.RegressionConfig().weights(VALUES, M, STD, jnp.float32(2.0))
    np.testing.assert_allclose(weights, np.exp(np.array([-1.0, 0.0, 2.0]) / 2), rtol=1e-6)
    far = dpmd.RegressionConfig().weights(jnp.array([1e4, -1e4]), M, STD, jnp.float32(0.5))
    np.testing.assert_allclose(far, np.exp([6.0, -6.0]), rtol=1e-5)


def test_weights_do_not_depend_on_the_unit_of_the_reward():
    cfg, alpha = dpmd.RegressionConfig(), jnp.float32(1.0)
    np.testing.assert_allclose(
        cfg.weights(VALUES, M, STD, alpha), cfg.weights(7 * VALUES, 7 * M, 7 * STD, alpha), rtol=1e-5
    )


def test_the_literal_form_weighs_all_actions_of_good_states_alike():
    """Q - m / std = 89, 99 and 119 here, all clipped to 3."""
    weights = dpmd.RegressionConfig(advantage="literal").weights(VALUES, M, STD, jnp.float32(1.0))
    np.testing.assert_allclose(weights, np.exp(3.0), rtol=1e-6)


def test_a_step_of_mirror_descent_on_a_gaussian():
    """Own actions from N(0, 1) with Q = b a: exp(Q / alpha) moves the mean to b / alpha, the spread stays."""
    a = jax.random.normal(jax.random.key(0), (400_000,))
    cfg = dpmd.RegressionConfig(clip=1e9)
    weight = cfg.weights(0.6 * a, jnp.float32(0.0), jnp.float32(1.0), jnp.float32(2.0))
    mean = (weight * a).sum() / weight.sum()
    assert float(mean) == pytest.approx(0.3, abs=0.01)
    assert float((weight * (a - mean) ** 2).sum() / weight.sum()) == pytest.approx(1.0, abs=0.02)


def test_running_statistics_are_plain_averages_first_and_exponential_later():
    _, cfg, state = tiny("dpmd", **{"regression.rate": 0.25})
    rows = [(batch(8, seed).obs, batch(8, seed).action) for seed in range(6)]
    follow = jax.jit(lambda st, values: dpmd.followed(cfg, st, values))
    values = [jax.vmap(state.critics.q(cfg.critic))(*row) for row in rows]
    means = [float(v.mean()) for v in values]
    for n, each in enumerate(values[:4]):
        state = follow(replace(state, updates=jnp.int32(n)), each)
    assert float(state.q_mean) == pytest.approx(np.mean(means[:4]), rel=1e-4)
    assert float(state.q_std) == pytest.approx(np.mean([float(v.std()) for v in values[:4]]), rel=1e-4)
    before = float(state.q_mean)
    state = follow(replace(state, updates=jnp.int32(4)), values[4])
    assert float(state.q_mean) == pytest.approx(0.75 * before + 0.25 * means[4], rel=1e-4)


def test_the_loss_denoises_the_given_actions_by_their_weights():
    _, cfg, state = tiny("dpmd")
    state = replace(state, q_mean=jnp.float32(-0.5), q_std=jnp.float32(0.3))
    data, actor = batch(6), state.actor.params
    improve = jax.jit(lambda st: dpmd.improve(cfg, st, bump, data.obs, data.action))
    after, metrics = improve(state)
    values = np.array([bump(None, a) for a in data.action])
    weight = np.exp(np.clip((values + 0.5) / 0.3, -3, 3) / float(state.temperature.alpha))
    at = Noised.of(cfg.actor, use_key(state, dpmd.Use.NOISE), data.action)
    loss, error = dp.regression(actor, data.obs, at, at.e, jnp.asarray(weight))
    np.testing.assert_allclose(metrics["actor/loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["actor/noise_error"], error, rtol=1e-4)
    np.testing.assert_allclose(metrics["actor/weight_mean"], weight.mean(), rtol=1e-4)
    assert not same(after.actor.params, actor)


def test_an_update_denoises_the_successors_action_that_its_critics_saw():
    """The trained policy's best by the trained critics, weighted by the critics that were fitted to it."""
    algorithm, cfg, state = tiny("dpmd")
    state, data = apart(state), batch()
    nxt = noisy_best(cfg, state, data.next_obs, use_key(state, dpmd.Use.NEXT_ACTION))
    after, metrics = jax.jit(partial(algorithm.update, cfg))(state, data)
    assert_critics_learn(algorithm, cfg, state, data, nxt, metrics)
    values = lower_value(after.critics.online.params, data.next_obs, nxt)
    np.testing.assert_allclose([after.q_mean, after.q_std], [values.mean(), values.std()], rtol=1e-4)
    scaled = (values - values.mean()) / values.std()
    weight = np.exp(np.clip(scaled, -3, 3) / float(after.temperature.alpha))
    at = jax.jit(Noised.of, static_argnums=0)(cfg.actor, use_key(state, dpmd.Use.NOISE), nxt)
    guess = jax.jit(jax.vmap(state.actor.params))(data.next_obs, at.x, at.t)
    loss = np.mean(weight * np.mean((guess - at.e) ** 2, axis=1))
    np.testing.assert_allclose(metrics["actor/loss"], loss, rtol=1e-4)
