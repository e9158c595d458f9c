"""SOM: its scores, velocities and regression by numbers; what it learns, and how it draws."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import som
from fewstep.algos.contract import ActionMode, use_key
from fewstep.errors import UsageError
from fewstep.flows import vp
from tests.algos.common import (
    SPEC,
    TARGET,
    apart,
    assert_close,
    assert_one_step,
    batch,
    bump,
    changed,
    meanflow_errors,
    program,
    same,
    tiny,
)
from tests.few import few

SLOPE = jnp.array([0.6, -0.2])
OBS = jnp.zeros((6, 3))


def linear(s, a):
    return a @ SLOPE


def flat(s, a):
    return 0.0 * a.sum()


def points(x, r, t):
    return som.Noised(*(jnp.asarray(each, jnp.float32) for each in (x, r, t)))


def at_times(*times):
    """Rows on both sides of the box, r in the middle of [0, t]."""
    t = np.array(times)
    return points(np.linspace([-1.4, 0.8], [1.7, -0.5], len(t)), 0.5 * t, t)


# -------------------------------------------------------------------------------------------- scores


def test_a_linear_critics_score_without_a_box_is_exact_whatever_is_drawn():
    """alpha slope / (std mu), with the spread of all values of the batch and not of a row."""
    at = at_times(0.001, 0.1, 0.3, 0.5, 0.7, 0.999)
    cfg = som.ScoreConfig(proposals="unbounded", candidates=4, inverse_temperature=3.0)
    score, _ = cfg.scores(linear, OBS, at, jax.random.key(0))
    mu = np.sqrt(np.asarray(vp.alpha_bar(at.t), np.float64))[:, None]
    z = np.asarray(jax.random.normal(jax.random.key(0), (6, 4, 2)), np.float64)
    proposals = (np.asarray(at.x)[:, None] + np.sqrt(1 - mu**2)[..., None] * z) / mu[..., None]
    std = (proposals @ np.asarray(SLOPE)).std()
    np.testing.assert_allclose(score, 3.0 * np.asarray(SLOPE) / std / mu, rtol=1e-3)


@pytest.mark.parametrize("t", [0.2, 0.5])
def test_a_quadratic_critics_score_without_a_box(t):
    """exp(-k |a - m|^2) is a Gaussian; noised it has the variance mu^2 / (2 k) + sigma^2."""
    at = at_times(*[t] * 6)
    cfg = som.ScoreConfig(proposals="unbounded", candidates=40_000)
    score, _ = cfg.scores(bump, OBS, at, jax.random.key(0))
    ab = float(vp.alpha_bar(jnp.float32(t)))
    z = jax.random.normal(jax.random.key(0), (6, 40_000, 2))
    values = -jnp.sum(((at.x[:, None] + np.sqrt(1 - ab) * z) / np.sqrt(ab) - TARGET) ** 2, axis=-1)
    k = 1.0 / float(values.std())
    exact = -(at.x - np.sqrt(ab) * TARGET) / (ab / (2 * k) + 1 - ab)
    np.testing.assert_allclose(score, exact, atol=0.05)


def test_the_score_is_the_gradient_of_logsumexp_through_the_proposals():
    """By finite differences in float64, the divisor held fixed."""
    at, cfg = at_times(0.1, 0.2, 0.3, 0.4, 0.6, 0.9), som.ScoreConfig(proposals="unbounded", candidates=5)
    score, ess = cfg.scores(bump, OBS, at, jax.random.key(0))
    z = np.asarray(jax.random.normal(jax.random.key(0), (6, 5, 2)), np.float64)
    mu = np.sqrt(np.exp(-(0.1 * np.asarray(at.t, np.float64) + 9.95 * np.asarray(at.t, np.float64) ** 2)))

    def values(x):
        a = (x[:, None] + np.sqrt(1 - mu**2)[:, None, None] * z) / mu[:, None, None]
        return -((a - np.asarray(TARGET)) ** 2).sum(-1)

    x = np.asarray(at.x, np.float64)
    std, h = values(x).std(), 1e-6
    lse = lambda x: np.log(np.exp(values(x) / std).sum(1))  # noqa: E731
    for axis in range(2):
        step = h * np.eye(2)[axis]
        np.testing.assert_allclose(
            score[:, axis], (lse(x + step) - lse(x - step)) / (2 * h), rtol=2e-3, atol=1e-4
        )
    w = np.exp(values(x) / std)
    np.testing.assert_allclose(ess, np.mean(w.sum(1) ** 2 / (w**2).sum(1)), rtol=1e-3)


def test_near_the_noise_the_box_pulls_to_its_middle_and_a_critic_anywhere_to_where_it_extrapolates():
    """At t = 0.999 proposals have a standard deviation of 150 boxes. The score of any target in the box is
    nearly -x there; without a box a critic that rises along a line pulls along this line from everywhere."""
    at = at_times(*[0.999] * 6)
    inside, _ = som.ScoreConfig().scores(linear, OBS, at, jax.random.key(0))
    np.testing.assert_allclose(inside, -at.x, atol=0.05)
    literal = som.ScoreConfig(proposals="unbounded")
    anywhere, _ = literal.scores(linear, OBS, at, jax.random.key(0))
    np.testing.assert_allclose(jax.vmap(som.unit)(anywhere), jnp.tile(som.unit(SLOPE), (6, 1)), rtol=1e-4)


@pytest.mark.parametrize(("proposals", "farthest"), [("box", 1.0), ("unbounded", 300.0)])
def test_where_the_critic_is_asked(proposals, farthest):
    asked = []

    def q(s, a):
        jax.debug.callback(lambda each: asked.append(np.abs(each).max()), a)
        return bump(s, a)

    cfg = som.ScoreConfig(proposals=proposals)
    jax.block_until_ready(cfg.scores(q, OBS, at_times(*[0.999] * 6), jax.random.key(0)))
    jax.effects_barrier()
    assert max(asked) <= 1.0 if proposals == "box" else max(asked) > farthest


def test_scores_depend_neither_on_the_unit_nor_on_the_zero_of_the_reward():
    at = at_times(0.1, 0.2, 0.3, 0.4, 0.6, 0.9)
    scores = som.ScoreConfig().scores
    first, _ = scores(bump, OBS, at, jax.random.key(0))
    second, _ = scores(lambda s, a: 7.0 * bump(s, a) - 50.0, OBS, at, jax.random.key(0))
    np.testing.assert_allclose(first, second, rtol=1e-2, atol=1e-3)


def test_a_flat_critic_has_the_score_of_the_box_and_without_a_box_none():
    at = at_times(0.1, 0.2, 0.3, 0.4, 0.6, 0.9)
    score, ess = som.ScoreConfig(candidates=5).scores(flat, OBS, at, jax.random.key(0))
    assert np.all(np.isfinite(score))
    assert float(ess) == pytest.approx(5)
    literal = som.ScoreConfig(proposals="unbounded")
    np.testing.assert_array_equal(literal.scores(flat, OBS, at, jax.random.key(0))[0], 0)


def test_unit_vectors():
    np.testing.assert_allclose(som.unit(jnp.array([3.0, -4.0])), [0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(som.unit(jnp.array([3e-30, -4e-30])), [0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(som.unit(jnp.array([3e30, -4e30])), [0.6, -0.8], rtol=1e-6)
    np.testing.assert_array_equal(som.unit(jnp.zeros(2)), 0)


@pytest.mark.parametrize("length", ["fixed", "own"])
def test_velocities_by_a_loop_over_rows(length):
    at = at_times(0.1, 0.2, 0.3, 0.4, 0.6, 0.9)
    cfg = som.ScoreConfig(length=length, size=1.5)
    found, _ = cfg.velocities(bump, OBS, at, jax.random.key(0))
    scores, _ = cfg.scores(bump, OBS, at, jax.random.key(0))
    for x, t, v, g in zip(
        *(np.asarray(each, np.float64) for each in (at.x, at.t, found, scores)), strict=True
    ):
        g = 1.5 * np.sqrt(2) * g / np.linalg.norm(g) if length == "fixed" else g
        np.testing.assert_allclose(v, -0.5 * (0.1 + 19.9 * t) * (x + g), rtol=1e-4, atol=1e-5)


def ends(cfg, sharpness):
    """Where Euler's method along the velocities ends, of a critic with a maximum at TARGET."""
    e = jax.random.normal(jax.random.key(1), (256, 2))
    q = lambda s, a: sharpness * bump(s, a)  # noqa: E731

    def step(x, i):
        at = som.Noised(x, *[jnp.full(256, 1 - (i + 0.5) / 200)] * 2)
        v, _ = cfg.velocities(q, jnp.zeros((256, 3)), at, jax.random.fold_in(jax.random.key(0), i))
        return x - v / 200, None

    return np.asarray(jax.jit(lambda x: jax.lax.scan(step, x, jnp.arange(200))[0])(e))


