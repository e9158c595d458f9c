"""The diffusion policies: what each regresses on, by numbers; what its update touches; where gradients go.

QVPO, QSM and DIPO here; DACER, MaxEntDP, SDAC and DPMD beside it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import dipo, qsm, qvpo
from fewstep.algos.contract import use_key
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.diffusion_policy import DiffusionConfig, Noised
from fewstep.errors import UsageError
from fewstep.flows import diffusion
from tests.algos.common import (
    SPEC,
    TARGET,
    apart,
    assert_close,
    assert_critics_learn,
    assert_one_step,
    batch,
    best_by,
    bump,
    changed,
    numbered,
    program,
    same,
    tiny,
)
from tests.few import few

ALL = ("dacer", "dipo", "dpmd", "maxentdp", "qsm", "qvpo", "sdac")
BATCHES = ("actor.steps", 4), ("actor.batch_size", 8), ("actor.delay", 3), ("actor.activation", "relu")
SHARED = *BATCHES, ("actor.time_features", 6)


def worth(actions):
    """``bump`` of many."""
    return -((np.asarray(actions) - np.asarray(TARGET)) ** 2).sum(-1)


noised = jax.jit(Noised.of, static_argnums=0)


def assert_follows(cfg, state, after):
    """The target policy is the Polyak average of the policy that has stepped."""
    tau, pairs = (
        cfg.actor.tau,
        zip(*map(jax.tree.leaves, (state.target_actor, after.actor.params)), strict=True),
    )
    kept = [(1 - tau) * np.asarray(a) + tau * np.asarray(b) for a, b in pairs]
    assert_close(jax.tree.leaves(after.target_actor), kept)


# ---------------------------------------------------------------------------------- the shared policy


def test_rows_are_noised_to_every_step_by_the_schedule():
    cfg = DiffusionConfig(steps=4, schedule="vp")
    actions = jnp.tile(TARGET, (4000, 1))
    at = Noised.of(cfg, jax.random.key(0), actions)
    assert sorted(set(np.asarray(at.t).tolist())) == [1, 2, 3, 4]
    assert np.all(np.abs(np.bincount(at.t)[1:] / 1000 - 1) < 0.1)
    np.testing.assert_array_equal(at.ab, cfg.alphas_bar[np.asarray(at.t)])
    np.testing.assert_allclose(jax.vmap(diffusion.clean)(at.ab, at.x, at.e), actions, atol=2e-4)


def test_the_loss_is_a_weighted_mean_over_rows_and_dimensions():
    cfg = DiffusionConfig(hidden=(8,), time_features=4, steps=3)
    actor = cfg.create(jax.random.key(0), SPEC)
    data = batch(5)
    at = Noised.of(cfg, jax.random.key(1), data.action)
    target, weight = jnp.ones((5, 2)), jnp.arange(5.0)
    guess = np.stack([actor(s, x, t) for s, x, t in zip(data.obs, at.x, at.t, strict=True)])
    error = ((guess - 1) ** 2).mean(1)
    found = dp.regression(actor, data.obs, at, target, weight)
    np.testing.assert_allclose(found, [(np.arange(5) * error).mean(), error.mean()], rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_actions_are_in_the_box_and_differ_by_noise(name):
    algorithm, cfg, state = tiny(name)
    policy = algorithm.policy(state)
    assert algorithm.noise(cfg, policy) == (3, 2)
    drawn = dp.draw_candidates(cfg.actor, policy.actor, batch(4).obs, 50, jax.random.key(0))
    assert drawn.shape == (4, 50, 2)
    assert np.all(np.abs(drawn) <= 1)
    assert np.all(drawn.std(axis=1) > 0)


@few(
    ("name", "setting"),
    [
        *((name, {setting: value}) for name in ALL for setting, value in SHARED),
        *((name, {"actor.tau": 0.5}) for name in ("dipo", "dpmd", "qvpo", "sdac")),
        *((name, {"actor.candidates": 5}) for name in ("dpmd", "sdac")),
        *((name, {"temperature.noise": 0.3}) for name in ("dacer", "dpmd", "sdac")),
        *((name, {"temperature.delay": 3}) for name in ("dacer", "dpmd", "sdac")),
        ("qvpo", {"actor.candidates": 3}),
        ("qvpo", {"regression.candidates": 5}),
        ("qvpo", {"regression.uniform": 0}),
        ("qvpo", {"regression.uniform_share": 0.5}),
        ("qvpo", {"regression.uniform_final_share": 0.5}),
        ("qvpo", {"regression.uniform_updates": 3}),
        ("qsm", {"actor.inverse_temperature": 3.0}),
        ("qsm", {"actor.factor": "one"}),
        ("qsm", {"actor.exploration_noise": 0.5}),
        ("dipo", {"relabel.steps": 3}),
        ("dipo", {"relabel.learning_rate": 0.5}),
        ("dipo", {"relabel.max_grad_norm": 0.0}),
        ("sdac", {"regression.candidates": 5}),
        ("sdac", {"regression.sharpness": 1.0}),
        ("sdac", {"regression.proposals": "clipped"}),
        ("dpmd", {"regression.advantage": "literal"}),
        ("dpmd", {"regression.clip": 1.0}),
        ("dpmd", {"regression.rate": 0.5}),
        ("maxentdp", {"regression.candidates": 5}),
        ("maxentdp", {"regression.estimator": "idem"}),
        ("maxentdp", {"regression.estimator": "qsm"}),
        ("maxentdp", {"likelihood.samples": 2}),
        ("maxentdp", {"temperature.automatic": True}),
        ("dacer", {"entropy.states": 3}),
        ("dacer", {"entropy.samples": 9}),
        ("dacer", {"entropy.components": 2}),
        ("dacer", {"entropy.iterations": 3}),
        ("dacer", {"entropy.estimator": "bound"}),
    ],
)
def test_every_option_changes_the_update(name, setting):
    algorithm, cfg, state = tiny(name)
    other = changed(cfg, setting)
    data = numbered()
    start = algorithm.init(other, SPEC, jax.random.key(0))
    assert program(algorithm.update, cfg, state, data) != program(algorithm.update, other, start, data)


def test_more_steps_than_float32_holds_of_the_steep_schedule_are_refused():
    assert DiffusionConfig(schedule="steep", steps=100).alphas_bar[-1] > 0
    with pytest.raises(UsageError, match=r"at most 100 steps, got .* 101"):
        DiffusionConfig(schedule="steep", steps=101)


# ---------------------------------------------------------------------------------------------- QVPO


def test_qvpo_picks_the_best_of_every_state():
    actions = jax.random.uniform(jax.random.key(0), (6, 9, 2), minval=-1, maxval=1)
    top, values = dp.best(bump, batch(6).obs, actions)
    for row in range(6):
        each = [float(bump(None, a)) for a in actions[row]]
        np.testing.assert_allclose(values[row], each, rtol=1e-6)
        np.testing.assert_array_equal(top[row], actions[row, int(np.argmax(each))])


def denoising(obs, at, target, weight):
    """E[w |target - eps(s, x_t, t)|^2 / d] as a function of the network eps alone."""
    return lambda net: jnp.mean(weight * jnp.mean((jax.vmap(net)(obs, at.x, at.t) - target) ** 2, axis=1))


def test_qvpo_steps_to_its_best_by_their_advantage_and_to_uniform_actions_by_a_share_of_it():
    """One update from the same keys, with a loop over states; draws and weights are not differentiated."""
    _, cfg, state = tiny("qvpo", **{"actor.max_grad_norm": 0.0})
    state, obs = apart(state), batch(4).obs
    after, metrics = jax.jit(lambda st: qvpo.improve(cfg, st, bump, obs))(state)
    actor, drawing = state.actor.params, jax.jit(dp.draw_candidates, static_argnums=(0, 3))
    drawn = drawing(cfg.actor, actor, obs, 3, use_key(state, qvpo.Use.CANDIDATES))
    key = use_key(state, qvpo.Use.UNIFORM)
    uniform = jax.random.uniform(key, (4, 2, 2), minval=-1.0, maxval=1.0)
    rows, weights = [], []
    for mine, other in zip(np.asarray(drawn), np.asarray(uniform), strict=True):
        values = worth(mine)
        rows += [mine[values.argmax()], *other]
        weights += [values.max() - values.mean(), *[0.02 * (values.max() - values.mean())] * 2]
    at = noised(cfg.actor, use_key(state, qvpo.Use.NOISE), np.stack(rows))
    loss = denoising(np.repeat(obs, 3, axis=0), at, at.e, np.float32(weights))
    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(actor), rtol=1e-4)
    np.testing.assert_allclose(metrics["policy/candidate_q_gap"], np.mean(weights[::3]), rtol=1e-4)
    assert_one_step(cfg.actor, state.actor, after.actor, loss)
    assert_follows(cfg, state, after)


def test_qvpos_critics_learn_the_target_policys_best_by_the_target_critics():
    algorithm, cfg, state = tiny("qvpo", **{"actor.target_candidates": 5})
    state, data = apart(state), batch()
    drawing = jax.jit(lambda net: dp.draw_candidates(cfg.actor, net, data.next_obs, 5, key))
    key = use_key(state, qvpo.Use.NEXT_ACTION)
    nxt, place = best_by(state.critics.target, data.next_obs, drawing(state.target_actor))
    _, other = best_by(state.critics.online.params, data.next_obs, drawing(state.target_actor))
    assert len(set(place)) > 1
    assert np.any(place != other)
    assert_critics_learn(algorithm, cfg, state, data, nxt)


def test_qvpo_learns_nothing_where_all_actions_are_worth_the_same():
    _, cfg, state = tiny("qvpo")
    flat = lambda s, a: 0.0 * a.sum()  # noqa: E731
    after, metrics = jax.jit(lambda st: qvpo.improve(cfg, st, flat, batch(4).obs))(state)
    assert metrics["actor/loss"] == 0
    assert same(after.actor.params, state.actor.params)


def test_qvpos_uniform_share_falls_linearly():
    cfg = qvpo.RegressionConfig(uniform_updates=100)
    shares = [float(cfg.share(jnp.int32(n))) for n in (0, 50, 100, 1000)]
    np.testing.assert_allclose(shares, [0.02, 0.011, 0.002, 0.002], rtol=1e-5)


# ----------------------------------------------------------------------------------------------- QSM


@pytest.mark.parametrize("factor", ["noise", "one"])
def test_qsms_target_is_the_gradient_at_the_noised_action(factor):
    cfg = qsm.ActorConfig(inverse_temperature=3.0, factor=factor)
    x, ab = jnp.array([0.9, 0.1]), jnp.float32(0.36)
    gradient = 3.0 * -2.0 * (x - TARGET)
    expected = -gradient * (0.8 if factor == "noise" else 1.0)
    np.testing.assert_allclose(qsm.noise_target(cfg, bump, None, x, ab), expected, rtol=1e-6)


def qsm_actions(**settings):
    """What QSM's target itself samples, where the critic is ``bump``: no network is between them."""
    cfg = qsm.ActorConfig(inverse_temperature=50.0, **settings)
    table = jnp.asarray(cfg.alphas_bar)
    guess = lambda x, t: qsm.noise_target(cfg, bump, None, x, table[t])  # noqa: E731
    noise = jax.random.normal(jax.random.key(0), (20_000, cfg.steps, 2))
    return jax.jit(jax.vmap(lambda n: diffusion.sample(cfg.alphas_bar, guess, n)))(noise)


