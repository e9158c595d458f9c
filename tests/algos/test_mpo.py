"""MPO: both steps against closed forms, a numerical minimiser and finite differences; where training ends."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from fewstep.algos import mpo
from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.mpo import Duals
from fewstep.algos.shared import clipped_gaussian as cg
from tests.algos.common import (
    SPEC,
    TARGET,
    apart,
    assert_close,
    assert_one_step,
    batch,
    bump,
    changed,
    moved,
    program,
    same,
    tiny,
)
from tests.critics.reference import expected
from tests.few import few

VALUES = jnp.array([0.3, -1.0, 2.0, 0.5, 0.1])


def constant(actor, mean, log_std):
    """The policy with these moments in every state."""
    weight = jnp.zeros_like(actor.net.head.weight)
    head = replace(actor.net.head, weight=weight, bias=jnp.concatenate([mean, log_std]))
    return replace(actor, net=replace(actor.net, head=head))


# ------------------------------------------------------------------------------------------ the E-step


def test_weights_are_a_softmax_of_values_by_temperature():
    e = np.exp(np.asarray(VALUES) / 0.5)
    np.testing.assert_allclose(mpo.weights(VALUES, jnp.float32(0.5)), e / e.sum(), rtol=1e-6)
    np.testing.assert_allclose(mpo.weights(VALUES + 7.0, jnp.float32(0.5)), e / e.sum(), rtol=1e-5)
    np.testing.assert_allclose(mpo.weights(VALUES, jnp.float32(1e-8)), [0, 0, 1, 0, 0])


def test_the_weights_kl_is_from_equal_ones():
    assert float(mpo.weights_kl(jnp.full(5, 0.2))) == pytest.approx(0.0, abs=1e-6)
    assert float(mpo.weights_kl(jnp.array([0, 0, 1, 0, 0.0]))) == pytest.approx(np.log(5))
    w = np.array([0.5, 0.25, 0.25, 0, 0])
    assert float(mpo.weights_kl(jnp.asarray(w))) == pytest.approx((w[:3] * np.log(5 * w[:3])).sum(), rel=1e-6)


def test_the_dual_of_the_temperature_is_least_where_the_bound_is_met():
    """Against scipy's minimiser: there the weights' KL is epsilon."""
    with jax.enable_x64(True):
        values = jnp.asarray(np.asarray(VALUES), jnp.float64)
        loss = lambda eta: float(mpo.temperature_loss(jnp.float64(eta), values, 0.1))  # noqa: E731
        best = optimize.minimize_scalar(loss, bounds=(0.05, 50.0), method="bounded", options={"xatol": 1e-10})
        assert float(mpo.weights_kl(mpo.weights(values, best.x))) == pytest.approx(0.1, abs=1e-5)
        for eta in (0.3, 1.0, best.x, 5.0):
            slope = jax.grad(mpo.temperature_loss)(jnp.float64(eta), values, 0.1)
            by_hand = 0.1 - mpo.weights_kl(mpo.weights(values, eta))
            differences = (loss(eta + 1e-6) - loss(eta - 1e-6)) / 2e-6
            np.testing.assert_allclose(slope, by_hand, atol=1e-10)
            np.testing.assert_allclose(slope, differences, atol=1e-7)


def test_descending_the_dual_finds_the_minimisers_temperature():
    """One temperature for all states: the mean over them of the KL is epsilon."""
    cfg = mpo.ImprovementConfig(epsilon=0.2, epsilon_penalty=0.0)
    values = jax.random.normal(jax.random.key(0), (1, 30, 8)) * 3.0
    zero = cg.KL(jnp.zeros(2), jnp.zeros(2))
    dual = mpo.DualConfig(learning_rate=0.05)
    _, whole, _ = tiny("mpo", **{"improvement.epsilon_penalty": 0.0})
    trained = mpo.Trained.start(dual, Duals.create(whole, 2))
    step = jax.jit(lambda t: mpo.descend(dual, t, mpo.dual_loss, cfg, values, zero)[0])
    for _ in range(1500):
        trained = step(trained)
    weight = mpo.weights(values[0], trained.params.positive.temperature[0])
    assert float(jax.vmap(mpo.weights_kl)(weight).mean()) == pytest.approx(0.2, abs=0.002)


# ------------------------------------------------------------------------------------------ the M-step

OLD = jnp.array([0.3, -0.4]), jnp.log(jnp.array([0.5, 0.2]))
NEW = jnp.array([0.5, -0.1]), jnp.log(jnp.array([0.4, 0.3]))


def test_the_kls_are_those_of_gaussians():
    """log(s' / s) + (s^2 + (m - m')^2) / (2 s'^2) - 1/2, with one difference at a time."""
    found = cg.decoupled_kl(OLD, NEW)
    (m, s), (m2, s2) = ((np.asarray(mean), np.exp(w)) for mean, w in (OLD, NEW))
    np.testing.assert_allclose(found.mean, (m - m2) ** 2 / (2 * s**2), rtol=1e-5)
    np.testing.assert_allclose(found.std, np.log(s2 / s) + s**2 / (2 * s2**2) - 0.5, rtol=1e-5)
    tiny_step = cg.decoupled_kl(OLD, (OLD[0], OLD[1] + 1e-3))
    np.testing.assert_allclose(tiny_step.std, 1e-6, rtol=2e-3)  # in float32, too


def test_the_kls_are_expectations_over_draws():
    a = cg.draw_rows((OLD[0][None], OLD[1][None]), 200_000, jax.random.key(0))[0]
    density = lambda mean, log_std: jax.vmap(lambda x: cg.log_density(x, mean, log_std))(a)  # noqa: E731
    found = cg.decoupled_kl(OLD, NEW)
    by_draws = [(density(*OLD) - density(*other)).mean() for other in ((NEW[0], OLD[1]), (OLD[0], NEW[1]))]
    np.testing.assert_allclose([found.mean.sum(), found.std.sum()], by_draws, rtol=0.01)


def m_step(duals, new, actions, weight, target=OLD):
    """The loss of a policy that is the same in every state, as a function of its moments."""
    _, _, state = tiny("mpo")
    rows = tuple(jnp.tile(each, (len(actions), 1)) for each in target)

    def loss(mean, log_std):
        actor = constant(state.actor.params, mean, log_std)
        return mpo.actor_loss(actor, duals, rows, batch(len(actions)).obs, actions, weight)[0]

    return loss(*new), jax.grad(loss, argnums=(0, 1))(*new)


def samples(rows=6, count=5):
    actions = cg.draw_rows(tuple(jnp.tile(x, (rows, 1)) for x in OLD), count, jax.random.key(3))
    return actions, jax.nn.softmax(jax.random.normal(jax.random.key(4), (rows, count)))


def test_the_loss_is_decoupled_by_a_loop_written_out():
    """Means learn beside the target's deviations, deviations beside its means: value and both gradients."""
    actions, weight = samples()
    duals = Duals(jnp.ones(2), jnp.array([2.0, 0.5]), jnp.array([3.0, 7.0]))
    value, (by_mean, by_log_std) = m_step(duals, NEW, actions, weight)
    (m_old, w_old), (m, w) = ((np.asarray(x, np.float64) for x in each) for each in (OLD, NEW))
    s_old, s, total = np.exp(w_old), np.exp(w), 0.0
    slopes = duals.mean * (m - m_old) / s_old**2, duals.std * (1 - (s_old / s) ** 2)
    kl = (m - m_old) ** 2 / (2 * s_old**2), w - w_old + s_old**2 / (2 * s**2) - 0.5
    normal = lambda a, mean, std: -0.5 * ((a - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)  # noqa: E731
    for row, shares in zip(np.asarray(actions, np.float64), np.asarray(weight, np.float64), strict=True):
        for a, share in zip(row, shares, strict=True):
            total -= share * (normal(a, m, s_old) + normal(a, m_old, s)).sum() / 6
            slopes = (
                slopes[0] - share * (a - m) / s_old**2 / 6,
                slopes[1] - share * (((a - m_old) / s) ** 2 - 1) / 6,
            )
    total += float(duals.mean @ kl[0] + duals.std @ kl[1])
    assert float(value) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(by_mean, slopes[0], rtol=1e-4)
    np.testing.assert_allclose(by_log_std, slopes[1], rtol=1e-4)


def test_at_the_target_policy_the_kl_has_no_gradient():
    actions, weight = samples()
    none, much = (Duals(jnp.ones(2), jnp.full(2, x), jnp.full(2, x)) for x in (0.0, 1000.0))
    for free, bound in zip(*(m_step(d, OLD, actions, weight)[1] for d in (none, much)), strict=True):
        np.testing.assert_allclose(free, bound, rtol=1e-5)
        assert np.abs(free).min() > 0.01


def test_a_multiplier_grows_where_its_kl_is_above_the_bound_and_falls_elsewhere():
    cfg = mpo.ImprovementConfig(epsilon=0.1, epsilon_penalty=0.05, epsilon_mean=0.01, epsilon_std=1e-4)
    duals = Duals(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2))
    kl = cg.KL(jnp.array([0.02, 0.005]), jnp.array([0.0, 2e-4]))
    values = jnp.stack([jnp.tile(VALUES, (3, 1)), 1e-3 * jnp.tile(VALUES, (3, 1))])
    grads, _ = jax.grad(mpo.dual_loss, has_aux=True)(duals, cfg, values, kl)
    assert np.sign(grads.mean).tolist() == [-1, 1]
    assert np.sign(grads.std).tolist() == [1, -1]
    assert np.sign(grads.temperature).tolist() == [-1, 1]
    np.testing.assert_allclose(grads.mean, 0.5 * (0.01 - kl.mean), rtol=1e-5)  # softplus has slope 1/2 at 0
    np.testing.assert_allclose(grads.std, 0.5 * (1e-4 - kl.std), rtol=1e-5)


def test_multipliers_begin_where_the_settings_say_and_stay_above_their_floor():
    begin = {"initial_temperature": 0.5, "initial_mean": 3.0, "initial_std": 1000.0, "learning_rate": 50.0}
    _, cfg, state = tiny("mpo", **{f"dual.{name}": value for name, value in begin.items()})
    at = state.duals.params.positive
    np.testing.assert_allclose(at.temperature, [0.5, 0.5], rtol=1e-5)
    np.testing.assert_allclose(at.mean, [3.0, 3.0], rtol=1e-5)
    np.testing.assert_allclose(at.std, [1000.0, 1000.0], rtol=1e-5)
    after, _ = mpo.improve(cfg, state, bump, batch().obs)
    np.testing.assert_array_equal(after.duals.params.mean, [mpo.DUAL_MIN, mpo.DUAL_MIN])
    assert float(after.duals.params.positive.mean[0]) == pytest.approx(1.5e-8, rel=0.02)


def test_the_actors_loss_by_finite_differences():
    """In float64, in every output's bias and in a kernel."""
    _, _, state = tiny("mpo")
    with jax.enable_x64(True):
        double = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)  # noqa: E731
        actor, (actions, weight) = double(state.actor.params), double(samples())
        target = double(tuple(jnp.tile(x, (6, 1)) for x in OLD))
        duals = double(Duals(jnp.ones(2), jnp.array([2.0, 0.5]), jnp.array([3.0, 7.0])))
        obs = jnp.asarray(batch(6).obs, jnp.float64)

        def at(bias, kernel):
            head = replace(actor.net.head, bias=bias, weight=kernel)
            moved = replace(actor, net=replace(actor.net, head=head))
            return mpo.actor_loss(moved, duals, target, obs, actions, weight)[0]

        start = (actor.net.head.bias, actor.net.head.weight)
        grads, loss = jax.grad(at, argnums=(0, 1))(*start), jax.jit(at)
        for i in range(4):
            step = 1e-5 * jnp.eye(4)[i]
            slope = (loss(start[0] + step, start[1]) - loss(start[0] - step, start[1])) / 2e-5
            np.testing.assert_allclose(grads[0][i], slope, rtol=1e-6)
            step = jnp.zeros_like(start[1]).at[3, i].set(1e-5)
            slope = (loss(start[0], start[1] + step) - loss(start[0], start[1] - step)) / 2e-5
            np.testing.assert_allclose(grads[1][3, i], slope, rtol=1e-6)


