"""FLAME: its weights, targets, entropy and backup by numbers; what it learns, and from whose actions."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import flame
from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.shared.straight_flow import Noised
from fewstep.flows import meanflow, velocity
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

RECTIFIED = {"actor.flow": "rectified", "actor.steps": 3}
FLOWS = pytest.mark.parametrize("settings", [{}, RECTIFIED], ids=["meanflow", "rectified"])
OBS = jnp.zeros((6, 3))
HALF = jnp.float32(0.5)


def rows(x, t, r=None, v=None):
    """Rows at the points ``x``; r in the middle of [0, t] unless it is given."""
    x, t = jnp.asarray(x, jnp.float32), jnp.asarray(t, jnp.float32)
    return Noised(x, jnp.zeros_like(x) if v is None else v, 0.5 * t if r is None else jnp.asarray(r), t)


def wide(tree):
    """The same in float64."""
    return jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )


# --------------------------------------------------------------------------------------- velocities


def test_the_velocity_is_a_weighted_mean_by_a_loop_over_rows():
    at = rows(np.linspace([-1.4, 0.8], [1.7, -0.5], 6), [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    v, ess = flame.RegressionConfig(candidates=5).velocities(bump, HALF, OBS, at, jax.random.key(0))
    uniform = jax.random.uniform(jax.random.key(0), (6, 5, 2), minval=jnp.finfo(jnp.float32).tiny)
    actions = np.asarray(jax.vmap(velocity.gaussian_in_box)(uniform, at.x, at.t), np.float64)
    sizes = []
    for row in range(6):
        values = -((actions[row] - np.asarray(TARGET)) ** 2).sum(-1) / 0.5
        w = np.exp(values) / np.exp(values).sum()
        expected = sum(w[k] * (np.asarray(at.x[row]) - actions[row, k]) / float(at.t[row]) for k in range(5))
        np.testing.assert_allclose(v[row], expected, rtol=1e-4, atol=1e-5)
        sizes.append(1 / (w**2).sum())
    assert float(ess) == pytest.approx(np.mean(sizes), rel=1e-4)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.6, 1.0])
def test_actions_outside_of_the_box_have_no_weight(t):
    """Whatever the point and the time, 0 and 1 included, none is drawn there; in it they go everywhere."""
    farthest = []

    def q(s, a):
        jax.debug.callback(lambda each: farthest.append(np.abs(each).max()), a)
        return bump(s, a)

    at = rows(np.linspace([-4.0, 3.0], [5.0, -2.0], 6), [t] * 6)
    v, _ = flame.RegressionConfig().velocities(q, HALF, OBS, at, jax.random.key(0))
    jax.effects_barrier()
    assert max(farthest) <= 1.0
    assert np.all(np.isfinite(v))


@pytest.mark.parametrize("t", [0.25, 0.6, 0.95])
def test_the_velocity_of_a_boltzmann_policy_by_quadrature(t):
    """E[(x - a) / t | x] for exp(Q / alpha) in the box, Q of a form that separates into dimensions."""
    x = np.array([[0.9, -0.3]])
    at = rows(x, [t])
    cfg = flame.RegressionConfig(candidates=200_000)
    v, _ = cfg.velocities(lambda s, a: 0.4 * a[0] - a[1] ** 2, HALF, OBS[:1], at, jax.random.key(0))
    grid = np.linspace(-1, 1, 20_001)
    values = np.stack([0.4 * grid, -(grid**2)]) / 0.5
    weight = np.exp(values - (x[0][:, None] - (1 - t) * grid) ** 2 / (2 * t * t))
    mean = (weight * grid).sum(1) / weight.sum(1)
    np.testing.assert_allclose(v[0], (x[0] - mean) / t, atol=0.01)


# --------------------------------------------------------------------------------------- regression


@pytest.mark.parametrize("r", [0.6, 0.2, 0.0])
def test_a_loss_per_candidate_has_the_gradient_of_one_at_their_mean(r):
    """In float64: sum_k w_k |u - target(v_k)|^2, a derivative for each k, against what is computed.

    The target is linear in the velocity, for r < t as for r = t, so the two differ by a constant: the spread
    of the candidates' targets.
    """
    _, cfg, state = tiny("flame")
    with jax.enable_x64(True):
        actor, s = wide(state.actor.params), jnp.array([0.3, -0.2, 0.5])
        x, t = jnp.array([0.8, -1.1]), jnp.float64(0.6)
        actions = jax.random.uniform(jax.random.key(0), (7, 2), jnp.float64, -1.0, 1.0)
        w = jax.nn.softmax(jax.vmap(partial(bump, s))(actions) / 0.2)
        each = (x - actions) / t

        def by_candidates(actor):
            total = 0.0
            for k in range(7):
                u, target = meanflow.meanflow_target(partial(actor, s), x, jnp.float64(r), t, each[k])
                total += w[k] * jnp.mean((u - target) ** 2)
            return total

        def by_mean(actor):
            at = Noised(x[None], (w @ each)[None], jnp.array([r]), t[None])
            equal = replace(cfg.actor, equal_share=1.0 if r == 0.6 else 0.0)
            return flame.actor_loss(actor, equal, bump, s[None], at, x[None])[0]

        (first, grads), (second, expected) = (
            jax.jit(jax.value_and_grad(f))(actor) for f in (by_candidates, by_mean)
        )
        for a, b in zip(*map(jax.tree.leaves, (grads, expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14)
        assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads)) > 1e-3
        targets = [meanflow.meanflow_target(partial(actor, s), x, jnp.float64(r), t, v)[1] for v in each]
        spread = sum(w[k] * jnp.mean((targets[k] - w @ jnp.stack(targets)) ** 2) for k in range(7))
        assert float(first - second) == pytest.approx(float(spread), rel=1e-9)
        assert float(spread) > 0.01


def test_the_loss_by_finite_differences():
    """du/dt along the mean velocity, in float64."""
    _, cfg, state = tiny("flame")
    with jax.enable_x64(True):
        actor, data = wide(state.actor.params), wide(batch(6))
        t = jnp.linspace(0.1, 0.95, 6)
        at = Noised(1.5 * data.action, data.action[::-1] - 0.4, 0.4 * t, t)
        loss, (error, _) = flame.actor_loss(actor, cfg.actor, bump, data.obs, at, at.x)
        errors, h = [], 1e-6
        for s, x, v, r, t in zip(data.obs, at.x, at.v, at.r, at.t, strict=True):
            slope = (actor(s, x + h * v, r, t + h) - actor(s, x - h * v, r, t - h)) / (2 * h)
            errors.append(float(jnp.mean((actor(s, x, r, t) - (v - (t - r) * slope)) ** 2)))
        assert float(loss) == float(error) == pytest.approx(np.mean(errors), rel=1e-7)


@FLOWS
def test_a_constant_field_is_its_own_average_at_all_times(settings):
    """u = v and no loss for all (r, t); what is off by d has the loss |d|^2 / 2 in two dimensions."""
    _, cfg, _ = tiny("flame", **settings)
    at = rows(np.ones((4, 2)), [0.3, 0.9, 1.0, 0.7], [0.3, 0.9, 0.0, 0.2], jnp.tile(TARGET, (4, 1)))
    none, _ = flame.actor_loss(lambda s, x, r, t: TARGET, cfg.actor, bump, OBS[:4], at, at.x)
    off, _ = flame.actor_loss(
        lambda s, x, r, t: TARGET + jnp.array([0.3, 0.4]), cfg.actor, bump, OBS[:4], at, at.x
    )
    assert none == 0
    assert float(off) == pytest.approx(0.125, rel=1e-5)


def test_the_pathwise_term_is_the_value_of_draws_and_its_gradient_theirs():
    """In float64 along a random direction of the parameters; rectified, so that no target moves with them."""
    _, cfg, state = tiny("flame", **RECTIFIED, **{"actor.pathwise": 2.0})
    with jax.enable_x64(True):
        actor, data = wide(state.actor.params), wide(batch(6))
        t = jnp.linspace(0.1, 0.95, 6)
        at, noise = Noised(data.action, data.action, t, t), 0.3 * data.action

        @jax.jit
        def loss(actor):
            return flame.actor_loss(actor, cfg.actor, bump, data.obs, at, noise)

        drawn = [cfg.actor.draw(actor, s, e) for s, e in zip(data.obs, noise, strict=True)]
        assert np.abs(drawn).max() < 1
        value, (error, mean) = loss(actor)
        assert float(mean) == pytest.approx(np.mean([float(bump(None, a)) for a in drawn]), rel=1e-9)
        assert float(value) == pytest.approx(float(error) - 2 * float(mean), rel=1e-9)
        leaves, tree = jax.tree.flatten(actor)
        keys = jax.random.split(jax.random.key(0), len(leaves))
        step = tree.unflatten(
            [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
        )
        moved = lambda h: jax.tree.map(lambda a, d: a + h * d, actor, step)  # noqa: E731
        along = float((loss(moved(1e-6))[0] - loss(moved(-1e-6))[0]) / 2e-6)
        grads = jax.grad(lambda a: loss(a)[0])(actor)
        found = sum(float(jnp.sum(g * d)) for g, d in zip(*map(jax.tree.leaves, (grads, step)), strict=True))
        assert found == pytest.approx(along, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "pathwise"), [({}, 2.0), (RECTIFIED, 0.0)], ids=["meanflow", "rectified"]
)
def test_an_improvement_is_one_step_to_constant_targets_and_up_the_value_of_draws(settings, pathwise):
    """Neither velocities nor the network's own derivative in a target are differentiated."""
    shares = {"actor.equal_share": 0.5, "actor.grid_share": 0.5, "actor.pathwise": pathwise}
    _, cfg, state = tiny("flame", **settings, **shares)
    state, data = apart(state), batch(8)
    actor = state.actor.params
    after, metrics = jax.jit(lambda st: flame.improve(cfg, st, bump, data.obs, data.action))(state)
    normal = lambda use: jax.random.normal(use_key(state, use), (8, 2))  # noqa: E731
    draws = jax.jit(jax.vmap(cfg.actor.draw, (None, 0, 0)))
    own = draws(actor, data.obs, normal(flame.Use.ANCHOR))
    kinds = (8, 0) if settings else (4, 2)  # rows with r = t, and on the sampler's grid
    at = jax.jit(Noised.of, static_argnums=(2, 3))(use_key(state, flame.Use.NOISE), own, *kinds)
    velocities = jax.jit(partial(cfg.regression.velocities, bump))
    v, ess = velocities(state.temperature.alpha, data.obs, at, use_key(state, flame.Use.CANDIDATES))
    errors = meanflow_errors(actor, data.obs, at.x, at.r, at.t, v)
    noise = normal(flame.Use.PATHWISE)

    def loss(actor):
        drawn = draws(actor, data.obs, noise)
        return errors(actor).mean() + pathwise * jnp.mean(jnp.sum((drawn - TARGET) ** 2, axis=1))

    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(actor), rtol=1e-4)
    np.testing.assert_allclose(metrics["actor/velocity_error"], jax.jit(errors)(actor).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["snis/ess"], ess, rtol=1e-4)
    total = metrics["actor/velocity_error"] - pathwise * metrics.get("actor/q", 0.0)
    np.testing.assert_allclose(metrics["actor/loss"], total, rtol=1e-5)
    assert_one_step(cfg.actor, state.actor, after.actor, loss)
    pairs = zip(*map(jax.tree.leaves, (state.target_actor, after.actor.params)), strict=True)
    kept = [0.995 * np.asarray(old) + 0.005 * np.asarray(new) for old, new in pairs]
    assert_close(jax.tree.leaves(after.target_actor), kept)