def test_a_score_of_its_own_length_ends_at_the_density_and_one_of_fixed_length_does_not():
    """exp(-k |a - m|^2) of k = alpha / std, std the spread of the values: about 0.25 of 1 / sqrt(2 k)."""
    own = ends(som.ScoreConfig(candidates=64, inverse_temperature=8.0), 1.0)
    np.testing.assert_allclose(own.mean(0), TARGET, atol=0.05)
    fixed = ends(som.ScoreConfig(candidates=64, inverse_temperature=8.0, length="fixed", size=1.2), 1.0)
    far = lambda a: float(np.mean(np.linalg.norm(a - np.asarray(TARGET), axis=1) > 0.6))  # noqa: E731
    assert far(own) < 0.02
    assert far(fixed) > 0.2


# ---------------------------------------------------------------------------------------- regression


def gaussian(x, r, t):
    """Average velocity of the flow towards N(TARGET, 0.3^2), and where r = t its velocity; by ``vp``."""
    mu = lambda t: jnp.sqrt(vp.alpha_bar(t))  # noqa: E731
    variance = lambda t: 0.09 * vp.alpha_bar(t) + 1.0 - vp.alpha_bar(t)  # noqa: E731
    earlier = mu(r) * TARGET + jnp.sqrt(variance(r) / variance(t)) * (x - mu(t) * TARGET)
    now = vp.velocity(t, x, -(x - mu(t) * TARGET) / variance(t))
    return jnp.where(r < t, (x - earlier) / jnp.where(r < t, t - r, 1.0), now), now