# ------------------------------------------------------------------------------------------- an update


def test_an_improvement_by_a_loop_written_out():
    """Samples of the target policy, clipped for Q and not for the likelihood; weights of both objectives."""
    _, cfg, state = tiny("mpo", **{"dual.initial_temperature": 0.3, "improvement.samples": 4})
    wide = constant(state.actor.params, jnp.array([0.8, -0.9]), jnp.array([-0.5, 0.1]))
    state, obs = replace(state, target_actor=wide), batch(5).obs
    _, metrics = mpo.improve(cfg, state, bump, obs)
    target = jax.vmap(wide)(obs)
    actions = cg.draw_rows(target, 4, use_key(state, mpo.Use.ACTION))
    assert np.abs(actions).max() > 1
    weight = np.zeros((5, 4))
    for row, each in enumerate(np.asarray(actions)):
        inside = np.clip(each, -1, 1)
        for values in ([float(bump(None, a)) for a in inside], -np.linalg.norm(each - inside, axis=1)):
            e = np.exp(np.asarray(values) / 0.3)
            weight[row] += e / e.sum()
    duals = state.duals.params.positive
    wanted, kl = mpo.actor_loss(state.actor.params, duals, target, obs, actions, jnp.asarray(weight))
    np.testing.assert_allclose(metrics["actor/loss"], wanted, rtol=1e-5)
    np.testing.assert_allclose(metrics["actor/kl_std"], kl.std.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["policy/outside_share"], np.mean(np.abs(actions) > 1), rtol=1e-6)