@pytest.mark.parametrize("anchor", ["policy", "replay"])
def test_whose_actions_the_points_are_on_the_way_from(anchor):
    _, cfg, state = tiny("flame", **{"regression.anchor": anchor})
    step = jax.jit(lambda a: flame.improve(cfg, state, bump, OBS, a)[1]["actor/loss"])
    here, there = float(step(jnp.zeros((6, 2)))), float(step(jnp.full((6, 2), 0.9)))
    assert (here == there) == (anchor == "policy")


@FLOWS
def test_it_learns_the_boltzmann_policy_of_a_known_reward(settings):
    """exp(-|a - m|^2 / 0.1) in the box: nearly N(m, 0.05 I)."""
    small = {
        "actor.hidden": (64, 64),
        "actor.learning_rate": 3e-3,
        "actor.decay_steps": 1500,
        "regression.candidates": 32,
        "temperature.initial": 0.1,
    }
    _, cfg, state = tiny("flame", **settings | small | ({"actor.steps": 10} if settings else {}))
    obs = jnp.zeros((64, 3))

    def step(state, _):
        state, _ = flame.improve(cfg, state, bump, obs, jnp.zeros((64, 2)))
        return replace(state, updates=state.updates + 1), None

    state, _ = jax.jit(lambda st: jax.lax.scan(step, st, None, 1500))(state)
    drawn = cfg.actor.draw
    noise = jax.random.normal(jax.random.key(1), (4000, 2))
    actions = jax.vmap(lambda e: drawn(state.actor.params, obs[0], e))(noise)
    np.testing.assert_allclose(actions.mean(0), TARGET, atol=0.06)
    np.testing.assert_allclose(actions.std(0), np.sqrt(0.05), atol=0.06)


