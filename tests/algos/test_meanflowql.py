"""MeanFlowQL: its regression on exact fields and by finite differences, the loss, alpha, both ends."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import meanflowql
from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.meanflowql import Alpha, AlphaConfig, Noises, RegressionConfig
from fewstep.errors import UsageError
from tests.algos.common import (
    SPEC,
    TARGET,
    apart,
    assert_one_step,
    batch,
    bump,
    changed,
    program,
    same,
    tiny,
)
from tests.critics.reference import expected
from tests.few import few

WIDE = RegressionConfig(limit=1e6)
TIMES = jnp.linspace(0.05, 1.0, 16)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def noises(rows=16, seed=3):
    """Those of one policy update."""
    action, path = jax.random.normal(jax.random.key(seed), (2, rows, 2))
    return Noises(action, path, jnp.linspace(0.05, 1.0, rows))


def constant(actor, g):
    """The network that is g everywhere."""
    head = actor.body.head
    head = replace(head, weight=0 * head.weight, bias=jnp.asarray(g, jnp.float32))
    return replace(actor, body=replace(actor.body, head=head))


# --------------------------------------------------------------------------------------- the regression


@pytest.mark.parametrize("sign", [1, -1])
def test_a_constant_field_has_no_loss(x64, sign):
    """All paths have one velocity c = e - a, so u = c and g = x - c; with the sign of c wrong it has one."""
    c, e = jnp.array([0.7, -0.3]), jax.random.normal(jax.random.key(0), (16, 2))
    weighted, error = meanflowql.regression(
        lambda s, x, t: x - sign * c, WIDE, batch().obs, e - c, e, jnp.asarray(TIMES, jnp.float64)
    )
    exact = 0.0 if sign == 1 else 4 * float((c**2).mean())
    assert float(error) == pytest.approx(exact, abs=1e-12)
    assert float(weighted) == pytest.approx(exact * (exact + 1e-4) ** -0.2, abs=1e-12)


def test_one_replayed_action_has_no_loss(x64):
    """All paths end in a*: u = (x - a*) / t, and at time 1 g is a* whatever the noise."""
    a, e = jnp.array([0.4, -0.8]), jax.random.normal(jax.random.key(0), (16, 2))
    g = lambda s, x, t: x - (x - a) / t  # noqa: E731
    actions = jnp.tile(a, (16, 1))
    _, error = meanflowql.regression(g, WIDE, batch().obs, actions, e, jnp.asarray(TIMES, jnp.float64))
    assert float(error) == pytest.approx(0, abs=1e-20)
    np.testing.assert_allclose(meanflowql.draw(g, batch().obs[0], e[0]), a)


@pytest.mark.parametrize("limit", [0.9, 50.0])
@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_the_regression_row_by_row(x64, limit, gamma):
    """The target by a central difference along the path, the weight and the clipping by numpy."""
    cfg = RegressionConfig(gamma=gamma, limit=limit)
    obs, action, e, times = (
        np.asarray(each, np.float64) for each in (*batch()[:2], noises().path, np.asarray(TIMES))
    )

    def g(s, x, t):
        return jnp.sin(3 * x * t) + jnp.cos(x[::-1] + s[:2]) * t**2

    errors, cut = [], 0
    for s, a, one, t in zip(obs, action, e, times, strict=True):
        x, v, h = (1 - t) * a + t * one, one - a, 1e-6
        slope = (np.asarray(g(s, x + h * v, t + h)) - np.asarray(g(s, x - h * v, t - h))) / (2 * h)
        target = x + (t - 1) * v - t * slope
        cut += int((np.abs(target) > limit).sum())
        errors.append(((np.asarray(g(s, x, t)) - np.clip(target, -limit, limit)) ** 2).mean())
    errors = np.array(errors)
    weighted, error = meanflowql.regression(g, cfg, *map(jnp.asarray, (obs, action, e, times)))
    assert (cut > 0) == (limit < 1)
    assert float(error) == pytest.approx(errors.mean(), rel=1e-6)
    assert float(weighted) == pytest.approx((errors * (errors + 1e-4) ** (gamma - 1)).mean(), rel=1e-6)


def test_its_gradient_is_that_of_the_squared_error_to_constants(x64):
    """With targets and weights computed once and for all at the present network."""
    _, _, state = tiny("meanflowql")
    actor = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), state.actor.params)
    obs, action, e = (jnp.asarray(x, jnp.float64) for x in (*batch()[:2], noises().path))
    cfg, times = RegressionConfig(), jnp.asarray(TIMES, jnp.float64)
    x = (1 - times[:, None]) * action + times[:, None] * e

    def along(h):
        moved = x + h * (e - action)
        return jax.vmap(actor)(obs, moved, times + h)

    slope = (along(1e-6) - along(-1e-6)) / 2e-6
    target = jnp.clip(x + (times[:, None] - 1) * (e - action) - times[:, None] * slope, -5, 5)
    weight = (jnp.mean((jax.vmap(actor)(obs, x, times) - target) ** 2, axis=1) + 1e-4) ** -0.2

    def frozen(actor):
        return jnp.mean(weight * jnp.mean((jax.vmap(actor)(obs, x, times) - target) ** 2, axis=1))

    found = jax.grad(lambda a: meanflowql.regression(a, cfg, obs, action, e, times)[0])(actor)
    for left, right in zip(*map(jax.tree.leaves, (found, jax.grad(frozen)(actor))), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-8)


# ------------------------------------------------------------------------------------- the actor's loss


def test_the_loss_of_a_constant_policy():
    """-Q of the clipped action, 0.4 times 0.35 outside of the box, 2 times the regression."""
    _, cfg, state = tiny("meanflowql", **{"actor.bound_weight": 0.4})
    actor, data, drawn = constant(state.actor.params, [1.5, -1.2]), batch(), noises()
    loss, found = meanflowql.actor_loss(actor, cfg, bump, 2.0, data.obs, data.action, drawn)
    value = float(bump(None, jnp.array([1.0, -1.0])))
    pulled, error = meanflowql.regression(
        actor, cfg.regression, data.obs, data.action, drawn.path, drawn.time
    )
    assert float(found["actor/q"]) == pytest.approx(value, rel=1e-5)
    assert float(found["actor/bound"]) == pytest.approx(0.35, rel=1e-5)
    assert float(found["regression/loss"]) == pytest.approx(float(pulled), rel=1e-5)
    assert float(found["regression/error"]) == pytest.approx(float(error), rel=1e-5)
    assert float(loss) == pytest.approx(-value + 0.4 * 0.35 + 2 * float(pulled), rel=1e-5)


@pytest.mark.parametrize(("g", "slope"), [(1.5, 0.35), (-1.5, -0.35), (0.2, -0.4)])
def test_outside_of_the_box_only_the_penalty_has_a_gradient(g, slope):
    """relu(|g| - 1), a mean over two dimensions, times 0.7; inside of it the slope of -Q, 2 (g - target)."""
    _, cfg, state = tiny("meanflowql", **{"actor.bound_weight": 0.7})
    data = batch()

    def loss(bias):
        actor = constant(state.actor.params, jnp.array([bias, 0.0]))
        return meanflowql.actor_loss(actor, cfg, bump, 0.0, data.obs, data.action, noises())[0]

    assert float(jax.grad(loss)(g)) == pytest.approx(slope, rel=1e-5)


def test_an_improvement_is_one_step_up_the_value_and_to_constant_targets_by_constant_weights():
    _, cfg, state = tiny("meanflowql", **{"actor.max_grad_norm": 0.0, "actor.bound_weight": 0.7})
    state, data = apart(state), batch()
    after, metrics = jax.jit(lambda st: meanflowql.improve(cfg, st, bump, data.obs, data.action))(state)
    normal = lambda use: jax.random.normal(use_key(state, use), (16, 2))  # noqa: E731
    first, e = normal(meanflowql.Use.ACTION), normal(meanflowql.Use.NOISE)
    t = 1.0 - jax.random.uniform(use_key(state, meanflowql.Use.TIME), (16,))
    x, v, one = (1 - t)[:, None] * data.action + t[:, None] * e, e - data.action, jnp.ones(16)
    at = lambda actor, x, t: jax.vmap(actor)(data.obs, x, t)  # noqa: E731

    @jax.jit
    def constants(actor):
        g, slope = jax.jvp(lambda x, t: at(actor, x, t), (x, t), (v, one))
        target = jnp.clip(x + (t - 1)[:, None] * v - t[:, None] * slope, -5, 5)
        return target, (jnp.mean((g - target) ** 2, axis=1) + 1e-4) ** -0.2

    target, weight = constants(state.actor.params)

    def loss(actor):
        error = jnp.mean((at(actor, x, t) - target) ** 2, axis=1)
        g = at(actor, first, one)
        value = -jnp.sum((jnp.clip(g, -1, 1) - TARGET) ** 2, axis=1)
        return jnp.mean(10 * weight * error - value + 0.7 * jax.nn.relu(jnp.abs(g) - 1).mean(axis=1))

    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(state.actor.params), rtol=1e-4)
    assert float(metrics["actor/bound"]) > 0
    assert_one_step(cfg.actor, state.actor, after.actor, loss)
    assert same(after.critics, state.critics)


# ------------------------------------------------------------------------------------------- an update


def test_the_critics_target_is_the_mean_value_of_the_best_of_n_by_the_target_networks():
    algorithm, cfg, state = tiny("meanflowql", **{"actor.candidates": 5})
    other = algorithm.init(cfg, SPEC, jax.random.key(9)).critics  # targets that are no copies
    state = replace(state, critics=replace(state.critics, target=other.target))
    data, actor = batch(), state.actor.params
    noise = jax.random.normal(use_key(state, meanflowql.Use.NEXT_ACTION), (16, 5, 2))
    chosen, places = [], set()
    for s, each in zip(data.next_obs, noise, strict=True):
        drawn = [jnp.clip(actor(s, e, jnp.float32(1.0)), -1, 1) for e in each]
        values = [np.mean([float(net(s, a)[0]) for net in state.critics.target]) for a in drawn]
        places.add(int(np.argmax(values)))
        chosen.append(drawn[int(np.argmax(values))])
    assert len(places) > 1
    np.testing.assert_allclose(meanflowql.successor(cfg, state, data.next_obs), jnp.stack(chosen), rtol=1e-5)
    wanted, _ = expected(cfg.critic, 0.99, state.critics, data, jnp.stack(chosen), jnp.zeros(16))
    _, metrics = jax.jit(partial(algorithm.update, cfg))(state, data)
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_one_evaluation_draws_an_action_and_the_best_of_five_acts():
    algorithm, cfg, state = tiny("meanflowql", **{"actor.candidates": 5})
    assert algorithm.native(cfg) == algorithm.behaviour(cfg) == ActionMode(candidates=5)
    policy, s, e = algorithm.policy(state), batch().obs[0], jnp.array([0.3, -1.2])
    assert algorithm.noise(cfg, policy) == (2,)
    action = algorithm.draw(cfg, policy, s, e)
    np.testing.assert_allclose(action, jnp.clip(state.actor.params(s, e, jnp.float32(1.0)), -1, 1))
    mean = np.mean([float(net(s, action)[0]) for net in state.critics.target])
    assert float(algorithm.value(cfg, policy)(s, action)) == pytest.approx(mean, rel=1e-5)


@few(
    ("setting", "base"),
    [
        ({"actor.net": "decoder"}, {}),
        ({"actor.activation": "relu"}, {}),
        ({"actor.delay": 2}, {}),
        ({"actor.candidates": 1}, {}),
        ({"actor.bound_weight": 0.5}, {}),
        ({"regression.gamma": 1.0}, {}),
        ({"regression.limit": 2.0}, {}),
        ({"alpha.rule": "adaptive"}, {}),
        *(
            ({f"alpha.{name}": value}, {"alpha.rule": "adaptive"})
            for name, value in {
                "initial": 2.0,
                "start": 7,
                "period": 3,
                "window": 4,
                "threshold": 2.0,
                "up": 1.5,
                "down": 0.5,
                "span": 4.0,
            }.items()
        ),
    ],
)
def test_every_option_changes_the_update(setting, base):
    algorithm, cfg, state = tiny("meanflowql", **base)
    other = changed(cfg, setting)
    start = algorithm.init(other, SPEC, jax.random.key(0))
    assert program(algorithm.update, cfg, state, batch()) != program(algorithm.update, other, start, batch())


def test_the_decoder_draws_and_learns():
    algorithm, cfg, state = tiny("meanflowql", **{"actor.net": "decoder"})
    after, _ = jax.jit(partial(algorithm.update, cfg))(state, batch())
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), after.actor.params, state.actor.params)
    assert all(jax.tree.leaves(moved))
    action = algorithm.draw(cfg, algorithm.policy(after), batch().obs[0], jnp.array([0.3, -1.2]))
    assert action.shape == (2,)
    assert np.abs(action).max() <= 1


def test_a_decoders_blocks_have_one_width():
    with pytest.raises(UsageError, match=r"one size for every block of a decoder, got \[16, 8\]"):
        tiny("meanflowql", **{"actor.net": "decoder", "actor.hidden": (16, 8)})


# ------------------------------------------------------------------------------------------------ alpha


def test_a_fixed_alpha_stays_where_it_is_set():
    algorithm, cfg, state = tiny("meanflowql", **{"alpha.initial": 3.0})
    state, metrics = jax.jit(partial(algorithm.update, cfg))(state, batch())
    assert float(metrics["regression/alpha"]) == float(state.alpha.value) == 3.0
    assert state.alpha.losses.size == 0


def test_alpha_is_multiplied_where_the_loss_leaves_its_mean():
    """The rule written out with a list, over losses that rise and fall a lot: both ends are met."""
    cfg = AlphaConfig(rule="adaptive", start=12, period=3, window=4, threshold=2.0, span=1.5)
    losses = 10 ** (2 * np.sin(np.arange(150) / 12))
    follow = jax.jit(lambda a, loss: a.follow(cfg, loss))
    alpha, value, kept, seen = Alpha.create(cfg), cfg.initial, [], set()
    for n, loss in enumerate(losses, 1):
        alpha = follow(alpha, jnp.float32(loss))
        if n % 3 == 0:
            if n >= 12 and len(kept) >= 2:
                mean = np.mean(kept[-4:])
                if loss > 2 * mean:
                    value = min(1.2 * value, 15.0)
                elif loss < mean / 2:
                    value = max(0.8 * value, 10 / 1.5)
            kept.append(loss)
        seen.add(round(value, 3))
        assert float(alpha.value) == pytest.approx(value, rel=1e-5), n
    assert {10.0, 15.0, round(10 / 1.5, 3)} < seen


def test_an_update_gives_alpha_the_loss_of_its_regression():
    algorithm, cfg, state = tiny("meanflowql", **{"alpha.rule": "adaptive", "alpha.period": 1})
    state, metrics = jax.jit(partial(algorithm.update, cfg))(state, batch())
    assert float(state.alpha.losses[-1]) == pytest.approx(float(metrics["regression/loss"]))
    assert float(state.alpha.losses[:-1].max()) == 0.0


# --------------------------------------------------------------------------------------- where it ends


def ended(action, **settings):
    """Draws of the policy that many improvements under the bump lead to, with these replayed actions."""
    learn = {"actor.hidden": (64, 64), "actor.learning_rate": 3e-3, "regression.gamma": 1.0}
    algorithm, cfg, state = tiny("meanflowql", **(learn | settings))
    obs = jnp.ones((action.shape[0], 3))

    @jax.jit
    def run(state):
        def one(st, _):
            after, _ = meanflowql.improve(cfg, st, bump, obs, action)
            return replace(after, updates=st.updates + 1), None

        return jax.lax.scan(one, state, None, length=1500)[0]

    policy = algorithm.policy(run(state))
    noise = jax.random.normal(jax.random.key(5), (2000, 2))
    return np.asarray(jax.jit(jax.vmap(partial(algorithm.draw, cfg, policy, jnp.ones(3))))(noise))


def test_without_the_regression_it_climbs_to_the_maximum():
    drawn = ended(batch(64).action, **{"alpha.initial": 0.0})
    assert np.abs(drawn - np.asarray(TARGET)).max() < 0.1


def test_with_a_large_alpha_it_is_the_policy_of_the_data():
    """Two replayed actions on one dimension: about half of the draws near each, at one evaluation."""
    side = jnp.where(jnp.arange(128) % 2 == 0, 0.7, -0.7)
    drawn = ended(jnp.stack([side, jnp.zeros(128)], axis=1), **{"alpha.initial": 1000.0})
    assert abs((drawn[:, 0] > 0).mean() - 0.5) < 0.1
    assert (np.abs(np.abs(drawn[:, 0]) - 0.7) < 0.35).mean() > 0.8
    assert np.abs(drawn[:, 1]).mean() < 0.1