def test_the_critics_regress_on_the_mean_over_the_target_policys_actions():
    """A row of each sample by hand, their targets' mean; half the squared error of the twins."""
    algorithm, cfg, state = tiny("mpo", **{"critic.ensemble": 2, "improvement.samples": 4})
    state = replace(state, target_actor=constant(state.actor.params, *OLD))
    data = batch()
    rows = jax.vmap(state.target_actor)(data.next_obs)
    nxt = np.clip(cg.draw_rows(rows, 4, use_key(state, mpo.Use.NEXT_ACTION)), -1, 1)
    each = [expected(cfg.critic, 0.99, state.critics, data, nxt[:, k], None)[1] for k in range(4)]
    q = np.stack([jax.vmap(net)(data.obs, data.action)[:, 0] for net in state.critics.online.params])
    _, metrics = algorithm.update(cfg, state, data)
    loss = 0.5 * ((q - np.mean(each, axis=0)) ** 2).mean(axis=1).sum()
    np.testing.assert_allclose(metrics["critic/loss"], loss, rtol=1e-4)


def test_the_policy_improves_by_the_target_critics():
    """With hard copies, 100 updates old: the trained ones play no part in it."""
    algorithm, cfg, state = tiny("mpo", **{"critic.target_delay": 100, "critic.tau": 1.0})
    state = replace(state, updates=jnp.int32(1))
    after, metrics = algorithm.update(cfg, state, batch())
    assert same(after.critics.target, state.critics.target)
    _, wanted = mpo.improve(cfg, state, state.critics.target_q(cfg.critic), batch().obs)
    np.testing.assert_allclose(metrics["actor/loss"], wanted["actor/loss"], rtol=1e-5)


