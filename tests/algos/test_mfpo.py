"""MFPO: sizes, gradient flow, targets by finite differences, options, and a target known exactly."""

from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep import settings
from fewstep.algos import temperature
from fewstep.algos.mfpo import config as c
from fewstep.algos.mfpo import learner, losses, policy, targets
from fewstep.critics import categorical
from fewstep.errors import UsageError
from fewstep.flows import meanflow
from fewstep.nets.frozen import frozen
from fewstep.types import Spec, Transition

SPEC = Spec(3, 2)
TINY = c.MFPOConfig(
    actor=c.ActorConfig(hidden=(16, 16), time_features=8, time_embed=8),
    critic=c.CriticConfig(hidden=(16, 16), atoms=11, v_min=-5.0, v_max=5.0),
    proposals=c.ProposalConfig(policy=4, gaussian=6, block=8),
)


def batch(size=16, spec=SPEC, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return Transition(
        draw(size, spec.obs_size),
        np.tanh(draw(size, spec.act_size)),
        draw(size),
        rng.random(size) < 0.2,
        draw(size, spec.obs_size),
    )


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


def moved(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def size_of(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


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
    s = jax.eval_shape(lambda k: learner.init(c.MFPOConfig(), Spec(obs, act), k), jax.random.key(0))
    assert (size_of(s.actor), size_of(s.divergence)) == (actor, divergence)
    assert size_of(s.critics[0]) == size_of(s.target_critics[1]) == critic


def test_twins_differ_and_targets_start_as_copies():
    s = state()
    assert moved(s.critics[0].blocks, s.critics[1].blocks)
    assert not moved(s.critics, s.target_critics)


def test_a_zero_head_starts_at_value_zero_and_a_xavier_head_at_the_authors_noise():
    obs, act = (
        jax.random.normal(jax.random.key(1), (2000, 17)),
        jax.random.normal(jax.random.key(2), (2000, 6)),
    )
    for head, expected in (("zeros", 0.0), ("xavier_uniform", 62.0)):
        cfg = c.MFPOConfig(critic=c.CriticConfig(head_init=head, twin="mean"))
        critics = state(cfg, Spec(17, 6)).critics
        z = categorical.support(-1600.0, 1600.0, 101)
        q = jax.vmap(lambda s, a, net=critics[0], z=z: categorical.expected_value(net(s, a), z))(obs, act)
        assert abs(float(q.std()) - expected) < 20.0
        if head == "zeros":
            assert float(jnp.abs(q).max()) < 1e-3


def test_on_a_lopsided_support_only_the_origin_head_starts_at_zero():
    for head, expected in (("zeros", 350.0), ("origin", 0.0)):
        cfg = replace(TINY, critic=replace(TINY.critic, head_init=head, v_min=-100.0, v_max=800.0, atoms=101))
        q = policy.q_value(cfg, state(cfg).critics)(jnp.ones(3), jnp.ones(2))
        assert abs(float(q) - expected) < 0.5


def test_initial_entropy_is_near_that_of_the_noise():
    """The clipped flow starts near a standard normal: 1.42 nats a dimension, as in the authors' code."""
    cfg = c.MFPOConfig()
    s, noise = state(cfg, Spec(17, 6)), jax.random.normal(jax.random.key(1), (500, 6))
    log_prob = jax.vmap(lambda e: policy.draw(cfg, s.actor, s.divergence, jnp.ones(17), e))(noise).log_prob
    assert abs(-float(log_prob.mean()) / 6 - 1.42) < 0.35


# ---------------------------------------------------------------------------------------------- gradient flow


def reached(loss, groups):
    """Names of the groups of parameters in which the loss has a non-zero gradient."""
    grads = jax.jit(jax.grad(loss))(groups)
    return {name for name, g in grads.items() if any(np.any(np.asarray(x) != 0) for x in jax.tree.leaves(g))}


@cache
def warm():
    return updated(TINY, 2)[0]


def groups_of(s):
    return {
        "actor": s.actor,
        "divergence": s.divergence,
        "critics": s.critics,
        "targets": s.target_critics,
        "alpha": s.log_alpha,
    }


def estimates(g, b, t):
    q = policy.q_value(TINY, g["critics"])
    keys = jax.random.split(jax.random.key(5), len(t))
    found = jax.vmap(
        lambda s, t, k: targets.estimate_velocity(
            TINY, g["actor"], g["divergence"], q, jnp.exp(g["alpha"]), s, t, k
        )
    )(b.obs, t[:, None], keys)
    return found._replace(x=found.x[:, 0], v=found.v[:, 0], sample=found.sample[:, 0])


def test_gradient_flow_of_every_loss():
    """Only what each docstring names is differentiated, whatever else enters the loss."""
    s, b = warm(), jax.tree.map(jnp.asarray, batch())
    g = groups_of(s)
    t = jnp.linspace(0.1, 0.9, 16)
    r = jnp.where(jnp.arange(16) < 12, t, 0.5 * t)

    def critic(g):
        nxt = jax.vmap(lambda o, e: policy.draw(TINY, s.actor, s.divergence, o, e))(b.next_obs, b.action)
        target, _ = jax.vmap(
            lambda st, n: targets.critic_target(TINY, s.target_critics, jnp.exp(s.log_alpha), st, n)
        )(b, nxt)
        return losses.critic(g["critics"], b, target)

    found = estimates(g, b, t)

    def actor(g):
        return losses.actor_regression(g["actor"], 12, b.obs, found.x, found.v, r, t)

    def divergence(g):
        probes = jnp.ones((16, 2, 2))
        return losses.divergence_regression(g["divergence"], g["actor"], 12, b.obs, found.x, probes, r, t)[0]

    def alpha_loss(g):
        return temperature.loss(g["alpha"], -found.log_prob.mean(), -1.0)

    assert reached(critic, g) == {"critics"}
    assert reached(actor, g) == {"actor"}
    assert reached(divergence, g) == {"divergence"}
    assert reached(alpha_loss, g) == {"alpha"}


def test_each_critic_is_trained_by_its_own_error_only():
    s, b = warm(), jax.tree.map(jnp.asarray, batch())
    target = jnp.full((16, 11), 1 / 11)
    both = jax.grad(losses.critic)(s.critics, b, target)
    doubled = jax.grad(losses.critic)((s.critics[0], s.critics[0]), b, target)
    for x, y in zip(jax.tree.leaves(both[0]), jax.tree.leaves(doubled[0]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
    swapped = jax.grad(losses.critic)(s.critics[::-1], b, target)
    for x, y in zip(jax.tree.leaves(both[0]), jax.tree.leaves(swapped[1]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


# -------------------------------------------------------------------------------------------- the regressions


def test_regression_targets_of_the_networks_agree_with_finite_differences():
    s = warm()
    with jax.enable_x64(True):
        nets = jax.tree.map(lambda x: x.astype(jnp.float64), (s.actor, s.divergence))
        o, x, v = jnp.array([0.3, -1.0, 0.5]), jnp.array([0.4, -0.2]), jnp.array([1.1, -0.7])
        r, t, h = jnp.float64(0.3), jnp.float64(0.8), 1e-6
        for f in (policy.average_velocity(nets[0], o), policy.average_divergence(nets[1], o)):
            value, derivative = meanflow.total_derivative(f, x, r, t, v)
            numeric = (f(x + h * v, r, t + h) - f(x - h * v, r, t - h)) / (2 * h)
            np.testing.assert_allclose(derivative, numeric, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(value, f(x, r, t))


def test_skipping_the_jvp_where_r_equals_t_changes_nothing():
    s, b = warm(), jax.tree.map(jnp.asarray, batch())
    key = jax.random.key(8)
    x, v = jax.random.normal(key, (16, 2)), jax.random.normal(jax.random.fold_in(key, 1), (16, 2))
    t = jnp.linspace(0.1, 0.9, 16)
    r = jnp.where(jnp.arange(16) < 12, t, 0.5 * t)
    fast = jax.value_and_grad(losses.actor_regression)(s.actor, 12, b.obs, x, v, r, t)
    plain = jax.value_and_grad(losses.actor_regression)(s.actor, 0, b.obs, x, v, r, t)
    for a, p in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, p, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [(0, 16), (16, 0)])
def test_batches_of_one_kind_of_time_are_fine(rows):
    cfg = replace(TINY, times=c.TimesConfig(equal_share=rows[0] / 16))
    _, metrics = updated(cfg)
    assert all(np.isfinite(float(m)) for m in metrics.values())


def test_losses_do_not_depend_on_the_order_of_the_batch():
    s, b = warm(), jax.tree.map(jnp.asarray, batch())
    order = jnp.array([3, 0, 2, 1, *range(4, 16)])
    target = jax.nn.softmax(jax.random.normal(jax.random.key(0), (16, 11)))
    shuffled = jax.tree.map(lambda x: x[order], b)
    np.testing.assert_allclose(
        losses.critic(s.critics, b, target), losses.critic(s.critics, shuffled, target[order]), rtol=1e-6
    )


# ------------------------------------------------------------------------------------------------- the update


def test_only_a_terminal_state_stops_the_bootstrap():
    s = warm()
    nxt = policy.draw(TINY, s.actor, s.divergence, jnp.ones(3), jnp.ones(2))
    cfg = replace(TINY, critic=replace(TINY.critic, v_min=-40.0, v_max=40.0, atoms=81))
    # Mass in the middle of a wide support, so that the projection cuts nothing and keeps the mean.
    head = jnp.where(jnp.abs(jnp.arange(81) - 40.0) < 8, 0.0, -50.0) + 0.1 * jnp.sin(jnp.arange(81.0))
    critics = learner.init(cfg, SPEC, jax.random.key(0)).critics
    critics = tuple(eqx.tree_at(lambda m: m.head.bias, m, head * (i + 1)) for i, m in enumerate(critics))
    z = categorical.support(-40.0, 40.0, 81)
    for terminated in (False, True):
        step = Transition(jnp.ones(3), jnp.zeros(2), jnp.float32(0.5), jnp.array(terminated), jnp.ones(3))
        target, _ = targets.critic_target(cfg, critics, jnp.float32(0.1), step, nxt)
        if terminated:
            np.testing.assert_allclose(target[40:42], [0.5, 0.5], atol=1e-5)
        else:
            values = [categorical.expected_value(q(step.next_obs, nxt.action), z) for q in critics]
            soft = 0.5 + 0.99 * (min(map(float, values)) - 0.1 * float(nxt.log_prob))
            assert abs(float(target @ z) - soft) < 1e-3


@pytest.mark.parametrize("tau", [0.0, 1.0, 0.25])
def test_target_critics_follow_the_new_critics(tau):
    before = state()
    cfg = replace(TINY, critic=replace(TINY.critic, tau=tau))
    after, _ = jax.jit(lambda s, b: learner.update_critics(cfg, s, b))(before, batch())
    for old, new, target in zip(
        *map(jax.tree.leaves, (before.target_critics, after.critics, after.target_critics)), strict=True
    ):
        np.testing.assert_allclose(target, tau * new + (1 - tau) * old, rtol=1e-5, atol=1e-7)


def test_a_delayed_actor_moves_only_when_due_and_its_metrics_are_held():
    cfg = replace(TINY, actor=replace(TINY.actor, delay=2))
    first, m1 = step(cfg)(state(cfg), batch(seed=0))
    second, m2 = step(cfg)(first, batch(seed=1))
    third, m3 = step(cfg)(second, batch(seed=2))
    assert moved(state(cfg).actor, first.actor)
    assert not moved(first.actor, second.actor)
    assert moved(first.critics, second.critics)
    assert moved(second.actor, third.actor)
    assert m1["actor/loss"] == m2["actor/loss"] != m3["actor/loss"]


def test_the_size_of_a_block_does_not_change_the_update():
    sections = [replace(TINY.proposals, block=b) for b in (0, 8, 5)]
    results = [updated(replace(TINY, proposals=p))[0] for p in sections]
    for other in results[1:]:
        for x, y in zip(jax.tree.leaves(results[0].actor), jax.tree.leaves(other.actor), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_points_of_a_state_share_its_policy_candidates_and_start_from_different_ones():
    s, key, t = state(), jax.random.key(5), jnp.array([0.3, 0.6, 0.9])

    @jax.jit
    def estimate(key):
        q = lambda s, a: -jnp.sum((a - 0.2) ** 2)  # noqa: E731
        return targets.estimate_velocity(TINY, s.actor, s.divergence, q, 0.5, jnp.ones(3), t, key)

    found = estimate(key)
    assert found.x.shape == found.v.shape == (3, 2)
    assert found.log_prob.shape == (4,)
    assert len(np.unique(np.asarray(found.sample), axis=0)) == 3
    # The k-th noise of the state's four gives the sample that the k-th point starts from.
    noise = jax.random.normal(jax.random.split(key, 3)[0], (4, 2))
    draws = jax.jit(jax.vmap(lambda e: policy.draw(TINY, s.actor, s.divergence, jnp.ones(3), e)))(noise)
    np.testing.assert_allclose(found.sample, draws.action[:3], rtol=1e-5, atol=1e-6)


def test_rows_of_points_stand_beside_the_states_they_belong_to():
    states, points = jnp.arange(4.0)[:, None], 3
    x = states[:, None] + 10.0 * jnp.arange(points)[None, :, None]
    rows, obs = learner._rows(x), learner._repeat(states, points)
    np.testing.assert_array_equal(rows % 10, obs)
    np.testing.assert_array_equal(rows[:4, 0], jnp.arange(4.0))


BFLOAT16 = replace(TINY, proposals=replace(TINY.proposals, precision="bfloat16"))


def test_candidates_in_bfloat16_are_judged_nearly_alike():
    """The default critic with a random head, on +-1600: Q has a spread of 62 and moves by 0.51 (rms)."""
    cfg = c.MFPOConfig(critic=c.CriticConfig(head_init="xavier_uniform"))
    critics, rng = state(cfg, Spec(17, 6)).critics, np.random.default_rng(0)
    obs, act = rng.normal(size=(400, 17)).astype(np.float32), rng.uniform(-1, 1, (400, 6)).astype(np.float32)
    exact, rough = (
        jax.vmap(policy.q_value(cfg, frozen(critics, p)))(obs, act) for p in ("float32", "bfloat16")
    )
    assert rough.dtype == jnp.float32
    error = float(jnp.sqrt(jnp.mean((rough - exact) ** 2)))
    assert 0.1 < error < 0.8
    assert error < 0.015 * float(exact.std())


def test_candidates_in_bfloat16_leave_the_state_in_float32_and_the_critics_alone():
    plain, s = updated(TINY)[0], updated(BFLOAT16)[0]
    assert [x.dtype for x in jax.tree.leaves(s)] == [x.dtype for x in jax.tree.leaves(plain)]
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((s.actor, s.divergence, s.held)))
    for x, y in zip(jax.tree.leaves(s.critics), jax.tree.leaves(plain.critics), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_a_precision_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(UsageError) as caught:
        settings.assignments(["proposals.precision=float16"], settings.schema(c.MFPOConfig))
    message = "--set: proposals.precision must be one of float32, bfloat16; got 'float16'"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "changes",
    [
        {"proposals": {"points": 2, "noise": "stratified", "mixing": "ess_per_candidate"}},
        {"proposals": {"precision": "bfloat16"}},
        {"actor": {"bound": "tanh"}},
        {"actor": {"batch_size": 8}},
        {"actor": {"steps": 4}},
        {"divergence": {"log_prob": "exact"}},
        {"divergence": {"probe": "gaussian"}},
        {"critic": {"twin": "mean"}},
        {"critic": {"head_init": "xavier_uniform"}},
        {"critic": {"head_init": "origin"}},
        {"critic": {"entropy_in_target": False}},
        {"times": {"grid_share": 0.0}},
        {"times": {"clamp": 0.3}},
        {"temperature": {"automatic": False}},
        {"temperature": {"minimum": 0.01, "maximum": 0.01}},
    ],
    ids=str,
)
def test_every_option_changes_something(changes):
    cfg = TINY
    for section, fields in changes.items():
        cfg = replace(cfg, **{section: replace(getattr(cfg, section), **fields)})
    plain, other = updated(TINY, 2)[0], updated(cfg, 2)[0]
    trained = ("actor", "divergence", "critics", "log_alpha")
    assert moved([getattr(plain, n) for n in trained], [getattr(other, n) for n in trained])


@pytest.mark.parametrize(("entropy", "direction"), [(-3.0, 1), (3.0, -1)])
def test_the_temperature_rises_below_the_target_entropy_and_falls_above(entropy, direction):
    s = state()
    after, _ = learner.update_temperature(TINY, s, jnp.float32(entropy), act_size=2)
    assert np.sign(float(after.log_alpha - s.log_alpha)) == direction


def test_the_temperature_stays_inside_its_bounds():
    cfg = replace(
        TINY, temperature=c.TemperatureConfig(initial=0.01, minimum=0.009, maximum=0.011, learning_rate=0.5)
    )
    for entropy, bound in ((-9.0, 0.011), (9.0, 0.009)):
        after, _ = learner.update_temperature(cfg, state(cfg), jnp.float32(entropy), act_size=2)
        np.testing.assert_allclose(jnp.exp(after.log_alpha), bound, rtol=1e-5)


def test_no_two_uses_share_a_key():
    s = state()
    keys = {tuple(np.asarray(jax.random.key_data(learner.use_key(s, use)))) for use in learner.Use}
    later = replace(s, updates=s.updates + 1)
    keys |= {tuple(np.asarray(jax.random.key_data(learner.use_key(later, use)))) for use in learner.Use}
    assert len(keys) == 2 * len(learner.Use)


def test_exact_log_prob_is_refused_for_large_actions():
    cfg = replace(TINY, divergence=c.DivergenceConfig(log_prob="exact"))
    with pytest.raises(UsageError, match="at most 8 action dimensions"):
        learner.init(cfg, Spec(3, 9), jax.random.key(0))


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        (c.ActorConfig, {"hidden": ()}),
        (c.ActorConfig, {"steps": 0}),
        (c.ActorConfig, {"learning_rate": -1e-3}),
        (c.ActorConfig, {"time_features": 7}),
        (c.CriticConfig, {"v_min": 3.0, "v_max": 3.0}),
        (c.CriticConfig, {"atoms": 1}),
        (c.CriticConfig, {"tau": 1.5}),
        (c.ProposalConfig, {"policy": 0}),
        (c.TimesConfig, {"equal_share": 1.2}),
        (c.TimesConfig, {"clamp": 0.0}),
        (c.TemperatureConfig, {"initial": 0.0}),
        (c.MFPOConfig, {"discount": 1.01}),
    ],
)
def test_impossible_hyper_parameters_are_refused_in_one_line(section, fields):
    with pytest.raises(UsageError) as caught:
        section(**fields)
    assert "\n" not in str(caught.value)
    assert next(iter(fields)).split(".")[0] in str(caught.value)


# ------------------------------------------------------------------------------------- a target known exactly


def test_a_quadratic_value_gives_its_gaussian_and_three_densities_agree():
    """Q = -|a - m|^2 / 2 at temperature 0.04 has the Boltzmann policy N(m, 0.2^2), which lies inside the box.

    After training, the samples have its moments, and the entropies by the exact log-determinant and by the
    average divergence are both within 0.25 nats of the analytic -0.38. Without the grid rows (the authors'
    times) the standard deviation comes out near 0.1.
    """
    centre, alpha = jnp.array([0.2, -0.1]), 0.04
    cfg = replace(
        TINY,
        actor=replace(TINY.actor, hidden=(48, 48), learning_rate=1e-3),
        divergence=c.DivergenceConfig(learning_rate=1e-3),
        proposals=c.ProposalConfig(policy=16, gaussian=32, block=0),
        temperature=c.TemperatureConfig(initial=alpha, automatic=False),
    )
    obs = jnp.ones((64, 3))

    @jax.jit
    def train(s):
        def body(s, _):
            s, _ = learner.improve_policy(cfg, s, lambda s, a: -0.5 * jnp.sum((a - centre) ** 2), obs)
            return replace(s, updates=s.updates + 1), None

        return jax.lax.scan(body, s, None, length=3000)[0]

    s = train(state(cfg))

    @jax.jit
    def densities(s, e):
        return (
            policy.log_prob_oracle(cfg, s.actor, obs[0], e),
            policy.draw(cfg, s.actor, s.divergence, obs[0], e),
        )

    exact, averaged = jax.vmap(densities, (None, 0))(s, jax.random.normal(jax.random.key(3), (4000, 2)))
    np.testing.assert_allclose(exact.action.mean(0), centre, atol=0.04)
    np.testing.assert_allclose(exact.action.std(0), 0.2, atol=0.03)
    analytic = float(jnp.log(2 * jnp.pi * jnp.e * alpha))
    assert abs(-float(exact.log_prob.mean()) - analytic) < 0.25
    assert abs(-float(averaged.log_prob.mean()) - analytic) < 0.25
