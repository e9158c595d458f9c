"""FLAC, SAC-Flow and DIME on their shared update, and FlowRL: costs, targets and weights by numbers."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from fewstep.algos import flowrl
from fewstep.algos.contract import use_key
from fewstep.algos.shared import path_policy
from fewstep.config.settings import InvalidSetting
from fewstep.flows import paths
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
    moved,
    program,
    same,
    tiny,
)
from tests.few import few

PATHS = ("dime", "flac", "sacflow")
NOISES = {"dime": (4, 2), "flac": (2,), "sacflow": (3, 2)}


@pytest.mark.parametrize("name", PATHS)
def test_actions_are_in_the_box_and_differ_by_noise(name):
    algorithm, cfg, state = tiny(name)
    policy = algorithm.policy(state)
    assert algorithm.noise(cfg, policy) == NOISES[name]
    noise = jax.random.normal(jax.random.key(0), (100, *NOISES[name]))
    drawn = jax.vmap(lambda e: algorithm.draw(cfg, policy, batch(1).obs[0], e))(noise)
    assert drawn.shape == (100, 2)
    assert np.all(np.abs(drawn) < 1)
    assert np.all(drawn.std(axis=0) > 0)


@pytest.mark.parametrize("name", PATHS)
def test_the_critics_target_has_the_cost_of_the_successors_path(name):
    """The same fit with the bonus -alpha cost, cost by cost."""
    algorithm, cfg, state = tiny(name)
    data = batch()
    noise = jax.random.normal(use_key(state, path_policy.Use.NEXT_ACTION), (16, *NOISES[name]))

    @jax.jit
    def both(st):
        drawn = jax.vmap(partial(cfg.actor.draw, st.actor.params))(data.next_obs, noise)
        bonus = -st.temperature.alpha * drawn.cost
        fitted = st.critics.fit(cfg.critic, cfg.discount, st.updates, data, drawn.action, bonus)
        return algorithm.update(cfg, st, data)[1], fitted[1], drawn.cost

    metrics, found, costs = both(state)
    assert np.asarray(costs).std() > 0
    np.testing.assert_allclose(metrics["critic/loss"], found["critic/loss"], rtol=1e-4)
    np.testing.assert_allclose(metrics["critic/q_std"], found["critic/q_std"], rtol=1e-4)


@pytest.mark.parametrize("name", PATHS)
def test_the_actors_loss_row_by_row(name):
    _, cfg, state = tiny(name)
    obs, noise = batch(6).obs, jax.random.normal(jax.random.key(1), (6, *NOISES[name]))
    alpha = jnp.float32(0.3)
    draw = jax.jit(partial(cfg.actor.draw, state.actor.params))
    rows = [draw(s, e) for s, e in zip(obs, noise, strict=True)]
    expected = np.mean([0.3 * float(d.cost) - float(bump(None, d.action)) for d in rows])
    loss, (value, cost) = jax.jit(lambda p: path_policy.actor_loss(p, cfg, bump, alpha, obs, noise))(
        state.actor.params
    )
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(value) == pytest.approx(np.mean([float(bump(None, d.action)) for d in rows]), rel=1e-4)
    assert float(cost) == pytest.approx(np.mean([float(d.cost) for d in rows]), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", PATHS)
def test_an_improvement_steps_the_policy_down_alpha_cost_less_value_and_alpha_by_the_cost(name):
    """Each is a constant where the other moves; the cost is that of the old policy."""
    _, cfg, state = tiny(name)
    cfg = replace(cfg, actor=replace(cfg.actor, max_grad_norm=0.0))
    state, obs = apart(state), batch().obs
    after, metrics = jax.jit(lambda st: path_policy.improve(cfg, st, bump, obs))(state)
    noise = jax.random.normal(use_key(state, path_policy.Use.ACTION), (16, *NOISES[name]))
    alpha, cost = float(state.temperature.alpha), float(metrics["policy/path_cost"])

    def loss(actor):
        drawn = jax.vmap(partial(cfg.actor.draw, actor))(obs, noise)
        return jnp.mean(alpha * drawn.cost + jnp.sum((drawn.action - TARGET) ** 2, axis=1))

    assert_one_step(cfg.actor, state.actor, after.actor, loss)
    target = 2 * cfg.temperature.target_entropy_per_dim
    of_alpha = lambda log: jnp.exp(log) * (-cost - target)  # noqa: E731
    assert_one_step(cfg.temperature, state.temperature.log, after.temperature.log, of_alpha)
    assert same(after.critics, state.critics)


@pytest.mark.parametrize("name", [*PATHS, "flowrl"])
def test_the_policy_climbs_a_bump(name):
    """With the price of the path near 0, a hundred updates with large steps end near the maximum."""
    settings = {"actor.learning_rate": 0.01, "actor.delay": 1}
    if name != "flowrl":
        settings |= {"temperature.automatic": False, "temperature.initial": 1e-4}
    algorithm, cfg, state = tiny(name, **settings)
    data = batch(64)

    def step(st, _):
        if name == "flowrl":
            after, _ = flowrl.improve(cfg, st, bump, data.obs, data.action, jnp.full(64, -9.0))
        else:
            after, _ = path_policy.improve(cfg, st, bump, data.obs)
        return replace(after, updates=st.updates + 1), None

    state, _ = jax.jit(lambda st: jax.lax.scan(step, st, None, 200))(state)
    policy = algorithm.policy(state)
    noise = jax.random.normal(jax.random.key(5), (64, *algorithm.noise(cfg, policy)))
    actions = jax.vmap(partial(algorithm.draw, cfg, policy))(data.obs, noise)
    assert float(jnp.linalg.norm(actions.mean(0) - TARGET)) < 0.15


SETTINGS = [
    ("flac", {"actor.steps": 2}),
    ("flac", {"actor.solver": "euler"}),
    ("flac", {"actor.delay": 3}),
    ("flac", {"actor.activation": "tanh"}),
    ("sacflow", {"actor.net": "mlp"}),
    ("sacflow", {"actor.net": "decoder"}),
    ("sacflow", {"actor.steps": 3}),
    ("sacflow", {"actor.noise": "preserving"}),
    ("sacflow", {"actor.activation": "relu"}),
    ("sacflow", {"actor.delay": 2}),
    ("dime", {"actor.steps": 4}),
    ("dime", {"actor.prior_std": 1.0}),
    ("dime", {"actor.activation": "relu"}),
    ("dime", {"actor.delay": 2}),
    ("flowrl", {"actor.delay": 3}),
    ("flowrl", {"regression.weight": 0.5}),
    ("flowrl", {"regression.smallest": 0.2}),
    ("flowrl", {"regression.largest": 0.05}),
    ("flowrl", {"regression.average": "batch"}),
    ("flowrl", {"regression.target": "action"}),
    ("flowrl", {"behaviour.expectile": 0.7}),
    ("flowrl", {"behaviour.tau": 0.5}),
    ("flowrl", {"behaviour.target_delay": 5}),
    ("flowrl", {"behaviour.activation": "relu"}),
]


@few(("name", "settings"), SETTINGS, ids=lambda x: x if isinstance(x, str) else str(x))
def test_every_option_changes_what_is_computed(name, settings):
    algorithm, cfg, state = tiny(name)
    data, other = batch(), changed(cfg, settings)
    start = jax.eval_shape(lambda: algorithm.init(other, SPEC, jax.random.key(0)))
    assert program(algorithm.update, other, start, data) != program(algorithm.update, cfg, state, data)


# --------------------------------------------------------------------------------------------- each


def test_flacs_cost_is_the_kinetic_energy_of_the_solver():
    _, cfg, state = tiny("flac", **{"actor.steps": 3, "actor.solver": "euler"})
    s, x = batch(1).obs[0], np.array([0.3, -0.8], np.float32)
    drawn, energy = cfg.actor.draw(state.actor.params, s, x), 0.0
    for t in (1.0, 2 / 3, 1 / 3):
        v = np.asarray(state.actor.params(s, x, jnp.float32(t)))
        x, energy = x - v / 3, energy + 0.5 * (v**2).sum() / 3
    np.testing.assert_allclose(drawn.action, np.tanh(x), rtol=1e-5)
    assert float(drawn.cost) == pytest.approx(energy, rel=1e-5)


def test_sacflows_cost_is_the_log_density_of_the_path_and_the_squashing():
    _, cfg, state = tiny("sacflow")
    s, noise = batch(1).obs[0], np.asarray(jax.random.normal(jax.random.key(2), (3, 2)))
    actor, x = state.actor.params, noise[0]
    std = np.exp(np.asarray(cfg.actor.log_std(actor, s)))
    assert np.all((std > np.exp(-5)) & (std < np.exp(2)))
    total = norm.logpdf(x).sum()
    for t, e in zip((1.0, 0.5), noise[1:], strict=True):
        mean = x - np.asarray(actor.velocity(s, x, jnp.float32(t))) / 2
        x = mean + std * e
        total += norm.logpdf(x, mean, std).sum()
    drawn = cfg.actor.draw(actor, s, noise)
    np.testing.assert_allclose(drawn.action, np.tanh(x), rtol=1e-4)
    assert float(drawn.cost) == pytest.approx(total - np.log(1 - np.tanh(x) ** 2).sum(), rel=1e-4)


def test_with_fixed_noise_the_entropy_target_of_sacflow_is_out_of_reach():
    """4 steps with sigma 0.1: the paths' entropy is -4.9 nats per dimension before the squashing, which takes
    more; the target is 0, so alpha rises at every update whatever the policy is."""
    _, cfg, state = tiny("sacflow", **{"actor.noise": "preserving", "actor.steps": 4, "actor.delay": 1})
    noise = jax.random.normal(jax.random.key(0), (4000, 5, 2))
    costs = jax.jit(jax.vmap(partial(cfg.actor.draw, state.actor.params, batch(1).obs[0])))(noise).cost
    entropy = 0.5 * np.log(2 * np.pi * np.e) * 5 + 4 * np.log(0.1 / 2)
    assert entropy == pytest.approx(-4.9, abs=0.05)
    assert float(-costs.mean()) / 2 < entropy
    after, _ = jax.jit(lambda st: path_policy.improve(cfg, st, bump, batch().obs))(state)
    assert float(after.temperature.alpha) > float(state.temperature.alpha)


def test_a_decoder_of_unequal_widths_is_refused():
    with pytest.raises(InvalidSetting, match=r"one width for all blocks of the decoder.*got \[16, 8\]"):
        tiny("sacflow", **{"actor.net": "decoder", "actor.hidden": (16, 8)})


def test_dime_starts_as_the_process_without_control():
    """Its actions are then tanh of nearly N(0, 2.5^2), and its cost near the log-density of that."""
    _, cfg, state = tiny("dime")
    noise = jax.random.normal(jax.random.key(0), (20_000, 4, 2))
    drawn = jax.jit(jax.vmap(partial(cfg.actor.draw, state.actor.params, batch(1).obs[0])))(noise)
    z = jnp.arctanh(jnp.clip(drawn.action, -1 + 1e-7, 1 - 1e-7))
    assert float(jnp.median(jnp.abs(z))) == pytest.approx(0.6745 * 2.5, rel=0.03)
    log_density = norm.logpdf(z, 0, 2.5).sum(1) - np.log1p(-(np.asarray(drawn.action) ** 2) + 1e-7).sum(1)
    assert float(drawn.cost.mean()) == pytest.approx(float(log_density.mean()), abs=0.3)


def test_dimes_step_sizes_start_as_set_and_are_learned():
    _, cfg, state = tiny("dime")
    widths = state.actor.params.widths(3)
    np.testing.assert_allclose(
        widths, 0.1 * np.asarray(paths.cosine_widths(3))[:, None] * np.ones((1, 2)), rtol=1e-5
    )
    after, _ = jax.jit(lambda st: path_policy.improve(cfg, st, bump, batch().obs))(state)
    assert float(after.actor.params.size) != float(state.actor.params.size)
    assert np.all(np.asarray(after.actor.params.friction) != np.asarray(state.actor.params.friction))


def test_the_minimiser_of_the_expectile_loss():
    """Of 0 and 1 at level 0.9 it is 0.9: 0.9 (1 - c) = 0.1 c."""
    values = jnp.array([0.0, 1.0])
    slope = jax.grad(lambda c: flowrl.expectile_loss(values - c, 0.9).sum())
    assert float(slope(0.9)) == pytest.approx(0, abs=1e-6)
    assert float(slope(0.5)) < 0 < float(slope(0.95))


def test_flowrls_weights():
    cfg = flowrl.RegressionConfig()
    better = np.array([0.0, 1.0, 5.0])
    np.testing.assert_allclose(
        cfg.weights(jnp.asarray(better)), np.clip(0.1 * np.exp(better - 2), 1e-3, 1), rtol=1e-5
    )


def behaving(state):
    """FlowRL's state with networks of the behaviour that differ, too, target networks among them."""
    old = state.behaviour
    nets = replace(old.q, params=moved(old.q.params, 5)), moved(old.target, 6)
    value = replace(old.v, params=moved(old.v.params, 7))
    return replace(apart(state), behaviour=flowrl.Behaviour(*nets, value))