def inward(x, r, t):
    """The same of a score of length 3 towards 0: |x| - 3 shrinks by exp(-1/2 integral beta) on its way up."""
    grown = jnp.sqrt(vp.alpha_bar(t) / vp.alpha_bar(r))
    size = jnp.linalg.norm(x)
    earlier = x / size * (3.0 + (size - 3.0) / grown)
    now = vp.velocity(t, x, -3.0 * x / size)
    return jnp.where(r < t, (x - earlier) / jnp.where(r < t, t - r, 1.0), now), now


@pytest.mark.parametrize("flow", [gaussian, inward])
def test_the_exact_average_velocity_of_the_ode_has_no_loss(flow):
    """And its one-step map follows the ODE: along a straight path the same rows have a loss."""
    with jax.enable_x64(True):
        t = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
        x, r = np.linspace([-1.4, 0.8], [1.7, -0.5], 6), np.where(np.arange(6) < 2, t, 0.9 * t)
        at = som.Noised(*map(jnp.asarray, (x, r, t)))
        v = jax.vmap(lambda x, r, t: flow(x, r, t)[1])(at.x, at.r, at.t)
        exact = lambda s, x, r, t: flow(x, r, t)[0]  # noqa: E731
        loss, error = som.regression(exact, 2, OBS.astype(jnp.float64), at, v)
        assert float(error) < 1e-20
        assert float(loss) < 1e-17
        _, straight = som.regression(exact, 2, OBS.astype(jnp.float64), at, at.x - TARGET)
        assert float(straight) > 0.1