@pytest.mark.parametrize(("factor", "share"), [("noise", 0.61), ("one", 0.095)])
def test_qsms_spread_is_below_the_gaussian_that_its_critic_stands_for(factor, share):
    """exp(M Q) with Q = -|a - c|^2 is N(c, 1 / (2 M)). The mean is met, the spread is a ``share`` of it.

    The target has the slope of the action's density at every noise, where the noised density's is lower.
    """
    a = qsm_actions(steps=200, schedule="cosine", factor=factor)
    np.testing.assert_allclose(a.mean(0), TARGET, atol=0.02)
    np.testing.assert_allclose(a.std(0), 0.1 * share, atol=0.002)


def test_qsm_overshoots_where_its_steps_are_too_coarse_for_m():
    """A step back moves by (1 - ab) M Q'', here 0.2 x 100: beyond 2 it overshoots, into corners."""
    assert np.mean(np.abs(qsm_actions(steps=5)) > 0.99) > 0.9


def end_of_the_authors_chain(table, noise):
    """Of a guess of 0: the point is clipped after every step and the noise added has variance beta."""
    x = noise[:, 0]
    for t in range(len(table) - 1, 0, -1):
        keeps = table[t] / table[t - 1]
        x = x / np.sqrt(keeps) + (np.sqrt(1 - keeps) * noise[:, len(table) - t] if t > 1 else 0)
        x = np.clip(x, -1, 1)
    return x