def test_flowrls_behaviour_learns_from_replayed_actions_alone():
    """Q_b from V_b of the successor, V_b from the target networks' Q_b; valued is by the trained ones."""
    _, cfg, state = tiny("flowrl")
    data, b = batch(), behaving(state).behaviour
    after, metrics = jax.jit(lambda b: b.fit(cfg.behaviour, 0.9, state.updates, data))(b)
    value = jax.jit(jax.vmap(b.v.params))
    ahead = np.asarray(value(data.next_obs))[:, 0]
    wanted = np.asarray(data.reward) + 0.9 * (1 - np.asarray(data.terminated)) * ahead
    found = [np.asarray(jax.jit(jax.vmap(net))(data.obs, data.action))[:, 0] for net in b.q.params]
    loss = sum(0.5 * ((q - wanted) ** 2).mean() for q in found)
    assert float(metrics["behaviour/q_loss"]) == pytest.approx(loss, rel=1e-4)
    error = lower_value(b.target, data.obs, data.action) - np.asarray(value(data.obs)[:, 0])
    expected = (np.where(error < 0, 0.1, 0.9) * error**2).mean()
    assert float(metrics["behaviour/v_loss"]) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(b.values(data), np.minimum(*found), rtol=1e-4)
    pairs = zip(*map(jax.tree.leaves, (b.target, after.q.params)), strict=True)
    kept = [0.995 * np.asarray(old) + 0.005 * np.asarray(new) for old, new in pairs]
    assert_close(jax.tree.leaves(after.target), kept)