def test_rows_are_weighted_by_the_inverse_of_their_errors():
    """u = d and v = 0: errors of |d|^2 / 2, whose gradient d is divided by the error + 1e-3."""
    at, v = at_times(0.1, 0.2, 0.3, 0.4, 0.6, 0.9), jnp.zeros((6, 2))
    by = lambda d: som.regression(lambda s, x, r, t: d, 6, OBS, at, v)  # noqa: E731
    d = jnp.array([0.3, 0.4])
    np.testing.assert_allclose(by(d), [0.125 / 0.126, 0.125], rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda d: by(d)[0])(d), d / 0.126, rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_loss_by_a_loop_over_rows(share):
    """One improvement, recomputed from the same keys; du/dt by a finite difference."""
    _, cfg, state = tiny("som", **{"actor.equal_share": share})
    data, actor = batch(6), jax.jit(lambda *row: state.actor.params(*row))
    after, metrics = jax.jit(lambda st: som.improve(cfg, st, bump, data.obs, data.action))(state)
    at = som.Noised.of(use_key(state, som.Use.NOISE), data.action, int(share * 6))
    velocities = jax.jit(partial(cfg.score.velocities, bump))
    v, ess = velocities(data.obs, at, use_key(state, som.Use.CANDIDATES))
    errors = []
    for s, x, v_, r, t in zip(data.obs, at.x, v, at.r, at.t, strict=True):
        h = 3e-3
        ahead, behind = (actor(s, x + y * v_, r, t + y) for y in (h, -h))
        target = v_ - (t - r) * (ahead - behind) / (2 * h)
        errors.append(float(jnp.mean((actor(s, x, r, t) - target) ** 2)))
    errors = np.array(errors)
    np.testing.assert_allclose(metrics["actor/velocity_error"], errors.mean(), rtol=5e-3)
    np.testing.assert_allclose(metrics["actor/loss"], np.mean(errors / (errors + 1e-3)), rtol=5e-3)
    np.testing.assert_allclose(metrics["snis/ess"], ess, rtol=1e-4)
    assert not same(after.actor.params, state.actor.params)


def test_actions_are_noised_to_times_of_the_schedule():
    at = som.Noised.of(jax.random.key(0), jnp.tile(TARGET, (20_000, 1)), 5000)
    np.testing.assert_array_equal(at.r[:5000], at.t[:5000])
    assert np.all(at.r[5000:] < at.t[5000:])
    assert 1e-3 <= float(at.t.min()) < 2e-3
    assert 0.998 < float(at.t.max()) <= 0.999
    np.testing.assert_allclose(at.t.mean(), 0.5, atol=0.01)
    np.testing.assert_allclose((at.r / at.t)[5000:].mean(), 0.5, atol=0.01)
    ab = vp.alpha_bar(at.t)[:, None]
    noise = (at.x - jnp.sqrt(ab) * TARGET) / jnp.sqrt(1 - ab)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(noise.std(0), 1, atol=0.03)


@pytest.mark.slow
def test_it_learns_the_flow_of_its_own_scores():
    """With a bump of a critic, actions end around its maximum."""
    settings = {"actor.hidden": (64, 64), "actor.learning_rate": 1e-3, "score.candidates": 16}
    _, cfg, state = tiny("som", **settings, **{"score.inverse_temperature": 4.0})
    obs = jnp.zeros((64, 3))

    def one(state, key):
        action = jax.random.uniform(key, (64, 2), minval=-1, maxval=1)
        state, _ = som.improve(cfg, state, bump, obs, action)
        return replace(state, updates=state.updates + 1), None

    state, _ = jax.jit(lambda st: jax.lax.scan(one, st, jax.random.split(jax.random.key(1), 1500)))(state)
    e = jax.random.normal(jax.random.key(2), (500, 2))
    drawn = jax.vmap(lambda e: som.draw(state.actor.params, OBS[0], e))(e)
    np.testing.assert_allclose(drawn.mean(0), TARGET, atol=0.2)
    assert np.all(drawn.std(0) < 0.4)


# ---------------------------------------------------------------------------------- draws and updates