def test_the_target_policy_is_a_copy_at_every_so_manyth_policy_update():
    algorithm, cfg, state = tiny("mpo", **{"actor.period": 2, "actor.delay": 2})
    step = jax.jit(lambda s: algorithm.update(cfg, s, batch())[0])
    states = [state]
    for _ in range(8):
        states.append(step(states[-1]))
    pairs = list(pairwise(states))
    moved = [not same(one.target_actor, other.target_actor) for one, other in pairs]
    assert moved == [False, False, True, False, False, False, True, False]
    assert [not same(one.actor, other.actor) for one, other in pairs] == [True, False] * 4
    assert same(states[3].target_actor, states[3].actor.params)


@few(
    "setting",
    [
        {"actor.delay": 2},
        {"actor.period": 3},
        {"actor.activation": "relu"},
        {"actor.layernorm": False},
        {"improvement.samples": 5},
        {"improvement.epsilon": 0.2},
        {"improvement.epsilon_mean": 0.2},
        {"improvement.epsilon_std": 0.2},
        {"improvement.epsilon_penalty": 0.2},
        {"improvement.epsilon_penalty": 0.0},
    ],
)
def test_every_option_changes_the_update(setting):
    algorithm, cfg, state = tiny("mpo")
    other = changed(cfg, setting)
    start = algorithm.init(other, SPEC, jax.random.key(0))
    assert program(algorithm.update, cfg, state, batch()) != program(algorithm.update, other, start, batch())