def test_flowrls_behaviour_is_in_the_units_of_the_critics():
    """D compares the two: rewards times 0.25 by the critics' setting are those rewards."""
    algorithm, cfg, state = tiny("flowrl")
    data, scaled = batch(), changed(cfg, {"critic.reward_scale": 0.25})
    one = jax.jit(partial(algorithm.update, scaled))(state, data)[0]
    other = jax.jit(partial(algorithm.update, cfg))(state, data._replace(reward=0.25 * data.reward))[0]
    assert same(one.critics, other.critics)
    assert same(one.behaviour, other.behaviour)


def test_flowrls_behaviour_bootstraps_by_each_rows_own_discount():
    """Of rewards that sum several steps: the mean over rows of losses with one discount each."""
    _, cfg, state = tiny("flowrl")
    data, discounts = batch(8), jnp.array([0.9, 0.81] * 4, jnp.float32)
    fit = jax.jit(
        lambda discount, b: b.fit(cfg.behaviour, discount, state.updates, data)[1]["behaviour/q_loss"]
    )

    def alone(row):
        rows = jax.tree.map(lambda x: x[row : row + 1], data)
        loss = jax.jit(
            lambda b: b.fit(cfg.behaviour, discounts[row], state.updates, rows)[1]["behaviour/q_loss"]
        )
        return float(loss(state.behaviour))

    own = data._replace(discount=discounts)
    _, metrics = jax.jit(lambda b: b.fit(cfg.behaviour, 0.5, state.updates, own))(state.behaviour)
    assert float(metrics["behaviour/q_loss"]) == pytest.approx(
        np.mean([alone(n) for n in range(8)]), rel=1e-4
    )
    assert float(metrics["behaviour/q_loss"]) != pytest.approx(float(fit(0.5, state.behaviour)), rel=1e-3)