@pytest.mark.parametrize(
    ("schedule", "steps", "ours", "theirs"), [("vp", 5, 0.46, 0.67), ("cosine", 20, 0.28, 0.17)]
)
def test_where_q_is_flat_the_chain_of_qsm_ends_at_the_bounds(schedule, steps, ours, theirs):
    """Shares of coordinates, of our sampler and of the authors' one (docs/algorithms/qsm.md)."""
    table = qsm.ActorConfig(steps=steps, schedule=schedule).alphas_bar
    noise = jax.random.normal(jax.random.key(0), (20_000, steps, 2))
    found = jax.vmap(lambda n: diffusion.sample(table, lambda x, t: jnp.zeros_like(x), n))(noise)
    assert np.mean(np.abs(found) > 1 - 1e-5) == pytest.approx(ours, abs=0.01)
    chain = end_of_the_authors_chain(np.asarray(table), np.asarray(noise))
    assert np.mean(np.abs(chain) > 1 - 1e-5) == pytest.approx(theirs, abs=0.01)


def test_qsms_collected_and_successor_actions_carry_the_same_noise():
    algorithm, cfg, state = tiny("qsm", **{"actor.exploration_noise": 0.3})
    noise = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(qsm.explore(cfg, None, TARGET, noise), TARGET + 0.3 * noise, rtol=1e-6)
    state, data = apart(state), batch()
    drawing = jax.jit(partial(dp.draw_rows, cfg.actor))
    drawn = drawing(state.actor.params, data.next_obs, use_key(state, qsm.Use.NEXT_ACTION))
    added = jax.random.normal(use_key(state, qsm.Use.EXPLORATION), (16, 2))
    nxt = np.clip(drawn + 0.3 * added, -1, 1)
    assert_critics_learn(algorithm, cfg, state, data, nxt)


