"""MFPO: sizes, gradient flow, targets by finite differences, options, and a target known exactly."""

from dataclasses import replace
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.contract import use_key
from fewstep.algos.mfpo import ALGORITHM, learner, losses, policy, targets
from fewstep.algos.mfpo.config import DivergenceConfig, MFPOConfig
from fewstep.config import settings
from fewstep.errors import UsageError
from fewstep.flows.times import TimeRows, sample_times
from fewstep.nets.frozen import frozen
from fewstep.types import Spec
from tests.algos.common import (
    assert_close,
    assert_one_step,
    batch,
    bump,
    changed,
    meanflow_errors,
    program,
    reached,
    same,
)
from tests.critics.reference import expected
from tests.few import slow

SPEC = Spec(3, 2)
SIZES = {"proposals": {"policy": 4, "gaussian": 6, "block": 8}, "critic": {"v_min": -5.0, "v_max": 5.0}}
TINY = changed(changed(MFPOConfig(), ALGORITHM.tiny), SIZES)


def state(cfg=TINY, spec=SPEC, seed=0):
    return learner.init(cfg, spec, jax.random.key(seed))


@cache
def step(cfg):
    """One jitted update; compiling it is what these tests spend their time on."""
    return jax.jit(lambda s, b: learner.update(cfg, s, b))


def updated(cfg, count=1):
    s, metrics = state(cfg), {}
    for i in range(count):
        s, metrics = step(cfg)(s, batch(seed=i))
    return s, metrics


def size_of(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def nets(s):
    """Average velocity and average divergence."""
    return s.actor.params, s.divergence.params


# -------------------------------------------------------------------------------------------- sizes and start


@pytest.mark.parametrize(
    ("obs", "act", "actor", "divergence", "critic"),
    [
        (11, 3, 179_075, 178_561, 162_917),
        (17, 6, 182_150, 180_865, 165_221),
        (111, 8, 207_240, 205_441, 189_797),
        (376, 17, 279_697, 275_585, 259_941),
    ],
)
def test_parameter_counts_are_the_authors(obs, act, actor, divergence, critic):
    s = jax.eval_shape(lambda k: learner.init(MFPOConfig(), Spec(obs, act), k), jax.random.key(0))
    assert (size_of(s.actor.params), size_of(s.divergence.params)) == (actor, divergence)
    assert size_of(s.critics.online.params[0]) == size_of(s.critics.target[1]) == critic


@pytest.mark.parametrize(("head", "spread"), [("zeros", 0.0), ("random", 62.0)])
def test_a_zero_head_starts_at_value_zero_and_a_random_head_at_the_authors_noise(head, spread):
    obs, act = (
        jax.random.normal(jax.random.key(1), (2000, 17)),
        jax.random.normal(jax.random.key(2), (2000, 6)),
    )
    cfg = changed(MFPOConfig(), {"critic.head_init": head})
    q = jax.vmap(state(cfg, Spec(17, 6)).critics.first_q(cfg.critic))(obs, act)
    assert abs(float(q.std()) - spread) < 20.0
    if head == "zeros":
        assert float(jnp.abs(q).max()) < 1e-3


def test_initial_entropy_is_near_that_of_the_noise():
    """The clipped flow starts near a standard normal: 1.42 nats a dimension, as in the authors' code."""
    cfg = MFPOConfig()
    s, noise = state(cfg, Spec(17, 6)), jax.random.normal(jax.random.key(1), (500, 6))
    log_prob = jax.vmap(lambda e: policy.draw(cfg, *nets(s), jnp.ones(17), e))(noise).log_prob
    assert abs(-float(log_prob.mean()) / 6 - 1.42) < 0.35


# ---------------------------------------------------------------------------------------------- gradient flow


@cache
def warm():
    """Networks whose every parameter matters: heads that begin at zero have left it."""
    s, keys = state(), iter(jax.random.split(jax.random.key(9), 200))

    def moved(x):
        return x + 0.1 * jax.random.normal(next(keys), x.shape)

    trained = {name: getattr(s, name) for name in ("actor", "divergence")}
    moved_nets = {k: replace(v, params=jax.tree.map(moved, v.params)) for k, v in trained.items()}
    online = replace(s.critics.online, params=jax.tree.map(moved, s.critics.online.params))
    return replace(s, **moved_nets, critics=replace(s.critics, online=online))


def groups_of(s):
    return {
        "actor": s.actor.params,
        "divergence": s.divergence.params,
        "critics": s.critics.online.params,
        "alpha": s.temperature.log.params,
    }


def test_the_divergences_regression_differentiates_the_divergence_alone():
    """Not the actor, whose velocity and divergence it regresses on."""
    s, b = warm(), batch()
    t = jnp.linspace(0.1, 0.9, 16)
    r = jnp.where(jnp.arange(16) < 12, t, 0.5 * t)

    def divergence(g):
        probes = jnp.ones((16, 2, 2))
        return losses.divergence_regression(g["divergence"], g["actor"], 12, b.obs, b.action, probes, r, t)[0]

    groups = {"actor": s.actor.params, "divergence": s.divergence.params}
    assert reached(divergence, groups) == {"divergence"}


def test_the_actors_step_is_one_to_constant_targets_of_the_velocities_that_were_estimated():
    """By the MeanFlow identity in all rows, of which those with r = t come first; critics stand still."""
    s, obs = warm(), batch().obs
    after, found, metrics = jax.jit(lambda s: learner.update_actor(TINY, s, bump, obs))(s)
    rows, times = TimeRows.split(16, 0.75, 0.5), TINY.times
    r, t = sample_times(
        use_key(s, learner.Use.ACTOR_TIMES), rows, mean=times.mean, std=times.std, clamp=times.clamp, steps=2
    )
    assert (r == t).sum() == 12
    errors = meanflow_errors(s.actor.params, obs, found.x[:, 0], r, t, found.v[:, 0])
    loss = lambda actor: errors(actor).mean()  # noqa: E731
    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(s.actor.params), rtol=1e-4)
    assert_one_step(TINY.actor, s.actor, after.actor, loss)
    assert same((after.critics, after.divergence), (s.critics, s.divergence))