@pytest.mark.parametrize("target", ["latent", "action"])
def test_flowrls_regression_row_by_row(target):
    _, _, state = tiny("flowrl")
    data, actor = batch(5), state.actor.params
    noises = flowrl.Noises(data.action, jnp.full((5, 2), 0.5), jnp.linspace(0.1, 0.9, 5))
    found = flowrl.regression(actor, target, data.obs, data.action, noises)
    z = np.arctanh(np.clip(data.action, -0.999, 0.999)) if target == "latent" else np.asarray(data.action)
    for i, t in enumerate(np.asarray(noises.time)):
        x = (1 - t) * z[i] + t * 0.5
        error = (np.asarray(actor(data.obs[i], x, jnp.float32(t))) - (0.5 - z[i])) ** 2
        assert float(found[i]) == pytest.approx(error.mean(), rel=1e-4)


def flowrls_loss(cfg, state, values, data, held):
    """FlowRL's loss of one update, as a function of the network and of Q alone, and its metrics in numpy.

    ``values`` are Q of the present policy's actions, ``held`` Q_b of those replayed.
    """
    normal = lambda use: jax.random.normal(use_key(state, use), data.action.shape)  # noqa: E731
    first = jnp.clip(normal(flowrl.Use.ACTION), -1, 1)
    start, z = jnp.clip(normal(flowrl.Use.NOISE), -1, 1), jnp.arctanh(jnp.clip(data.action, -0.999, 0.999))
    t = jax.random.uniform(use_key(state, flowrl.Use.TIME), data.action.shape[:1])
    better = np.maximum(np.asarray(held) - values, 0)
    weight = np.clip(0.1 * np.exp(better - better.mean()), 1e-3, 1)
    share = weight if cfg.regression.average == "rows" else np.full_like(weight, weight.mean())

    def loss(actor, q):
        def one(s, e, begin, end, t, share):
            middle = e - 0.5 * actor(s, e, jnp.float32(1.0))
            action = jnp.tanh(e - actor(s, middle, jnp.float32(0.5)))
            v = actor(s, (1 - t) * end + t * begin, t)
            return share * jnp.mean((v - (begin - end)) ** 2) - q(s, action)

        return jax.vmap(one)(data.obs, first, start, z, t, share).mean()

    return loss, {
        "actor/q": values.mean(),
        "actor/weight_mean": weight.mean(),
        "actor/weight_std": weight.std(),
        "behaviour/better_share": (held > values).mean(),
    }