def test_qsm_steps_to_the_gradient_of_the_critics_mean_at_the_noised_action():
    """A policy update as ``update`` makes it, by the critics that it has just fitted."""
    algorithm, cfg, state = tiny("qsm", **{"actor.inverse_temperature": 3.0})
    state, data = apart(state), batch()
    after, metrics = jax.jit(partial(algorithm.update, cfg))(state, data)
    at = noised(cfg.actor, use_key(state, qsm.Use.NOISE), data.action)
    one, two = after.critics.online.params
    slope = jax.jit(jax.vmap(jax.grad(lambda a, s: 0.5 * (one(s, a)[0] + two(s, a)[0]))))(at.x, data.obs)
    target = -np.sqrt(1 - np.asarray(at.ab))[:, None] * 3.0 * slope
    loss = denoising(data.obs, at, target, 1.0)
    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(state.actor.params), rtol=1e-4)
    size = np.linalg.norm(target, axis=1).mean()
    np.testing.assert_allclose(metrics["actor/target_norm"], size, rtol=1e-4)
    assert_one_step(cfg.actor, state.actor, after.actor, loss)


# ---------------------------------------------------------------------------------------------- DIPO


def test_dipos_actions_climb_to_the_maximum_and_stay_in_the_box():
    cfg = dipo.RelabelConfig(steps=200)
    obs, actions = batch(6).obs, batch(6).action
    moved, values = dipo.climbed(cfg, bump, obs, actions)
    np.testing.assert_allclose(moved, jnp.tile(TARGET, (6, 1)), atol=0.02)
    np.testing.assert_allclose(values[0], jax.vmap(bump)(obs, actions).mean(), rtol=1e-5)
    assert values[-1] > -1e-3
    edge, _ = dipo.climbed(cfg, lambda s, a: 5.0 * a.sum(), obs, actions)
    np.testing.assert_array_equal(edge, jnp.ones((6, 2)))