def test_an_improvement_is_one_step_of_the_policy_and_one_of_the_multipliers():
    """Multipliers and target policy are constants of the policy's; its KL and all values are of theirs."""
    settings = {"actor.max_grad_norm": 0.0, "dual.max_grad_norm": 0.0, "improvement.samples": 4}
    _, cfg, state = tiny("mpo", **settings, **{"dual.initial_temperature": 0.5, "dual.initial_std": 3.0})
    state, obs = apart(state), batch(6).obs
    state = replace(state, duals=replace(state.duals, params=moved(state.duals.params, 5)))
    after, _ = jax.jit(lambda st: mpo.improve(cfg, st, bump, obs))(state)
    mean, log_std = jax.jit(jax.vmap(state.target_actor))(obs)
    std = np.exp(log_std)
    noise = jax.random.normal(use_key(state, mpo.Use.ACTION), (6, 4, 2))
    actions = np.asarray(mean[:, None] + std[:, None] * noise)
    inside = np.clip(actions, -1, 1)
    values = -((inside - np.asarray(TARGET)) ** 2).sum(-1), -np.linalg.norm(actions - inside, axis=-1)
    positive = jax.tree.map(lambda x: np.log1p(np.exp(np.asarray(x))), state.duals.params)
    weight = 0.0
    for each, eta in zip(values, positive.temperature, strict=True):
        e = np.exp(each / eta)
        weight += e / e.sum(1, keepdims=True)
    assert np.abs(values[1]).max() > 0

    def of_moments(m, w):
        """The weighted log-density, decoupled, and both KL, by dimension."""
        normal = lambda m, s: -0.5 * ((actions - m[:, None]) / s[:, None]) ** 2 - jnp.log(s)[:, None]  # noqa: E731
        density = (normal(m, std) + normal(mean, jnp.exp(w))).sum(-1)
        kl_mean = jnp.mean((m - mean) ** 2 / (2 * std**2), axis=0)
        kl_std = jnp.mean(w - log_std + std**2 / (2 * jnp.exp(2 * w)) - 0.5, axis=0)
        return jnp.sum(weight * density, axis=1).mean(), kl_mean, kl_std

    def of_policy(actor):
        density, kl_mean, kl_std = of_moments(*jax.vmap(actor)(obs))
        return positive.mean @ kl_mean + positive.std @ kl_std - density

    _, kl_mean, kl_std = of_moments(*jax.jit(jax.vmap(state.actor.params))(obs))

    def of_duals(duals):
        at, total = jax.tree.map(jax.nn.softplus, duals), 0.0
        for eta, each, epsilon in zip(at.temperature, values, (0.1, 0.001), strict=True):
            total += eta * (epsilon + jnp.log(jnp.exp(each / eta).mean(axis=1)).mean())
        return total + at.mean @ (0.01 - kl_mean) + at.std @ (1e-6 - kl_std)

    assert_one_step(cfg.actor, state.actor, after.actor, of_policy)
    assert_one_step(cfg.dual, state.duals, after.duals, of_duals)
    assert same((after.critics, after.target_actor), (state.critics, state.target_actor))


def test_it_begins_with_the_deviation_of_its_setting_and_acts_clipped():
    algorithm, cfg, state = tiny("mpo", **{"actor.initial_std": 0.3})
    mean, log_std = jax.vmap(state.actor.params)(batch().obs)
    assert np.abs(mean).max() < 0.05
    np.testing.assert_allclose(np.exp(log_std), 0.3, rtol=0.05)
    policy = replace(
        algorithm.policy(state), actor=constant(state.actor.params, jnp.array([3.0, 0.2]), OLD[1])
    )
    noise = jnp.array([1.0, -1.0])
    np.testing.assert_allclose(algorithm.draw(cfg, policy, batch().obs[0], noise), [3.5, 0.0], atol=1e-6)
    acted = algorithm.act(cfg, policy, batch().obs, jax.random.key(0), ActionMode(noise_free=True))
    np.testing.assert_allclose(acted, np.tile([1.0, 0.2], (16, 1)), rtol=1e-6)
    assert algorithm.native(cfg) == ActionMode(noise_free=True)
    assert algorithm.behaviour(cfg) == ActionMode()
    assert np.abs(algorithm.collect(cfg, policy, batch().obs, jax.random.key(0))).max() == 1


