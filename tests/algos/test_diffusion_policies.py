"""The diffusion policies: what each regresses on, by numbers; what its update touches; where gradients go.

QVPO, QSM and DIPO here; DACER, MaxEntDP, SDAC and DPMD beside it.
"""

from dataclasses import replace
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
from tests.algos.common import SPEC, TARGET, batch, bump, changed, numbered, program, reached, same, tiny
from tests.few import few

ALL = ("dacer", "dipo", "dpmd", "maxentdp", "qsm", "qvpo", "sdac")
BATCHES = ("actor.steps", 4), ("actor.batch_size", 8), ("actor.delay", 3), ("actor.activation", "relu")
SHARED = *BATCHES, ("actor.time_features", 6)


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


def test_qvpo_weights_the_best_by_its_advantage_and_uniform_actions_by_a_share_of_it():
    """The loss of one update, recomputed from the same keys with a loop over states."""
    _, cfg, state = tiny("qvpo")
    obs = batch(4).obs
    _, metrics = jax.jit(lambda st: qvpo.improve(cfg, st, bump, obs))(state)
    actor = state.actor.params
    drawn = dp.draw_candidates(cfg.actor, actor, obs, 3, use_key(state, qvpo.Use.CANDIDATES))
    key = use_key(state, qvpo.Use.UNIFORM)
    uniform = jax.random.uniform(key, (4, 2, 2), minval=-1.0, maxval=1.0)
    rows, weights = [], []
    for mine, other in zip(drawn, uniform, strict=True):
        values = np.array([bump(None, a) for a in mine])
        rows += [mine[values.argmax()], *other]
        weights += [values.max() - values.mean(), *[0.02 * (values.max() - values.mean())] * 2]
    at = Noised.of(cfg.actor, use_key(state, qvpo.Use.NOISE), jnp.stack(rows))
    loss, _ = dp.regression(actor, jnp.repeat(obs, 3, axis=0), at, at.e, jnp.asarray(weights))
    np.testing.assert_allclose(metrics["actor/loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["policy/candidate_q_gap"], np.mean(weights[::3]), rtol=1e-4)


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


def test_qsms_collected_and_successor_actions_carry_the_same_noise():
    _, cfg, state = tiny("qsm", **{"actor.exploration_noise": 0.3})
    noise = jnp.array([1.0, -2.0])
    explored = qsm.explore(cfg, None, TARGET, noise)
    np.testing.assert_allclose(explored, TARGET + 0.3 * noise, rtol=1e-6)
    quiet = changed(cfg, {"actor.exploration_noise": 0.0})
    after = [jax.jit(partial(qsm.update, c))(state, batch())[0].critics for c in (cfg, quiet)]
    assert not same(*after)


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


# ------------------------------------------------------------------------------------ what learns what


@pytest.mark.parametrize("name", ["dipo", "qsm", "qvpo"])
def test_the_policys_loss_reaches_the_noise_network_alone(name):
    _, cfg, state = tiny(name)
    data = numbered()
    q = lambda critics: critics.q(cfg.critic)  # noqa: E731

    def loss(groups):
        st = replace(state, actor=replace(state.actor, params=groups["actor"]))
        at = Noised.of(cfg.actor, jax.random.key(0), data.action)
        if name == "qsm":
            target = jax.vmap(lambda s, x, ab: qsm.noise_target(cfg.actor, q(groups["critics"]), s, x, ab))
            aim = jax.lax.stop_gradient(target(data.obs, at.x, at.ab))
        else:
            aim = at.e
        return dp.regression(st.actor.params, data.obs, at, aim, jnp.ones(16))[0]

    assert reached(loss, {"actor": state.actor.params, "critics": state.critics}) == {"actor"}


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