def test_a_draw_is_one_evaluation_cut_to_the_box():
    algorithm, cfg, state = tiny("som")
    policy, s = algorithm.policy(state), batch(1).obs[0]
    zero, one = jnp.float32(0), jnp.float32(1)
    for e in (jnp.array([0.2, -0.4]), jnp.array([5.0, -5.0])):
        expected = np.clip(e - policy.actor(s, e, zero, one), -1, 1)
        np.testing.assert_allclose(algorithm.draw(cfg, policy, s, e), expected, rtol=1e-5, atol=1e-6)
    assert algorithm.noise(cfg, policy) == (2,)
    assert algorithm.native(cfg) == ActionMode(candidates=10)


def test_an_update_is_a_critic_step_on_a_draw_and_an_improvement_by_the_new_critics():
    algorithm, cfg, state = tiny("som")
    data = batch()
    after, metrics = jax.jit(lambda st: algorithm.update(cfg, st, data))(state)
    noise = jax.random.normal(use_key(state, som.Use.NEXT_ACTION), data.action.shape)
    nxt = jax.vmap(lambda s, e: som.draw(state.actor.params, s, e))(data.next_obs, noise)
    fitted, _ = jax.jit(lambda st: st.critics.fit(cfg.critic, cfg.discount, st.updates, data, nxt))(state)
    assert_close(after.critics, fitted, rtol=1e-4, atol=1e-6)
    improve = jax.jit(lambda st: som.improve(cfg, st, st.critics.q(cfg.critic), data.obs, data.action))
    _, expected = improve(replace(state, critics=fitted))
    np.testing.assert_allclose(metrics["actor/loss"], expected["actor/loss"], rtol=1e-3)
    assert same(algorithm.policy(after).critics.nets, after.critics.target)


def test_a_delayed_policy_stands_still_between_its_updates():
    algorithm, cfg, state = tiny("som", **{"actor.delay": 2})
    step = jax.jit(lambda st: algorithm.update(cfg, st, batch()))
    first, _ = step(state)
    second, _ = step(first)
    assert not same(first.actor, state.actor)
    assert same(second.actor, first.actor)
    assert not same(second.critics, first.critics)


def test_an_improvement_is_one_step_to_constant_velocities_and_targets_by_constant_weights():
    """Neither what a row's weight is the inverse of nor the network's own derivative is differentiated."""
    _, cfg, state = tiny("som", **{"actor.equal_share": 0.5})
    state, data = apart(state), batch(6)
    after, metrics = jax.jit(lambda st: som.improve(cfg, st, bump, data.obs, data.action))(state)
    at = jax.jit(som.Noised.of, static_argnums=2)(use_key(state, som.Use.NOISE), data.action, 3)
    velocities = jax.jit(partial(cfg.score.velocities, bump))
    v, _ = velocities(data.obs, at, use_key(state, som.Use.CANDIDATES))
    errors = meanflow_errors(state.actor.params, data.obs, at.x, at.r, at.t, v)
    found = np.asarray(jax.jit(errors)(state.actor.params))
    weight = 1 / (found + 1e-3)
    np.testing.assert_allclose(metrics["actor/loss"], np.mean(found * weight), rtol=1e-3)
    loss = lambda actor: jnp.mean(weight * errors(actor))  # noqa: E731
    assert_one_step(cfg.actor, state.actor, after.actor, loss)


def test_an_odd_number_of_time_features_is_refused():
    with pytest.raises(UsageError, match="time_features must be even"):
        som.ActorConfig(time_features=7)


@few(
    ("base", "setting"),
    [
        ({}, {"actor.activation": "relu"}),
        ({}, {"actor.time_features": 6}),
        ({}, {"actor.time_embed": 6}),
        ({}, {"actor.equal_share": 0.5}),
        ({}, {"actor.batch_size": 8}),
        ({}, {"actor.delay": 3}),
        ({}, {"score.candidates": 7}),
        ({}, {"score.proposals": "unbounded"}),
        ({}, {"score.inverse_temperature": 3.0}),
        ({}, {"score.length": "fixed"}),
        ({"score.length": "fixed"}, {"score.size": 3.0}),
    ],
)
def test_every_option_changes_the_update(base, setting):
    algorithm, cfg, state = tiny("som", **base)
    other = changed(cfg, setting)
    start = algorithm.init(other, SPEC, jax.random.key(0))
    assert program(algorithm.update, cfg, state, batch()) != program(algorithm.update, other, start, batch())