def test_dipos_first_step_is_adams():
    """From fresh moments every coordinate moves by the learning rate, whatever its gradient."""
    cfg = dipo.RelabelConfig(steps=1, learning_rate=0.01)
    inside = 0.5 * batch(6).action
    moved, _ = dipo.climbed(cfg, bump, batch(6).obs, inside)
    np.testing.assert_allclose(moved - inside, 0.01 * jnp.sign(TARGET - inside), rtol=1e-3)


def test_dipo_writes_back_the_rows_it_drew_and_no_others_and_goes_on_from_them():
    _, cfg, state = tiny("dipo")
    data = numbered(8)
    improve = jax.jit(lambda st, d: dipo.improve(cfg, st, bump, d.obs, d.action, d.number))
    after, metrics = improve(state, data)
    written = np.flatnonzero(np.asarray(after.memory.owner) >= 0)
    np.testing.assert_array_equal(written, np.arange(100, 108))
    once, _ = dipo.climbed(cfg.relabel, bump, data.obs, data.action)
    np.testing.assert_allclose(after.memory.read(data.number, data.action), once, rtol=1e-6)
    again, _ = improve(after, data)
    twice, _ = dipo.climbed(cfg.relabel, bump, data.obs, once)
    np.testing.assert_allclose(again.memory.read(data.number, data.action), twice, rtol=1e-5)
    assert metrics["policy/relabel_gain"] > 0
    # A row drawn twice in one batch gets one action.
    double = jax.tree.map(lambda x: jnp.concatenate([x, x]), data)
    moved, _ = dipo.climbed(cfg.relabel, bump, double.obs, double.action)
    np.testing.assert_array_equal(moved[:8], moved[8:])


def test_dipo_steps_to_the_moved_actions():
    """Not to those that were taken; from the same keys. The target policy follows."""
    _, cfg, state = tiny("dipo", **{"actor.max_grad_norm": 0.0, "relabel.learning_rate": 0.3})
    state, data = apart(state), numbered(8)
    improve = jax.jit(lambda st: dipo.improve(cfg, st, bump, data.obs, data.action, data.number))
    after, metrics = improve(state)
    better, _ = jax.jit(partial(dipo.climbed, cfg.relabel, bump))(data.obs, data.action)
    at = noised(cfg.actor, use_key(state, dipo.Use.NOISE), better)
    loss = denoising(data.obs, at, at.e, 1.0)
    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(state.actor.params), rtol=1e-4)
    distance = np.linalg.norm(better - data.action, axis=1).mean()
    np.testing.assert_allclose(metrics["policy/relabel_distance"], distance, rtol=1e-4)
    assert_one_step(cfg.actor, state.actor, after.actor, loss)
    assert_follows(cfg, state, after)


def test_dipos_critics_learn_a_draw_of_the_target_policy():
    algorithm, cfg, state = tiny("dipo")
    state, data = apart(state), numbered()
    drawing = jax.jit(partial(dp.draw_rows, cfg.actor))
    nxt = drawing(state.target_actor, data.next_obs, use_key(state, dipo.Use.NEXT_ACTION))
    assert_critics_learn(algorithm, cfg, state, data, nxt)


# ------------------------------------------------------------------------------------ what is delayed


@pytest.mark.parametrize("name", ALL)
def test_a_delayed_policy_stands_still_between_its_updates(name):
    algorithm, cfg, state = tiny(name, **{"actor.delay": 2})
    step = jax.jit(lambda st: algorithm.update(cfg, st, numbered()))
    first, _ = step(state)
    second, _ = step(first)
    third, _ = step(second)
    assert not same(first.actor, state.actor)
    assert same(second.actor, first.actor)
    assert not same(third.actor, second.actor)
    assert not same(second.critics, first.critics)