def flowrls_actions(actor, obs, noise):
    """Of the clipped noise, by one step of the midpoint method; squashed."""
    at = jax.jit(lambda x, t: jax.vmap(actor)(obs, x, jnp.full(len(obs), t)))
    e = np.clip(noise, -1, 1)
    return np.tanh(e - at(e - 0.5 * at(e, 1.0), 0.5))


@pytest.mark.parametrize("average", ["rows", "batch"])
def test_flowrls_improvement_is_one_step_with_constant_weights(average):
    """D = (Q_b - Q)_+ of rows on both sides of 0; each row by its own weight, or all by the mean."""
    _, cfg, state = tiny("flowrl", **{"regression.average": average})
    state, data, held = apart(state), batch(), jnp.linspace(-5.0, 3.0, 16)
    improve = jax.jit(lambda st: flowrl.improve(cfg, st, bump, data.obs, data.action, held))
    after, metrics = improve(state)
    noise = jax.random.normal(use_key(state, flowrl.Use.ACTION), (16, 2))
    actions = flowrls_actions(state.actor.params, data.obs, noise)
    values = -((actions - np.asarray(TARGET)) ** 2).sum(1)
    loss, wanted = flowrls_loss(cfg, state, values, data, held)
    of_bump = lambda actor: loss(actor, bump)  # noqa: E731
    wanted["actor/loss"] = jax.jit(of_bump)(state.actor.params)
    assert 0.2 < wanted["behaviour/better_share"] < 0.8
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    assert_one_step(cfg.actor, state.actor, after.actor, of_bump)


def test_flowrls_update_compares_the_fitted_behaviour_with_the_fitted_critics():
    """And its critics learn a draw of the policy by their target networks."""
    algorithm, cfg, state = tiny("flowrl")
    state, data = behaving(state), batch()
    actor = state.actor.params
    noise = jax.random.normal(use_key(state, flowrl.Use.NEXT_ACTION), (16, 2))
    after, metrics = jax.jit(partial(algorithm.update, cfg))(state, data)
    nxt = flowrls_actions(actor, data.next_obs, noise)
    assert_critics_learn(algorithm, cfg, state, data, nxt, metrics)
    one, two = after.critics.online.params
    own = flowrls_actions(actor, data.obs, jax.random.normal(use_key(state, flowrl.Use.ACTION), (16, 2)))
    values = lower_value((one, two), data.obs, own)
    held = lower_value(after.behaviour.q.params, data.obs, data.action)
    loss, wanted = flowrls_loss(cfg, state, values, data, held)
    q = lambda s, a: jnp.minimum(one(s, a)[0], two(s, a)[0])  # noqa: E731
    wanted["actor/loss"] = jax.jit(lambda actor: loss(actor, q))(actor)
    assert 0 < wanted["behaviour/better_share"] < 1
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
