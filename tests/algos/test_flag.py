"""FLAG: its densities, weights, targets and guides by numbers; what it learns, and how it draws."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from fewstep.algos import flag
from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.shared.guidance import Guidance, GuidanceConfig, Guides
from fewstep.errors import UsageError
from tests.algos.common import (
    SPEC,
    TARGET,
    apart,
    assert_close,
    assert_one_step,
    batch,
    bump,
    changed,
    program,
    same,
    tiny,
)
from tests.faults.test_resume_everything import check_resume, go, trainer
from tests.few import few


def linear(s, x, t):
    """dx/dt = diag(k) x, so that N(0, 1) at time 1 is N(0, e^(-2 k)) at time 0."""
    return jnp.array([0.8, -0.5]) * x


def rotating(s, x, t):
    """A velocity with a divergence of 0.3 that single probes do not see, and curved in x."""
    return jnp.array([[0.3, 0.9], [-0.4, 0.0]]) @ x + 0.2 * jnp.sin(x[::-1])


def probes_of(cfg, key, sets=()):
    return cfg.improvement.probes(key, sets, 2)


# ------------------------------------------------------------------------------------------ densities


@pytest.mark.parametrize("divergence", ["hutchinson", "exact"])
def test_the_density_of_a_linear_flow_and_the_squashing(divergence):
    """The divergence of a diagonal field is exact by any random signs, so one probe is enough."""
    _, cfg, _ = tiny("flag", **{"actor.steps": 64, "improvement.divergence": divergence})
    u = jnp.array([0.7, -0.4])
    found = flag.log_density(cfg, partial(linear, None), u, probes_of(cfg, jax.random.key(0)))
    expected = norm.logpdf(u, 0, np.exp([-0.8, 0.5])).sum() - np.log(1 - np.tanh(u) ** 2).sum()
    np.testing.assert_allclose(found.mean(), expected, rtol=1e-4)


def test_the_density_of_actions_integrates_to_one():
    _, cfg, _ = tiny("flag", **{"actor.steps": 32, "improvement.divergence": "exact"})
    a = (np.arange(120) + 0.5) / 60 - 1
    u = np.arctanh(np.stack(np.meshgrid(a, a), -1).reshape(-1, 2)).astype(np.float32)
    probes = probes_of(cfg, jax.random.key(0))
    log_p = jax.jit(jax.vmap(lambda u: flag.log_density(cfg, partial(rotating, None), u, probes).mean()))(u)
    assert float(jnp.exp(log_p).sum() / 60**2) == pytest.approx(1.0, abs=0.01)


def test_the_exact_divergence_is_the_mean_of_many_probes():
    _, cfg, _ = tiny("flag", **{"actor.steps": 4})
    exact = changed(cfg, {"improvement.divergence": "exact"})
    u, v = jnp.array([0.3, -0.8]), partial(rotating, None)
    many = probes_of(cfg, jax.random.key(0), (4000,)).reshape(-1, 2)
    each = flag.log_density(cfg, v, u, many)
    assert float(each.std()) > 0.1
    expected = flag.log_density(exact, v, u, probes_of(exact, jax.random.key(0))).mean()
    np.testing.assert_allclose(each.mean(), expected, atol=0.02)


def test_the_same_probe_at_the_sample_and_at_mu_has_less_variance_than_one_for_each():
    """What is left is the change of the divergence over a move of 0.1."""
    _, cfg, _ = tiny("flag", **{"actor.steps": 4})
    v, mu, u = partial(rotating, None), jnp.array([0.3, -0.8]), jnp.array([0.4, -0.8])
    first, second = (probes_of(cfg, jax.random.key(i), (2000,)).reshape(-1, 2) for i in (0, 1))
    there, here, other = (flag.log_density(cfg, v, x, e) for x, e in ((u, first), (mu, first), (mu, second)))
    assert float((there - here).var()) < 0.01 * float((there - other).var())
    np.testing.assert_allclose((there - here).mean(), (there - other).mean(), atol=0.02)


# -------------------------------------------------------------------------------------------- E-step


def test_weights_by_a_loop():
    cfg = flag.ImprovementConfig(eta=0.7)
    w = cfg.weights(jnp.float32(0.5), jnp.array([0.4, -1.0]), jnp.array([0.3, 0.1]))
    logits = np.array([0.7 * (0.4 / 0.5 - 0.3), 0.7 * (-1.0 / 0.5 - 0.1), 0.0])
    np.testing.assert_allclose(w, np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)


def found(cfg, q, z, samples, std, alpha=0.5, velocity=linear, key=0):
    """The E-step of one (s, z)."""
    k_noise, k_probe = jax.random.split(jax.random.key(key))
    noise = jax.random.normal(k_noise, (samples, 2))
    probes = probes_of(cfg, k_probe, (samples,))
    alpha, std = jnp.float32(alpha), jnp.float32(std)
    step = jax.jit(lambda z: flag.expectation(cfg, velocity, q, alpha, std, None, z, noise, probes))
    return step(jnp.asarray(z)), noise, probes


def test_small_moves_are_those_of_a_tilted_gaussian():
    """u* - mu = eta sigma^2 grad (Q(tanh u) / alpha - log pit(tanh u)), but for the share 1/(N + 1) of mu."""
    _, cfg, _ = tiny("flag", **{"improvement.eta": 0.5, "actor.steps": 16})
    q = lambda s, a: a @ jnp.array([0.6, -0.2])  # noqa: E731
    z, std, n = jnp.array([0.4, -0.6]), 0.03, 200_000
    mu = flag.latent(cfg, linear, None, z)
    one, noise, _ = found(cfg, q, z, n, std)
    any_signs = jnp.ones((1, 2))

    def objective(u):
        log_p = flag.log_density(cfg, partial(linear, None), u, any_signs).mean()
        return q(None, jnp.tanh(u)) / 0.5 - log_p

    slope = jax.grad(objective)(mu)
    moved = (one.end - mu - std * noise.mean(0)) / std**2
    np.testing.assert_allclose(moved, 0.5 * slope, atol=0.02 * float(jnp.linalg.norm(slope)))


def test_a_quadratic_value_tilts_the_gaussian_to_its_known_mean():
    """Alpha is so small that the density does not count, and moves are not small: exp(eta Q / alpha) of
    Q = -k |u - m|^2 times N(mu, sigma^2) is a Gaussian with the precision 1/sigma^2 + 2 k eta / alpha."""
    _, cfg, _ = tiny("flag", **{"improvement.eta": 1e-4, "actor.steps": 4})
    alpha, k, std, m = 1e-3, 40.0, 0.4, jnp.array([0.5, 0.2])
    q = lambda s, a: -k * jnp.sum((jnp.arctanh(a) - m) ** 2)  # noqa: E731
    z = jnp.array([0.1, 0.3])
    one, _, _ = found(cfg, q, z, 100_000, std, alpha)
    mu, tilt = flag.latent(cfg, linear, None, z), 2 * k * 1e-4 / alpha
    expected = (mu / std**2 + tilt * m) / (1 / std**2 + tilt)
    assert float(jnp.linalg.norm(expected - mu)) > 0.1
    np.testing.assert_allclose(one.end, expected, atol=0.005)


def test_without_eta_the_target_is_the_mean_of_samples_and_mu():
    _, cfg, _ = tiny("flag", **{"improvement.eta": 0.0})
    one, noise, _ = found(cfg, bump, [0.4, -0.6], 5, 0.3)
    mu = flag.latent(cfg, linear, None, jnp.array([0.4, -0.6]))
    np.testing.assert_allclose(one.end, mu + 0.3 * noise.sum(0) / 6, rtol=1e-5)
    assert float(one.ess) == pytest.approx(6, rel=1e-5)


def test_latents_are_clipped_in_the_target():
    """mu is at (18, 0.3) and both samples beyond 3.8, so that the first coordinate is 3.8 by any weights."""
    _, cfg, _ = tiny("flag")
    one, _, _ = found(cfg, bump, [40.0, 0.2], 2, 0.1)
    assert float(one.end[0]) == pytest.approx(3.8, rel=1e-6)


@pytest.mark.parametrize("divergence", ["hutchinson", "exact"])
def test_the_expectation_by_a_loop_over_samples(divergence):
    _, cfg, _ = tiny("flag", **{"improvement.divergence": divergence, "improvement.eta": 2.0})
    one, noise, probes = found(cfg, bump, [0.4, -0.6], 3, 0.3, velocity=rotating)
    v = partial(rotating, None)
    mu = flag.latent(cfg, rotating, None, jnp.array([0.4, -0.6]))
    log_p = lambda u, e: float(flag.log_density(cfg, v, u, e).mean())  # noqa: E731
    us = [mu + 0.3 * e for e in noise]
    logits = [
        2.0 * (float(bump(None, jnp.tanh(u)) - bump(None, jnp.tanh(mu))) / 0.5 - (log_p(u, e) - log_p(mu, e)))
        for u, e in zip(us, probes, strict=True)
    ]
    w = np.exp([*logits, 0.0]) / np.exp([*logits, 0.0]).sum()
    np.testing.assert_allclose(one.end, w @ np.array([*us, mu]), rtol=1e-4)
    np.testing.assert_allclose(
        one.log_prob, np.mean([log_p(*each) for each in zip(us, probes, strict=True)]), rtol=1e-4
    )
    assert float(one.ess) == pytest.approx(1 / (w**2).sum(), rel=1e-4)


# -------------------------------------------------------------------------------------------- M-step


def test_the_m_step_by_a_loop_over_rows():
    """The error of a flow that is known: that of v = (0.8 x, -0.5 x) on straight paths from z to ends."""
    rng = np.random.default_rng(0)
    obs, z, end, t = (rng.normal(size=shape) for shape in ((5, 3), (5, 2), (5, 2), 5))
    guides = Guides(*(jnp.asarray(x, jnp.float32) for x in (obs, z, end)))
    loss, error = flag.guided_loss(linear, guides, jnp.asarray(t, jnp.float32), 0.25)
    rows = [
        np.mean(([0.8, -0.5] * ((1 - t) * e + t * z) - (z - e)) ** 2)
        for z, e, t in zip(z, end, t, strict=True)
    ]
    np.testing.assert_allclose([loss, error], [0.25 * np.mean(rows), np.mean(rows)], rtol=1e-5)


def test_a_policy_update_is_the_m_step_on_the_targets_of_the_e_step():
    """Recomputed from the same keys; the noise that is regressed from is that of mu."""
    _, cfg, state = tiny("flag")
    obs = batch(6).obs
    after, metrics = jax.jit(lambda st: flag.improve(cfg, st, bump, obs))(state)
    z = jax.random.normal(use_key(state, flag.Use.NOISE), (6, 2))
    noise = jax.random.normal(use_key(state, flag.Use.LOCAL), (6, 3, 2))
    probes = probes_of(cfg, use_key(state, flag.Use.PROBE), (6, 3))
    step = partial(flag.expectation, cfg, state.actor.params, bump, state.temperature.alpha, np.exp(-2.0))
    each = jax.jit(jax.vmap(step))(obs, z, noise, probes)
    kept = jax.tree.map(lambda rows: rows[:6], after.guidance.rows)
    assert_close(kept, Guides(obs, z, each.end), rtol=1e-4, atol=1e-5)
    times = jax.random.uniform(use_key(state, flag.Use.TIME), (6,))
    loss, _ = flag.guided_loss(state.actor.params, Guides(obs, z, each.end), times, 1.0)
    np.testing.assert_allclose(metrics["actor/loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["policy/entropy"], -each.log_prob.mean(), rtol=1e-4)
    assert not same(after.actor.params, state.actor.params)


def test_a_policy_update_is_one_step_to_constant_ends_and_alpha_one_by_the_cross_entropy():
    """Fresh ends and, by their weight, earlier ones; neither critic nor solver is differentiated."""
    _, cfg, state = tiny("flag", **{"guidance.start": 0, "guidance.ramp": 4})
    earlier = jax.tree.map(lambda rows: 0.01 * rows, guides(0, 300))
    state = replace(apart(state), guidance=state.guidance.written(earlier), updates=jnp.int32(3))
    obs = batch(6).obs
    after, metrics = jax.jit(lambda st: flag.improve(cfg, st, bump, obs))(state)
    fresh = jax.tree.map(lambda rows: rows[:6], after.guidance.rows)  # 300 rows were full: from the start
    drawn = state.guidance.drawn(use_key(state, flag.Use.GUIDANCE), 6)
    uniform = lambda use: jax.random.uniform(use_key(state, use), (6, 1))  # noqa: E731

    def error(actor, guides, t):
        found = jax.vmap(actor)(guides.obs, (1 - t) * guides.end + t * guides.z, t[:, 0])
        return jnp.mean((found - (guides.z - guides.end)) ** 2)

    times = uniform(flag.Use.TIME), uniform(flag.Use.GUIDANCE_TIME)
    loss = lambda actor: error(actor, fresh, times[0]) + 0.75 * error(actor, drawn, times[1])  # noqa: E731
    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(state.actor.params), rtol=1e-4)
    assert_one_step(cfg.actor, state.actor, after.actor, loss)
    entropy, target = float(metrics["policy/entropy"]), 2 * cfg.temperature.target_entropy_per_dim
    of_alpha = lambda log: jnp.exp(log) * (entropy - target)  # noqa: E731
    assert_one_step(cfg.temperature, state.temperature.log, after.temperature.log, of_alpha)
    assert same(after.critics, state.critics)


# ---------------------------------------------------------------------------------- schedules, guides


def test_the_schedule_of_sigma():
    cfg = flag.ExplorationConfig(log_std=-1.0, final_log_std=-3.0, decay_start=100, decay_steps=200)
    found = [float(cfg.log_width(jnp.int32(n))) for n in (0, 100, 200, 300, 1000)]
    np.testing.assert_allclose(found, [-1, -1, -np.sqrt(3), -3, -3], rtol=1e-5)


def guides(first, count):
    n = jnp.arange(first, first + count, dtype=jnp.float32)[:, None]
    return Guides(n * jnp.ones(3), n * jnp.ones(2), -n * jnp.ones(2))


def test_the_ring_overwrites_its_oldest_rows():
    ring = Guidance.create(GuidanceConfig(capacity=5), SPEC)
    for first in (1, 4):
        assert not bool(ring.full)
        ring = ring.written(guides(first, 3))
    assert bool(ring.full)
    np.testing.assert_array_equal(ring.rows.obs[:, 0], [6, 2, 3, 4, 5])
    np.testing.assert_array_equal(ring.rows.end[:, 0], [-6, -2, -3, -4, -5])
    ring = ring.written(guides(7, 5))
    np.testing.assert_array_equal(ring.rows.z[:, 1], [11, 7, 8, 9, 10])
    assert int(ring.position) == 1


def test_a_draw_has_whole_rows_alike_often():
    ring = Guidance.create(GuidanceConfig(capacity=4), SPEC).written(guides(1, 4))
    drawn = ring.drawn(jax.random.key(0), 4000)
    np.testing.assert_array_equal(drawn.obs[:, 0], drawn.z[:, 0])
    np.testing.assert_array_equal(drawn.obs[:, 0], -drawn.end[:, 0])
    np.testing.assert_allclose(np.bincount(drawn.z[:, 0].astype(int))[1:] / 4000, 0.25, atol=0.03)


def test_the_weight_of_guides_waits_for_a_full_ring_and_then_rises():
    cfg = GuidanceConfig(capacity=4, weight=2.0, start=100, ramp=50)
    ring = Guidance.create(cfg, SPEC)
    assert float(ring.weight(cfg, jnp.int32(1000))) == 0
    full = ring.written(guides(1, 4))
    found = [float(full.weight(cfg, jnp.int32(n))) for n in (0, 100, 125, 150, 1000)]
    np.testing.assert_allclose(found, [0, 0, 1, 2, 2], rtol=1e-6)


def test_between_policy_updates_the_flow_learns_from_its_guides_alone():
    algorithm, cfg, state = tiny("flag", **{"actor.delay": 2, "guidance.start": 0, "guidance.ramp": 1})
    data = batch()
    step = jax.jit(lambda st: algorithm.update(cfg, st, data))
    policy_update, _ = step(state)
    idle, _ = step(policy_update)
    assert same(idle.actor, policy_update.actor)  # moments, too
    assert not same(idle.critics, policy_update.critics)
    ring = policy_update.guidance.written(guides(0, 300))
    learned, _ = step(replace(policy_update, guidance=ring))
    drawn, times, weight = flag.recalled(cfg, replace(policy_update, guidance=ring), 16)
    assert float(weight) == 1
    grads = jax.jit(jax.grad(lambda p: flag.guided_loss(p, drawn, times, weight)[0]))(
        policy_update.actor.params
    )
    assert_close(learned.actor.params, policy_update.actor.step(cfg.actor, grads).params, atol=1e-5)
    assert same(learned.guidance, ring)


def test_a_policy_update_learns_from_fresh_and_earlier_guides():
    _, cfg, state = tiny("flag", **{"guidance.start": 0, "guidance.ramp": 4})
    state = replace(state, guidance=state.guidance.written(guides(0, 300)), updates=jnp.int32(3))
    _, metrics = jax.jit(lambda st: flag.improve(cfg, st, bump, batch().obs))(state)
    assert float(metrics["guidance/weight"]) == 0.75
    total = metrics["actor/velocity_error"] + 0.75 * metrics["guidance/error"]
    np.testing.assert_allclose(metrics["actor/loss"], total, rtol=1e-5)


def test_a_ring_smaller_than_a_batch_is_refused():
    with pytest.raises(UsageError, match=r"guidance.capacity \(100\) must be at least .*batch_size \(256\)"):
        tiny("flag", **{"guidance.capacity": 100})


def test_a_resumed_run_has_its_guides(tmp_path, monkeypatch):
    """Of a ring that is full within the run, so that they count before and after the cuts."""
    small = {"guidance.capacity": 16, "guidance.ramp": 1}
    check_resume("flag", tmp_path, monkeypatch, **small)
    run = trainer("flag", **small)
    go(run, 59)
    run.learner.take_means()
    go(run, 60)
    assert run.learner.take_means()["guidance/weight"] == 1
    run.close()


# ---------------------------------------------------------------------------------- draws and updates


def test_a_draw_is_mu_squashed_and_exploring_is_the_local_policy():
    algorithm, cfg, state = tiny("flag")
    policy, s = algorithm.policy(state), batch(1).obs[0]
    assert algorithm.noise(cfg, policy) == (2,)
    z, e = jnp.array([0.2, -0.4]), jnp.array([1.3, -0.7])
    mu = flag.latent(cfg, policy.actor, s, z)
    np.testing.assert_allclose(algorithm.draw(cfg, policy, s, z), np.tanh(mu), rtol=1e-5)
    moved = algorithm.explore(cfg, policy, jnp.tanh(mu), e)
    np.testing.assert_allclose(moved, np.tanh(mu + np.exp(-2) * e), rtol=1e-5)
    edge = algorithm.explore(cfg, policy, jnp.array([1.0, -1.0]), e)
    np.testing.assert_array_equal(edge, [1, -1])
    late = replace(policy, updates=jnp.int32(10**7))
    np.testing.assert_allclose(
        algorithm.explore(cfg, late, jnp.tanh(mu), e), np.tanh(mu + np.exp(-3) * e), rtol=1e-5
    )
    assert algorithm.native(cfg) == ActionMode(candidates=32)


def test_an_update_is_a_critic_step_with_the_bonus_and_an_improvement_by_the_new_critics():
    algorithm, cfg, state = tiny("flag")
    data = batch()

    @jax.jit
    def both(st):
        nxt, log_prob = flag.successor(cfg, st, data.next_obs)
        bonus = -st.temperature.alpha * log_prob
        fitted, _ = st.critics.fit(cfg.critic, cfg.discount, st.updates, data, nxt, bonus)
        _, expected = flag.improve(cfg, replace(st, critics=fitted), fitted.q(cfg.critic), data.obs)
        return algorithm.update(cfg, st, data), fitted, expected, log_prob

    (after, metrics), fitted, expected, log_prob = both(state)
    assert float(log_prob.std()) > 0
    assert_close(after.critics, fitted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["actor/loss"], expected["actor/loss"], rtol=1e-3)


def test_the_successor_is_one_action_of_the_local_policy():
    _, cfg, state = tiny("flag")
    data = batch(4)
    nxt, log_prob = flag.successor(cfg, state, data.next_obs)
    actor = state.actor.params
    z, e = (
        jax.random.normal(use_key(state, use), (4, 2)) for use in (flag.Use.NEXT_NOISE, flag.Use.NEXT_LOCAL)
    )
    probes = probes_of(cfg, use_key(state, flag.Use.NEXT_PROBE), (4,))
    for i, s in enumerate(data.next_obs):
        u = flag.latent(cfg, actor, s, z[i]) + np.exp(-2.0) * e[i]
        np.testing.assert_allclose(nxt[i], np.tanh(u), rtol=1e-4)
        expected = flag.log_density(cfg, partial(actor, s), u, probes[i]).mean()
        np.testing.assert_allclose(log_prob[i], expected, rtol=1e-3)


def test_the_policy_climbs_a_bump():
    settings = {
        "actor.learning_rate": 3e-3,
        "temperature.automatic": False,
        "temperature.initial": 0.02,
        "exploration.log_std": -1.0,
        "improvement.divergence": "exact",
    }
    algorithm, cfg, state = tiny("flag", **settings)
    obs = batch(64).obs

    def step(st, _):
        after, _ = flag.improve(cfg, st, bump, obs)
        return replace(after, updates=st.updates + 1), None

    state, _ = jax.jit(lambda st: jax.lax.scan(step, st, None, 600))(state)
    z = jax.random.normal(jax.random.key(5), (64, 2))
    actions = jax.vmap(partial(algorithm.draw, cfg, algorithm.policy(state)))(obs, z)
    assert float(jnp.linalg.norm(actions.mean(0) - TARGET)) < 0.15


@few(
    "setting",
    [
        {"actor.activation": "elu"},
        {"actor.steps": 3},
        {"actor.solver": "euler"},
        {"actor.delay": 2},
        {"actor.batch_size": 8},
        {"exploration.log_std": -1.0},
        {"exploration.final_log_std": -4.0},
        {"exploration.decay_start": 5},
        {"exploration.decay_steps": 5},
        {"improvement.samples": 4},
        {"improvement.eta": 0.2},
        {"improvement.divergence": "exact"},
        {"guidance.capacity": 400},
        {"guidance.weight": 0.5},
        {"guidance.start": 5},
        {"guidance.ramp": 5},
    ],
    ids=str,
)
def test_every_option_changes_the_update(setting):
    algorithm, cfg, state = tiny("flag")
    other = changed(cfg, setting)
    start = jax.eval_shape(lambda: algorithm.init(other, SPEC, jax.random.key(0)))
    assert program(algorithm.update, cfg, state, batch()) != program(algorithm.update, other, start, batch())