# ------------------------------------------------------------------------------------------ entropy


def entropy(cfg, actor, noise=(0.3, -0.2), probe=(1.0, -1.0)):
    found = cfg.entropy.of(cfg.actor, actor, OBS[0], jnp.array(noise), jnp.array([probe]))
    return float(found)


def test_a_flow_that_stands_still_has_the_entropy_of_its_noise():
    still = lambda s, x, r, t: 0.0 * x  # noqa: E731
    _, cfg, _ = tiny("flame")
    base = 2 * 0.5 * np.log(2 * np.pi * np.e)
    assert entropy(cfg, still) == pytest.approx(base, rel=1e-6)
    half = changed(cfg, {"actor.start": 0.5})
    assert entropy(half, still) == pytest.approx(base + 2 * np.log(0.5), rel=1e-6)


@FLOWS
def test_the_entropy_of_a_flow_by_hand(settings):
    """Of u = r x in three intervals from 1 to 0: tr J = 2 (t - r) r, rectified 2 (t - r) t."""
    _, cfg, _ = tiny("flame", **settings)
    times = [(2 / 3, 1.0), (1 / 3, 2 / 3), (0.0, 1 / 3)]
    traces = [2 / 3 * (t if settings else r) for r, t in times]
    base = np.log(2 * np.pi * np.e)
    assert entropy(cfg, lambda s, x, r, t: r * x) == pytest.approx(base - sum(traces), rel=1e-5)


