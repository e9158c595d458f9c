"""FPMD: its weights, regressions and samplers by numbers; what it learns, and from whose actions."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import fpmd
from fewstep.algos.contract import ActionMode, use_key
from fewstep.errors import UsageError
from tests.algos.common import (
    SPEC,
    TARGET,
    apart,
    assert_close,
    assert_critics_learn,
    assert_one_step,
    batch,
    bump,
    changed,
    lower_value,
    meanflow_errors,
    noisy_best,
    program,
    same,
    tiny,
)
from tests.equations.linear_gaussian import LinearGaussian
from tests.few import few

MEANFLOW = {"actor.flow": "meanflow", "actor.steps": 1}
FLOWS = pytest.mark.parametrize("settings", [{}, MEANFLOW], ids=["rectified", "meanflow"])
VALUES = jnp.array([100.0, 110.0, 130.0])
STD = jnp.float32(10.0)


def flat(s, a):
    return 0.0 * a.sum()


def worth(actions):
    """``bump`` of many."""
    return -((np.asarray(actions) - np.asarray(TARGET)) ** 2).sum(-1)


# ------------------------------------------------------------------------------------------- weights


def test_weights_are_exponentials_with_a_mean_of_one():
    expected = np.exp(np.array([-3.0, -2.0, 0.0]) / 3)
    weights = fpmd.RegressionConfig().of(VALUES, STD)
    np.testing.assert_allclose(weights, 3 * expected / expected.sum(), rtol=1e-6)
    literal = fpmd.RegressionConfig(weights="literal").of(VALUES, STD)
    np.testing.assert_allclose(literal, np.exp(np.array([10.0, 11.0, 13.0]) / 3), rtol=1e-5)
    np.testing.assert_allclose(weights / literal, weights[0] / literal[0], rtol=1e-5)


def test_weights_depend_neither_on_the_unit_nor_on_the_zero_of_the_reward():
    of = fpmd.RegressionConfig().of
    np.testing.assert_allclose(of(VALUES, STD), of(7 * VALUES - 500, 7 * STD), rtol=1e-5)


def test_weights_between_all_alike_and_the_best_alone():
    np.testing.assert_allclose(fpmd.RegressionConfig(temperature=1e6).of(VALUES, STD), 1, rtol=1e-5)
    np.testing.assert_allclose(fpmd.RegressionConfig(temperature=0.01).of(VALUES, STD), [0, 0, 3], atol=1e-6)


def test_weights_are_finite_where_the_literal_ones_are_not():
    """Values of 1000 spreads; values without any spread."""
    high = 1000 * STD + VALUES
    assert np.isinf(fpmd.RegressionConfig(weights="literal").of(high, STD)).all()
    np.testing.assert_allclose(fpmd.RegressionConfig().of(high, STD).sum(), 3, rtol=1e-6)
    np.testing.assert_array_equal(fpmd.RegressionConfig().of(jnp.full(4, 2.0), jnp.float32(0.0)), np.ones(4))
    np.testing.assert_array_equal(fpmd.RegressionConfig().of(VALUES, jnp.float32(0.0)), [0, 0, 3])


@FLOWS
def test_a_flat_critic_makes_it_behaviour_cloning(settings):
    _, cfg, state = tiny("fpmd", **settings)
    data = batch(6)
    _, metrics = jax.jit(lambda st: fpmd.improve(cfg, st, flat, data.obs, data.action))(state)
    assert metrics["actor/weight_std"] == 0
    np.testing.assert_allclose(metrics["actor/loss"], metrics["actor/velocity_error"], rtol=1e-6)


def test_adams_first_step_is_the_same_by_literal_weights():
    """A factor that all weights have in common cancels; over many batches it does not, as it changes."""
    _, cfg, state = tiny("fpmd", **{"actor.eps": 1e-20})
    literal = changed(cfg, {"regression.weights": "literal"})
    data = batch(6)
    high = lambda s, a: 20.0 + bump(s, a)  # noqa: E731
    step = jax.jit(lambda c, st: fpmd.improve(c, st, high, data.obs, data.action), static_argnums=0)
    after = [step(c, state) for c in (cfg, literal)]
    assert after[1][1]["actor/loss"] > 100 * after[0][1]["actor/loss"]
    assert_close(after[0][0].actor.params, after[1][0].actor.params, rtol=1e-4, atol=1e-6)


def test_the_running_spread_is_a_plain_average_first_and_exponential_later():
    _, cfg, state = tiny("fpmd", **{"regression.rate": 0.25})
    rows = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    for n, values in enumerate(rows[:4]):
        state = fpmd.followed(cfg, replace(state, updates=jnp.int32(n)), values)
    spreads = rows.std(axis=1)
    assert float(state.q_std) == pytest.approx(spreads[:4].mean(), rel=1e-4)
    after = fpmd.followed(cfg, replace(state, updates=jnp.int32(4)), rows[4])
    assert float(after.q_std) == pytest.approx(0.75 * spreads[:4].mean() + 0.25 * spreads[4], rel=1e-4)


# --------------------------------------------------------------------------------------- regressions


@pytest.mark.parametrize("slope", [0.0, 0.6])
def test_the_regressions_minimiser_on_a_gaussian(slope):
    """Actions of N(m, s^2) with Q = b a: the flow towards N(m + s^2 b / (lambda std), s^2).

    Its velocity is linear in x: least squares over the rows of a narrow band of times has to find it.
    """
    m, s = 0.4, 0.5
    actions = m + s * jax.random.normal(jax.random.key(0), (1_000_000, 1))
    at = fpmd.Noised.of(jax.random.key(1), actions, actions.shape[0])
    weight = fpmd.RegressionConfig(temperature=1.5).of(slope * actions[:, 0], jnp.float32(0.2))
    exact = LinearGaussian(jnp.array([m + s**2 * slope / (1.5 * 0.2)]), s)
    np.testing.assert_array_equal(at.r, at.t)
    for t in (0.2, 0.5, 0.9):
        near = np.abs(np.asarray(at.t) - t) < 0.015
        x, v, w = (np.asarray(y, np.float64)[near] for y in (at.x[:, 0], at.v[:, 0], weight))
        line = np.polyfit(x, v, 1, w=np.sqrt(w))
        expected = [float(exact.velocity(jnp.array([y]), t)[0]) for y in (0.0, 1.0)]
        np.testing.assert_allclose([line[1], line.sum()], expected, atol=0.04)


def rows(v, r, t, x=None):
    v = jnp.asarray(v, jnp.float32)
    x = jax.random.normal(jax.random.key(5), v.shape) if x is None else x
    return fpmd.Noised(x, v, *(jnp.asarray(y, jnp.float32) for y in (r, t)))


@pytest.mark.parametrize("equal", [0, 2, 4])
def test_a_constant_field_is_its_own_average_at_all_times(equal):
    """u = v and no loss for all (r, t); what is off by d has the loss |d|^2 / 2 in two dimensions."""
    r, t = [0.3, 0.9, 0.0, 0.2], [0.3, 0.9, 1.0, 0.7]
    at, obs, weight = rows(jnp.tile(TARGET, (4, 1)), r, t), jnp.zeros((4, 3)), jnp.array([1.0, 2.0, 3.0, 4.0])
    loss, error = fpmd.regression(lambda s, x, r, t: TARGET, equal, obs, at, weight)
    assert loss == error == 0
    off = fpmd.regression(lambda s, x, r, t: TARGET + jnp.array([0.3, 0.4]), equal, obs, at, weight)
    np.testing.assert_allclose(off, [2.5 * 0.125, 0.125], rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_loss_by_a_loop_over_rows(share):
    """One improvement of a MeanFlow, recomputed from the same keys; du/dt by a finite difference."""
    _, cfg, state = tiny("fpmd", **MEANFLOW, **{"actor.equal_share": share})
    state = replace(state, q_std=jnp.float32(0.3))
    data, actor = batch(6), state.actor.params
    after, metrics = jax.jit(lambda st: fpmd.improve(cfg, st, bump, data.obs, data.action))(state)
    at = fpmd.Noised.of(use_key(state, fpmd.Use.NOISE), data.action, int(share * 6))
    values = worth(data.action)
    weight = np.exp(values / 0.9) / np.exp(values / 0.9).mean()
    errors = []
    for s, x, v, r, t in zip(data.obs, at.x, at.v, at.r, at.t, strict=True):
        h = 1e-2
        ahead, behind = (actor(s, x + y * v, r, t + y) for y in (h, -h))
        target = v - (t - r) * (ahead - behind) / (2 * h)
        errors.append(float(jnp.mean((actor(s, x, r, t) - target) ** 2)))
    np.testing.assert_allclose(metrics["actor/loss"], np.mean(weight * errors), rtol=2e-3)
    np.testing.assert_allclose(metrics["actor/velocity_error"], np.mean(errors), rtol=2e-3)
    np.testing.assert_allclose(metrics["actor/weight_std"], weight.std(), rtol=1e-4)
    assert int((at.r == at.t).sum()) == int(share * 6)
    assert not same(after.actor.params, actor)
    kept = jax.tree.map(lambda a, b: 0.995 * a + 0.005 * b, state.target_actor, after.actor.params)
    assert_close(after.target_actor, kept)


def test_a_rectified_flow_learns_velocities_alone():
    """By a loop; ``actor.equal_share`` is none of its business."""
    _, cfg, state = tiny("fpmd", **{"actor.equal_share": 0.0})
    data, actor = batch(6), state.actor.params
    _, metrics = jax.jit(lambda st: fpmd.improve(cfg, st, flat, data.obs, data.action))(state)
    at = fpmd.Noised.of(use_key(state, fpmd.Use.NOISE), data.action, 6)
    errors = [
        jnp.mean((actor(s, x, t, t) - v) ** 2) for s, x, v, t in zip(data.obs, at.x, at.v, at.t, strict=True)
    ]
    np.testing.assert_allclose(metrics["actor/loss"], np.mean(errors), rtol=1e-4)


def test_paths_begin_at_the_action_and_end_at_the_noise():
    actions = jnp.tile(TARGET, (5000, 1))
    at = fpmd.Noised.of(jax.random.key(0), actions, 0)
    np.testing.assert_allclose(at.x - at.t[:, None] * at.v, actions, atol=1e-6)
    np.testing.assert_allclose((at.v + actions).std(0), 1, atol=0.03)
    assert np.all(at.r < at.t)


# ------------------------------------------------------------------------------------------- samplers


def test_a_rectified_draw_is_eulers_method_from_the_scaled_noise():
    _, cfg, state = tiny("fpmd", **{"actor.start": 0.5, "actor.steps": 4})
    s, actor = batch(1).obs[0], state.actor.params
    x = 0.5 * jnp.array([0.7, -0.4])
    found = cfg.actor.draw(actor, s, jnp.array([0.7, -0.4]))
    for t in (1.0, 0.75, 0.5, 0.25):
        x = x - 0.25 * actor(s, x, jnp.float32(t), jnp.float32(t))
    np.testing.assert_allclose(found, np.clip(x, -1, 1), rtol=1e-5)


def test_a_meanflow_draw_is_one_evaluation_and_mode_starts_from_zero():
    algorithm, cfg, state = tiny("fpmd", **MEANFLOW, **{"actor.start": 0.5})
    s, actor = batch(1).obs[0], state.target_actor
    e, (zero, one) = jnp.array([0.7, -0.4]), jnp.array([0.0, 1.0])
    expected = jnp.clip(0.5 * e - actor(s, 0.5 * e, zero, one), -1, 1)
    np.testing.assert_allclose(cfg.actor.draw(actor, s, e), expected, rtol=1e-5)
    mode = algorithm.act(
        cfg, algorithm.policy(state), s[None], jax.random.key(0), ActionMode(noise_free=True)
    )
    np.testing.assert_allclose(mode[0], jnp.clip(-actor(s, 0 * e, zero, one), -1, 1), rtol=1e-5, atol=1e-6)


@FLOWS
def test_actions_are_in_the_box_and_differ_by_noise(settings):
    algorithm, cfg, state = tiny("fpmd", **settings, **{"actor.candidates": 50})
    assert algorithm.noise(cfg, algorithm.policy(state)) == (2,)
    drawn = cfg.actor.drawn(state.actor.params, batch(4).obs, jax.random.key(0))
    assert drawn.shape == (4, 50, 2)
    assert np.all(np.abs(drawn) <= 1)
    assert np.all(drawn.std(axis=1) > 0)
    assert algorithm.native(cfg) == algorithm.behaviour(cfg) == ActionMode(candidates=50)


def test_an_odd_number_of_time_features_is_refused():
    with pytest.raises(UsageError, match="time_features must be even"):
        fpmd.ActorConfig(time_features=7)


# ---------------------------------------------------------------------------------- whose actions


@pytest.mark.parametrize("where", ["chosen", "candidates"])
def test_the_noise_of_the_target_is_added_after_the_choice_or_before(where):
    """By a loop. Before, it is chosen for its value as the draws are: Q of what comes out is higher."""
    _, cfg, state = tiny("fpmd", **{"actor.candidates": 20, "actor.target_noise": where})
    obs, key, std = batch(64).obs, jax.random.key(3), 0.1 * float(state.temperature.alpha)
    successor = jax.jit(lambda c: fpmd.successor(c, state, bump, obs, key), static_argnums=0)
    found = np.asarray(successor(cfg))
    k_draw, k_noise = jax.random.split(key)
    drawn = np.asarray(cfg.actor.drawn(state.actor.params, obs, k_draw))
    noise = np.asarray(jax.random.normal(k_noise, found.shape if where == "chosen" else drawn.shape))
    for row in range(64):
        if where == "chosen":
            expected = drawn[row, worth(drawn[row]).argmax()] + std * noise[row]
        else:
            noisy = np.clip(drawn[row] + std * noise[row], -1, 1)
            expected = noisy[worth(noisy).argmax()]
        np.testing.assert_allclose(found[row], np.clip(expected, -1, 1), rtol=1e-5, atol=1e-6)
    after = successor(changed(cfg, {"actor.target_noise": "chosen"}))
    higher = worth(found).mean() - worth(after).mean()
    assert higher > 0.1 if where == "candidates" else higher == 0


def test_an_update_learns_the_successors_action_that_its_critics_saw():
    """The trained policy's best by the trained critics, weighted by the critics that were fitted to it."""
    algorithm, cfg, state = tiny("fpmd")
    state, data = apart(state), batch()
    nxt = noisy_best(cfg, state, data.next_obs, use_key(state, fpmd.Use.NEXT_ACTION))
    after, metrics = jax.jit(partial(algorithm.update, cfg))(state, data)
    assert_critics_learn(algorithm, cfg, state, data, nxt, metrics)
    values = lower_value(after.critics.online.params, data.next_obs, nxt)
    np.testing.assert_allclose(after.q_std, values.std(), rtol=1e-4)
    weight = np.exp(values / (3 * values.std()))
    at = fpmd.Noised.of(use_key(state, fpmd.Use.NOISE), jnp.asarray(nxt), 16)
    errors = meanflow_errors(state.actor.params, data.next_obs, at.x, at.r, at.t, at.v)
    loss = np.mean(weight / weight.mean() * jax.jit(errors)(state.actor.params))
    np.testing.assert_allclose(metrics["actor/loss"], loss, rtol=1e-4)