@pytest.mark.parametrize(("target", "sign"), [(50.0, 1), (-50.0, -1)])
def test_alpha_rises_while_the_entropy_is_below_its_target(target, sign):
    """One step down alpha (H - target), H by the log-densities of the old policy's candidates."""
    aimed = changed(TINY, {"temperature.target_entropy_per_dim": target})
    s = warm()

    @jax.jit
    def step(s):
        after, metrics = learner.improve(aimed, s, bump, batch().obs)
        return after.temperature, metrics["policy/entropy"]

    after, entropy = step(s)
    assert np.sign(float(after.alpha - s.temperature.alpha)) == sign
    loss = lambda log: jnp.exp(log) * (entropy - 2 * target)  # noqa: E731
    assert_one_step(aimed.temperature, s.temperature.log, after.log, loss)


def test_rewards_times_a_factor_leave_the_velocity():
    """Q and alpha times c: the weights are exp(Q / alpha)."""
    s, b = warm(), batch()
    t, keys = jnp.linspace(0.1, 0.9, 16)[:, None], jax.random.split(jax.random.key(5), 16)

    @jax.jit
    def velocity(c):
        def q(obs, a):
            return c * s.critics.q(TINY.critic)(obs, a)

        return jax.vmap(lambda o, t, k: targets.estimate_velocity(TINY, *nets(s), q, c * 0.3, o, t, k).v)(
            b.obs, t, keys
        )

    np.testing.assert_allclose(velocity(1.0), velocity(0.005), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_who_moves_in_which_part_of_the_update():
    """The critics' step moves critics alone; the policy's part everything else."""
    cfg = changed(TINY, {"actor.delay": 2})
    first = step(cfg)(state(cfg), batch(seed=0))[0]
    second = step(cfg)(first, batch(seed=1))[0]
    third = step(cfg)(second, batch(seed=2))[0]
    for name in ("actor", "divergence", "temperature", "held"):
        due = [
            same(getattr(a, name), getattr(b, name)) for a, b in pairwise((state(cfg), first, second, third))
        ]
        assert due == [False, True, False], name
    assert not same(first.critics.online, second.critics.online)
    improved, _ = jax.jit(lambda s: learner.improve(cfg, s, s.critics.q(cfg.critic), batch().obs))(second)
    assert same(improved.critics, second.critics)


@pytest.mark.slow
def test_the_divergence_is_that_of_the_new_actor():
    """Regressed after the actor's step, at the points that this step used."""
    s = warm()
    q, obs = s.critics.q(TINY.critic), batch().obs

    @jax.jit
    def both(s):
        moved, estimate, _ = learner.update_actor(TINY, s, q, obs)
        return learner.update_divergence(TINY, moved, estimate, obs)[0], learner.improve(TINY, s, q, obs)[0]

    by_hand, whole = both(s)
    assert_close(by_hand.divergence.params, whole.divergence.params)
    assert_close(by_hand.actor.params, whole.actor.params)


# -------------------------------------------------------------------------------------------- the regressions


H = 1e-5


@pytest.fixture
def in_float64():
    """Networks and rows, of which r = t in the first two: (s, x, v, r, t) of each."""
    made = nets(warm())
    rng, t, length = np.random.default_rng(0), np.array([0.2, 0.7, 0.5, 0.9, 1.0]), [0.0, 0.0, 0.4, 0.6, 1.0]
    with jax.enable_x64(True):
        actor, div = jax.tree.map(lambda x: x.astype(jnp.float64), made)
        yield actor, div, (rng.normal(size=(5, 3)), *rng.normal(size=(2, 5, 2)), t - length, t)


def along(f, x, r, t, v):
    """The derivative of f where x moves with v and t with 1."""
    return (f(x + H * v, r, t + H) - f(x - H * v, r, t - H)) / (2 * H)


def regression(net, rows, targets):
    """The mean squared error to constant targets, and its gradient."""
    s, x, _, r, t = rows

    def loss(net):
        return jnp.mean((jax.vmap(net)(s, x, r, t) - np.reshape(targets, (len(t), -1))) ** 2)

    return jax.jit(jax.value_and_grad(loss))(net)


@pytest.mark.parametrize("equal", [0, 2])
def test_the_velocity_regresses_on_v_less_the_interval_times_its_derivative_along_the_flow(in_float64, equal):
    """By finite differences; gradients reach the value alone. Rows with r = t may be told apart or not."""
    actor, _, rows = in_float64
    net = jax.jit(actor.__call__)
    wanted = [v - (t - r) * along(partial(net, s), x, r, t, v) for s, x, v, r, t in zip(*rows, strict=True)]
    loss = jax.jit(jax.value_and_grad(lambda net: losses.actor_regression(net, equal, *rows)[0]))
    assert_close(loss(actor), regression(actor, rows, wanted), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("equal", [0, 2])
def test_the_divergence_regresses_on_the_traces_along_the_actors_own_velocity(in_float64, equal):
    """By finite differences: the mean of e . J e over three probes, J of the velocity u(x, t, t)."""
    actor, div, rows = in_float64
    probes = np.random.default_rng(1).normal(size=(5, 3, 2))
    net, net_div = jax.jit(actor.__call__), jax.jit(div.__call__)
    traces, wanted = [], []
    for s, x, _, r, t, es in zip(*rows, probes, strict=True):
        moved = [net(s, x + H * e, t, t) - net(s, x - H * e, t, t) for e in es]
        traces.append(np.mean([e @ change / (2 * H) for e, change in zip(es, moved, strict=True)]))
        wanted.append(traces[-1] - (t - r) * along(partial(net_div, s), x, r, t, net(s, x, t, t)))
    s, x, _, r, t = rows

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def loss(net):
        return losses.divergence_regression(net, actor, equal, s, x, probes, r, t)

    (value, trace), slopes = loss(div)
    assert_close((value, slopes), regression(div, rows, wanted), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(trace, np.mean(traces), rtol=1e-7)


@pytest.mark.parametrize(
    ("bound", "mixing"), [("tanh", "gaussian"), ("tanh", "policy"), ("clip", "gaussian")]
)
def test_the_estimated_velocity_is_that_of_the_boltzmann_policy_by_quadrature(bound, mixing):
    """E[(x - z) / t | x] for z ~ exp(Q(a(z)) / alpha) |da / dz|, with many candidates.

    Q is a sum over the dimensions of the action, so the integrals are over one of them.
    """
    proposals = {"policy": 20_000, "gaussian": 20_000, "noise": "stratified", "mixing": mixing}
    cfg = changed(TINY, {"actor.bound": bound, "divergence.log_prob": "exact", "proposals": proposals})
    s, alpha, times = warm(), 0.8, jnp.array([0.3, 0.6, 0.95])

    @jax.jit
    def estimate(key):
        q = lambda s, a: jnp.sin(3 * a + 0.5).sum()  # noqa: E731
        return targets.estimate_velocity(cfg, *nets(s), q, alpha, jnp.ones(3), times, key)

    found = estimate(jax.random.key(4))
    z = np.linspace(-1, 1, 4001) if bound == "clip" else np.linspace(-12, 12, 40_001)
    a = z if bound == "clip" else np.tanh(z)
    log_p = np.sin(3 * a + 0.5) / alpha - (0 if bound == "clip" else 2 * np.log(np.cosh(z)))
    t, x = times[:, None, None], np.asarray(found.x)[..., None]
    weights = np.exp(log_p - (x - (1 - t) * z) ** 2 / (2 * t**2))
    mean = (weights * z).sum(-1) / weights.sum(-1)
    np.testing.assert_allclose(found.v, (x - mean[..., None])[..., 0] / t[..., 0], atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [(0, 16), (16, 0)])
def test_batches_of_one_kind_of_time_are_fine(rows):
    cfg = changed(TINY, {"times.equal_share": rows[0] / 16})
    _, metrics = updated(cfg)
    assert all(np.isfinite(float(m)) for m in metrics.values())


# ------------------------------------------------------------------------------------------------- the update


@pytest.mark.parametrize("soft_backup", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_critics_regress_on_the_soft_target(soft_backup):
    """a' and its entropy bonus from the policy and the temperature before the update."""
    cfg = changed(TINY, {"soft_backup": soft_backup, "temperature.initial": 0.3})
    s, b = replace(warm(), temperature=state(cfg).temperature), batch(seed=7)
    noise = jax.random.normal(use_key(s, learner.Use.CRITIC_ACTION), b.action.shape)
    nxt = jax.vmap(lambda o, e: policy.draw(cfg, *nets(s), o, e))(b.next_obs, noise)
    bonus = -s.temperature.alpha * nxt.log_prob if soft_backup else None
    wanted, _ = expected(cfg.critic, 0.99, s.critics, b, nxt.action, bonus)
    # The policy's part is not asked for, and so not compiled.
    metrics = jax.jit(lambda s, b: {name: learner.update(cfg, s, b)[1][name] for name in wanted})(s, b)
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_the_size_of_a_block_does_not_change_the_update():
    results = [updated(changed(TINY, {"proposals.block": block}))[0] for block in (0, 8, 5)]
    for other in results[1:]:
        assert_close(results[0].actor, other.actor, rtol=1e-4)


def test_points_of_a_state_share_its_policy_candidates_and_start_from_different_ones():
    s, key, t = state(), jax.random.key(5), jnp.array([0.3, 0.6, 0.9])

    @jax.jit
    def estimate(key):
        q = lambda s, a: -jnp.sum((a - 0.2) ** 2)  # noqa: E731
        return targets.estimate_velocity(TINY, *nets(s), q, 0.5, jnp.ones(3), t, key)

    found = estimate(key)
    assert found.x.shape == found.v.shape == (3, 2)
    assert found.log_prob.shape == (4,)
    assert len(np.unique(np.asarray(found.sample), axis=0)) == 3
    # The k-th noise of the state's four gives the sample that the k-th point starts from.
    noise = jax.random.normal(jax.random.split(key, 3)[0], (4, 2))
    draws = jax.jit(jax.vmap(lambda e: policy.draw(TINY, *nets(s), jnp.ones(3), e)))(noise)
    np.testing.assert_allclose(found.sample, draws.action[:3], rtol=1e-5, atol=1e-6)


def test_rows_of_points_stand_beside_the_states_they_belong_to():
    states, points = jnp.arange(4.0)[:, None], 3
    x = states[:, None] + 10.0 * jnp.arange(points)[None, :, None]
    rows, obs = learner._rows(x), learner._repeat(states, points)
    np.testing.assert_array_equal(rows % 10, obs)
    np.testing.assert_array_equal(rows[:4, 0], jnp.arange(4.0))


BFLOAT16 = changed(TINY, {"proposals.precision": "bfloat16"})


def test_candidates_in_bfloat16_are_judged_nearly_alike():
    """The default critic with a random head, on +-1600: Q has a spread of 62 and moves by 0.51 (rms)."""
    cfg = changed(MFPOConfig(), {"critic.head_init": "random"})
    critics, rng = state(cfg, Spec(17, 6)).critics.online_ensemble, np.random.default_rng(0)
    obs, act = rng.normal(size=(400, 17)).astype(np.float32), rng.uniform(-1, 1, (400, 6)).astype(np.float32)
    exact, rough = (
        jax.vmap(frozen(critics, precision).q(cfg.critic))(obs, act) for precision in ("float32", "bfloat16")
    )
    assert rough.dtype == jnp.float32
    error = float(jnp.sqrt(jnp.mean((rough - exact) ** 2)))
    assert 0.1 < error < 0.8
    assert error < 0.015 * float(exact.std())


@pytest.mark.slow
def test_candidates_in_bfloat16_leave_the_state_in_float32_and_the_critics_alone():
    plain, s = updated(TINY)[0], updated(BFLOAT16)[0]
    assert [x.dtype for x in jax.tree.leaves(s)] == [x.dtype for x in jax.tree.leaves(plain)]
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((s.actor, s.divergence, s.held)))
    assert_close(s.critics, plain.critics)


def test_a_precision_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(UsageError) as caught:
        settings.assignments(["proposals.precision=float16"], settings.schema(MFPOConfig))
    message = "--set: proposals.precision must be one of float32, bfloat16; got 'float16'"
    assert str(caught.value) == message


OPTIONS = [
    {"soft_backup": False},
    {"proposals": {"precision": "bfloat16"}},
    {"actor": {"bound": "tanh"}},
    {"actor": {"batch_size": 8}},
    {"actor": {"steps": 4}},
    {"divergence": {"log_prob": "exact"}},
    {"divergence": {"log_prob": "instantaneous"}},
    {"divergence": {"probe": "gaussian"}},
    {"proposals": {"points": 2, "noise": "stratified", "mixing": "ess_per_candidate"}},
    {"proposals": {"mixing": "policy"}},
    {"proposals": {"mixing": "gaussian"}},
    {"times": {"grid_share": 0.0}},
    {"times": {"clamp": 0.3}},
    {"temperature": {"automatic": False}},
    {"temperature": {"minimum": 0.01, "maximum": 0.01}},
]


@pytest.mark.parametrize("changes", OPTIONS[:3] + slow(*OPTIONS[3:]), ids=str)
def test_every_option_changes_what_an_update_computes(changes):
    assert program(learner.update, changed(TINY, changes), state(), batch()) != plain_program()


@cache
def plain_program():
    return program(learner.update, TINY, state(), batch())


@pytest.mark.slow
@pytest.mark.parametrize("changes", OPTIONS, ids=str)
def test_every_option_changes_the_networks(changes):
    plain, other = updated(TINY, 2)[0], updated(changed(TINY, changes), 2)[0]
    assert not same(groups_of(plain), groups_of(other))


def test_each_proposal_alone_and_both_by_their_effective_sample_sizes():
    cfg, s, obs, t = TINY, state(), jnp.array([0.3, -0.2, 0.1]), jnp.array([0.2, 0.9])
    q = lambda s, a: -jnp.sum((a - 0.3) ** 2)  # noqa: E731

    def estimate(mixing):
        chosen = changed(cfg, {"proposals": {"mixing": mixing, "points": 2}})
        nets = s.actor.params, s.divergence.params
        return targets.estimate_velocity(chosen, *nets, q, jnp.float32(0.2), obs, t, jax.random.key(1))

    both, policy, gaussian = map(estimate, ("ess", "policy", "gaussian"))
    assert jnp.array_equal(policy.rho, jnp.ones(2))
    assert jnp.array_equal(gaussian.rho, jnp.zeros(2))
    rho = both.ess_policy / (both.ess_policy + both.ess_gaussian)
    assert jnp.allclose(both.rho, rho)
    assert jnp.allclose(both.v, rho[:, None] * policy.v + (1 - rho[:, None]) * gaussian.v, atol=1e-5)
    assert float(jnp.abs(policy.v - gaussian.v).max()) > 0.01


def test_no_two_uses_share_a_key():
    s = state()
    keys = {tuple(np.asarray(jax.random.key_data(use_key(s, use)))) for use in learner.Use}
    later = replace(s, updates=s.updates + 1)
    keys |= {tuple(np.asarray(jax.random.key_data(use_key(later, use)))) for use in learner.Use}
    assert len(keys) == 2 * len(learner.Use)


@pytest.mark.parametrize("log_prob", ["exact", "instantaneous"])
def test_log_densities_without_the_network_are_refused_for_large_actions(log_prob):
    cfg = replace(TINY, divergence=DivergenceConfig(log_prob=log_prob))
    with pytest.raises(UsageError, match=f"'{log_prob}' is for at most 8 action dimensions"):
        learner.init(cfg, Spec(3, 9), jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("actor.hidden", ()),
        ("actor.steps", 0),
        ("actor.time_features", 7),
        ("actor.candidates", 0),
        ("divergence.probes", 0),
        ("proposals.policy", 0),
        ("proposals.points", 5),
        ("times.equal_share", 1.2),
        ("times.clamp", 0.0),
        ("discount", 1.01),
    ],
)
def test_impossible_settings_are_refused_in_one_line(name, value):
    with pytest.raises(UsageError, match=name) as caught:
        changed(TINY, {name: value})
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------- a target known exactly


@pytest.mark.slow
def test_a_quadratic_value_gives_its_gaussian_and_three_densities_agree():
    """Q = -|a - m|^2 / 2 at temperature 0.04 has the Boltzmann policy N(m, 0.2^2), which lies inside the box.

    After training, the samples have its moments, and the entropies by the exact log-determinant and by the
    average divergence are both within 0.25 nats of the analytic -0.38. Without the grid rows (the authors'
    times) the standard deviation comes out near 0.1.
    """
    centre, alpha = jnp.array([0.2, -0.1]), 0.04
    cfg = changed(
        TINY,
        {
            "actor": {"hidden": (48, 48), "learning_rate": 1e-3},
            "divergence": {"learning_rate": 1e-3},
            "proposals": {"policy": 16, "gaussian": 32, "block": 0},
            "temperature": {"initial": alpha, "automatic": False},
        },
    )
    obs = jnp.ones((64, 3))

    @jax.jit
    def train(s):
        def body(s, _):
            s, _ = learner.improve(cfg, s, lambda s, a: -0.5 * jnp.sum((a - centre) ** 2), obs)
            return replace(s, updates=s.updates + 1), None

        return jax.lax.scan(body, s, None, length=3000)[0]

    s = train(state(cfg))

    @jax.jit
    def densities(s, e):
        return (
            policy.log_prob_oracle(cfg, s.actor.params, obs[0], e),
            policy.draw(cfg, *nets(s), obs[0], e),
        )

    exact, averaged = jax.vmap(densities, (None, 0))(s, jax.random.normal(jax.random.key(3), (4000, 2)))
    np.testing.assert_allclose(exact.action.mean(0), centre, atol=0.04)
    np.testing.assert_allclose(exact.action.std(0), 0.2, atol=0.03)
    analytic = float(jnp.log(2 * jnp.pi * jnp.e * alpha))
    assert abs(-float(exact.log_prob.mean()) - analytic) < 0.25
    assert abs(-float(averaged.log_prob.mean()) - analytic) < 0.25