def test_the_entropy_is_cut_where_a_trace_explodes():
    _, cfg, _ = tiny("flame", **{"entropy.limit": 2.5})
    steep = lambda s, x, r, t: -60.0 * x  # noqa: E731
    assert entropy(cfg, steep) == pytest.approx(np.log(2 * np.pi * np.e) + 3 * 2.5, rel=1e-5)


def test_the_entropy_is_independent_of_the_samplers_steps():
    _, cfg, state = tiny("flame")
    more = changed(cfg, {"actor.steps": 4})
    found = [flame.entropies(c, state, batch().obs) for c in (cfg, more)]
    np.testing.assert_array_equal(*found)
    assert found[0].std() > 1e-3


@pytest.mark.parametrize(("target", "sign"), [(-10.0, -1), (10.0, 1)])
def test_alpha_moves_the_entropy_towards_its_target(target, sign):
    algorithm, cfg, state = tiny("flame", **{"temperature.target_entropy_per_dim": target})
    after, metrics = jax.jit(lambda st: algorithm.update(cfg, st, batch()))(state)
    assert np.sign(after.temperature.alpha - state.temperature.alpha) == sign
    found = flame.entropies(cfg, state, batch().next_obs).mean()
    np.testing.assert_allclose(metrics["policy/entropy"], found, rtol=1e-5)


# ------------------------------------------------------------------------------------------- critics