def test_the_average_policy_acts_and_the_trained_critics_judge():
    algorithm, cfg, state = tiny("fpmd", **{"actor.delay": 1})
    after, _ = jax.jit(lambda st: algorithm.update(cfg, st, batch()))(state)
    policy = algorithm.policy(after)
    assert same(policy.actor, after.target_actor)
    assert not same(policy.actor, after.actor.params)
    assert same(policy.critics.nets, after.critics.online.params)


def test_a_delayed_policy_stands_still_between_its_updates():
    algorithm, cfg, state = tiny("fpmd", **{"actor.delay": 2})
    step = jax.jit(lambda st: algorithm.update(cfg, st, batch()))
    first, _ = step(state)
    second, _ = step(first)
    third, _ = step(second)
    assert not same(first.actor, state.actor)
    assert same(second.actor, first.actor)
    assert not same(third.actor, second.actor)
    assert not same(second.critics, first.critics)


@FLOWS
def test_an_improvement_is_one_step_to_constant_targets_by_constant_weights(settings):
    """Neither the network's own derivative, which is in the target, nor the weights are differentiated."""
    _, cfg, state = tiny("fpmd", **settings)
    state, data = replace(apart(state), q_std=jnp.float32(0.3)), batch(6)
    after, metrics = jax.jit(lambda st: fpmd.improve(cfg, st, bump, data.obs, data.action))(state)
    equal = 3 if settings else 6
    at = jax.jit(fpmd.Noised.of, static_argnums=2)(use_key(state, fpmd.Use.NOISE), data.action, equal)
    weight = np.exp(worth(data.action) / 0.9)
    errors = meanflow_errors(state.actor.params, data.obs, at.x, at.r, at.t, at.v)
    loss = lambda actor: jnp.mean(weight / weight.mean() * errors(actor))  # noqa: E731
    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(state.actor.params), rtol=1e-4)
    assert_one_step(cfg.actor, state.actor, after.actor, loss)