# ---------------------------------------------------------------------------------------- known answers


def ended(q, updates, start=None, **settings):
    """The last state of many improvements in one state, and what was measured in each."""
    learn = {"actor.hidden": (32, 32), "actor.learning_rate": 3e-3, "actor.period": 25}
    _, cfg, state = tiny("mpo", **(learn | settings))
    if start is not None:
        moved = constant(state.actor.params, *start)
        state = replace(state, actor=replace(state.actor, params=moved), target_actor=moved)
    obs = jnp.ones((64, 3))

    @jax.jit
    def run(state):
        def one(st, _):
            st, metrics = mpo.improve(cfg, st, q, obs)
            metrics["moments"] = jnp.stack(st.actor.params(jnp.ones(3)))
            return replace(st, updates=st.updates + 1), metrics

        return jax.lax.scan(one, state, None, length=updates)

    return run(state)


def test_steps_under_the_bounds_end_at_the_maximum_of_a_quadratic_value():
    """Target policies are within both bounds of the one before, on average; the last is at the maximum.

    At each of the 160 sigma may change by sqrt(epsilon_std), 3 %, means by sqrt(2 epsilon_mean), 0.14 sigma.
    """
    bounds = {"improvement.samples": 20, "improvement.epsilon_std": 1e-3}
    begin = {"dual.initial_temperature": 1.0, "dual.initial_mean": 1.0, "dual.initial_std": 10.0}
    _, found = ended(bump, 4000, **bounds, **begin)
    last = found["moments"][-1]
    np.testing.assert_allclose(last[0], TARGET, atol=0.02)
    assert np.exp(last[1]).max() < 0.12
    copies = found["moments"][24::25]
    kl = jax.vmap(lambda old, new: cg.decoupled_kl(tuple(old), tuple(new)))(copies[:-1], copies[1:])
    settled = slice(40, None)
    assert float(kl.mean[settled].mean()) < 1.2 * 0.01
    assert float(kl.std[settled].mean()) < 1.2 * 1e-3
    assert float(kl.std[settled].mean()) > 0.3 * 1e-3
    np.testing.assert_allclose(found["actor/kl_weights"][200:2000].mean(), 0.1, rtol=0.2)


def test_a_tighter_bound_is_a_shorter_step():
    """From one target policy the mean's KL ends at the bound, once the multiplier has come."""
    begin = {"dual.initial_temperature": 1.0, "dual.initial_mean": 1.0, "dual.learning_rate": 0.05}
    moves = []
    for bound in (0.004, 0.001):
        limits = {"improvement.epsilon_mean": bound, "actor.period": 10_000}
        _, found = ended(lambda s, a: a.sum(), 1500, **begin, **limits)
        moves.append(float(found["actor/kl_mean"][-500:].mean()))
    np.testing.assert_allclose(moves, [0.004, 0.001], rtol=0.25)


def test_the_penalty_brings_the_policy_back_to_the_box():
    """Outside of it the clipped Q is flat: without the penalty nothing calls the mean back."""
    start = jnp.array([2.5, 0.0]), jnp.log(jnp.array([0.3, 0.3]))
    flat = lambda s, a: 0.0 * a.sum()  # noqa: E731
    begin = {"dual.initial_temperature": 0.1, "dual.initial_mean": 1.0}
    means = [
        ended(flat, 1500, start, **begin, **{"improvement.epsilon_penalty": epsilon})[1]["moments"][-1, 0, 0]
        for epsilon in (0.1, 0.0)
    ]
    assert float(means[0]) < 1.3
    assert float(means[1]) > 2.2


def test_with_one_objective_there_is_one_temperature():
    _, cfg, state = tiny("mpo", **{"improvement.epsilon_penalty": 0.0})
    after, metrics = mpo.improve(cfg, state, bump, batch().obs)
    assert after.duals.params.temperature.shape == (1,)
    assert "dual/penalty_temperature" not in metrics
    assert_close(metrics["dual/temperature"], 10.0)