@pytest.mark.parametrize(("backup", "sign"), [("bonus", 1.0), ("penalty", -1.0)])
def test_the_target_of_the_critics_by_hand(backup, sign):
    """0.2 r + gamma (min Q(s', a') + alpha H(s')) of a plain draw a'; 0.2 r where the episode ends."""
    algorithm, cfg, state = tiny("flame", **{"entropy.backup": backup, "temperature.initial": 0.7})
    data = batch()
    _, metrics = jax.jit(lambda st: algorithm.update(cfg, st, data))(state)
    noise = jax.random.normal(use_key(state, flame.Use.NEXT_ACTION), data.action.shape)
    entropies = flame.entropies(cfg, state, data.next_obs)
    total = 0.0
    for i in range(16):
        a = cfg.actor.draw(state.actor.params, data.next_obs[i], noise[i])
        ahead = min(state.critics.target_ensemble.values(cfg.critic, data.next_obs[i], a))
        goes_on = 0.0 if data.terminated[i] else 1.0
        y = 0.2 * data.reward[i] + 0.99 * goes_on * (ahead + sign * 0.7 * entropies[i])
        for q in state.critics.online_ensemble.values(cfg.critic, data.obs[i], data.action[i]):
            total += 0.5 * float(q - y) ** 2 / 16
    np.testing.assert_allclose(metrics["critic/loss"], total, rtol=1e-4)


def test_an_update_improves_by_the_new_critics_and_the_new_alpha():
    algorithm, cfg, state = tiny("flame")
    after, metrics = jax.jit(lambda st: algorithm.update(cfg, st, batch()))(state)
    middle = replace(state, critics=after.critics, temperature=after.temperature)
    improve = jax.jit(
        lambda st: flame.improve(cfg, st, st.critics.q(cfg.critic), batch().obs, batch().action)
    )
    _, expected = improve(middle)
    np.testing.assert_allclose(metrics["actor/loss"], expected["actor/loss"], rtol=1e-3)
    policy = algorithm.policy(after)
    assert same(policy.actor, after.target_actor)
    assert same(policy.critics.nets, after.critics.online.params)


def test_a_delayed_policy_stands_still_between_its_updates():
    algorithm, cfg, state = tiny("flame", **{"actor.delay": 2})
    step = jax.jit(lambda st: algorithm.update(cfg, st, batch()))
    first, _ = step(state)
    second, _ = step(first)
    third, _ = step(second)
    assert not same(first.actor, state.actor)
    assert same(second.actor, first.actor)
    assert not same(third.actor, second.actor)
    assert not same(second.critics, first.critics)


# ------------------------------------------------------------------------------------------- acting


def test_a_draw_is_one_evaluation_and_the_behaviour_the_best_of_several_with_noise():
    algorithm, cfg, state = tiny("flame", **{"actor.candidates": 5, "actor.noise": 0.3})
    s, actor = batch(1).obs[0], state.target_actor
    e, (zero, one) = jnp.array([0.7, -0.4]), jnp.array([0.0, 1.0])
    policy = algorithm.policy(state)
    expected = np.clip(e - actor(s, e, zero, one), -1, 1)
    np.testing.assert_allclose(algorithm.draw(cfg, policy, s, e), expected, rtol=1e-5)
    assert algorithm.noise(cfg, policy) == (2,)
    assert algorithm.native(cfg) == algorithm.behaviour(cfg) == ActionMode(candidates=5)
    assert algorithm.explore is not None
    np.testing.assert_allclose(algorithm.explore(cfg, policy, TARGET, e), TARGET + 0.3 * e, rtol=1e-6)


@few(
    ("base", "setting"),
    [
        ({}, RECTIFIED),
        ({}, {"actor.steps": 2}),
        ({}, {"actor.start": 0.5}),
        ({}, {"actor.equal_share": 0.5}),
        ({}, {"actor.grid_share": 0.0}),
        ({}, {"actor.delay": 3}),
        ({}, {"actor.batch_size": 8}),
        ({}, {"actor.tau": 0.5}),
        ({}, {"actor.pathwise": 1.0}),
        ({}, {"regression.candidates": 7}),
        ({}, {"regression.anchor": "replay"}),
        ({}, {"entropy.intervals": 2}),
        ({}, {"entropy.probes": 2}),
        ({}, {"entropy.limit": 5.0}),
        ({}, {"entropy.backup": "penalty"}),
        ({}, {"temperature.automatic": False}),
        (RECTIFIED, {"actor.steps": 4}),
    ],
)
def test_every_option_changes_the_update(base, setting):
    algorithm, cfg, state = tiny("flame", **base)
    other = changed(cfg, setting)
    start = algorithm.init(other, SPEC, jax.random.key(0))
    assert program(algorithm.update, cfg, state, batch()) != program(algorithm.update, other, start, batch())