@few(
    ("base", "setting"),
    [
        ({}, {"actor.flow": "meanflow"}),
        ({}, {"actor.activation": "relu"}),
        ({}, {"actor.time_features": 6}),
        ({}, {"actor.time_embed": 6}),
        ({}, {"actor.steps": 4}),
        ({}, {"actor.start": 0.5}),
        ({}, {"actor.batch_size": 8}),
        ({}, {"actor.delay": 3}),
        ({}, {"actor.tau": 0.5}),
        ({}, {"actor.candidates": 5}),
        ({}, {"actor.target_noise": "candidates"}),
        ({}, {"regression.weights": "literal"}),
        ({}, {"regression.temperature": 1.0}),
        ({}, {"regression.rate": 0.5}),
        ({}, {"temperature.noise": 0.3}),
        ({}, {"temperature.delay": 3}),
        (MEANFLOW, {"actor.steps": 2}),
        (MEANFLOW, {"actor.equal_share": 0.0}),
        (MEANFLOW, {"actor.equal_share": 1.0}),
    ],
)
def test_every_option_changes_the_update(base, setting):
    algorithm, cfg, state = tiny("fpmd", **base)
    other = changed(cfg, setting)
    start = algorithm.init(other, SPEC, jax.random.key(0))
    assert program(algorithm.update, cfg, state, batch()) != program(algorithm.update, other, start, batch())
