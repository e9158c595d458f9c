"""MDPO: its loss against SAC's, closed forms and finite differences, the old policy, where training ends."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import mdpo, sac
from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.shared import tanh_gaussian
from fewstep.flows import bounds
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

CORNERS = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
"""Noises whose mean is 0 and whose covariance is I: with them expectations of quadratics are exact."""
OBS = jnp.tile(batch(1).obs, (4, 1))
MEAN, LOG_STD = jnp.array([0.3, -0.8]), jnp.log(jnp.array([0.5, 0.2]))


def constant(actor, mean, log_std):
    """The policy with these moments in every state."""
    head = replace(
        actor.net.head,
        weight=jnp.zeros_like(actor.net.head.weight),
        bias=jnp.concatenate([jnp.asarray(mean), jnp.asarray(log_std)]),
    )
    return replace(actor, net=replace(actor.net, head=head))


def moments_gradient(cfg, actor, old, q, obs=OBS, noise=CORNERS):
    """The loss's gradient in the mean and log sigma of a constant policy: that of its last bias."""
    loss = lambda a: mdpo.actor_loss(a, cfg, (), (old, ()), q, obs, noise)[0]  # noqa: E731
    return jax.grad(loss)(actor).net.head.bias


# ------------------------------------------------------------------------------------------- the loss


def test_where_lambda_is_k_it_is_sacs_loss_whatever_the_old_policy():
    """Value and every gradient, to the bit."""
    _, cfg, state = tiny("mdpo", **{"mirror.kl": 0.3, "mirror.entropy": 0.3})
    data = batch()
    noise = jax.random.normal(jax.random.key(1), data.action.shape)
    old = constant(state.actor.params, MEAN, LOG_STD)
    mine = jax.value_and_grad(mdpo.actor_loss, has_aux=True)(
        state.actor.params, cfg, (), (old, ()), bump, data.obs, noise
    )
    (value, _), grads = mine
    (wanted, _), theirs = jax.value_and_grad(sac.actor_loss, has_aux=True)(
        state.actor.params, (), bump, 0.3, data.obs, noise
    )
    assert float(value) == float(wanted)
    assert_close(grads, theirs, rtol=1e-6, atol=1e-8)


def test_at_the_old_policy_the_kl_has_no_gradient():
    """With lambda = 0 what is left is the gradient of -Q; the KL itself is 0."""
    _, cfg, state = tiny("mdpo", **{"mirror.kl": 50.0, "mirror.entropy": 0.0})
    actor = state.actor.params
    still = moments_gradient(cfg, actor, actor, lambda s, a: jnp.float32(0.0))
    np.testing.assert_allclose(still, np.zeros(4), atol=2e-5)
    free = changed(cfg, {"mirror.kl": 1e-6})
    np.testing.assert_allclose(
        moments_gradient(cfg, actor, actor, bump), moments_gradient(free, actor, actor, bump), atol=5e-5
    )
    _, found = mdpo.actor_loss(actor, cfg, (), (actor, ()), bump, OBS, CORNERS)
    assert float(found.kl) == pytest.approx(0.0, abs=1e-5)


def test_its_kl_is_that_of_the_gaussians_before_the_squashing():
    """k KL(pi || pi_old) with Q = 0: the tanh cancels, and the KL of Gaussians has a closed form."""
    _, cfg, state = tiny("mdpo", **{"mirror.kl": 2.0, "mirror.entropy": 0.0})
    old, actor = (constant(state.actor.params, *each) for each in ((MEAN, LOG_STD), (-MEAN, LOG_STD + 0.4)))
    loss, found = mdpo.actor_loss(actor, cfg, (), (old, ()), lambda s, a: 0.0 * a.sum(), OBS, CORNERS)
    s_old, s = np.exp(LOG_STD), np.exp(LOG_STD + 0.4)
    kl = (np.log(s_old / s) + (s**2 + (2 * np.asarray(MEAN)) ** 2) / (2 * s_old**2) - 0.5).sum()
    assert float(found.kl) == pytest.approx(kl, rel=1e-4)
    assert float(loss) == pytest.approx(2.0 * kl, rel=1e-4)


@pytest.mark.parametrize("entropy", [0.0, 0.2, 1.5])
def test_the_step_of_a_gaussian_under_a_quadratic_value(entropy):
    """Q = -h (z - c)^2 / 2 - lambda log|da/dz|, z before the squashing: then all is quadratic in z, and

    1 / s^2 = P + h / k, m = (P m_old + h c / k) / (P + h / k) with P = (1 - lambda / k) / s_old^2.
    """
    k, h, c = 0.7, jnp.array([3.0, 0.9]), jnp.array([0.5, -0.2])
    _, cfg, state = tiny("mdpo", **{"mirror.kl": k, "mirror.entropy": entropy})

    def q(_, a):
        z = jnp.arctanh(a)
        return -0.5 * jnp.sum(h * (z - c) ** 2) - entropy * bounds.log_det("tanh", z)

    s_old = jnp.array([0.9, 1.1])
    old = constant(state.actor.params, MEAN, jnp.log(s_old))
    prior = (1.0 - entropy / k) / s_old**2
    precision = prior + h / k
    if entropy > k:
        assert (precision > 0).all()
    mean = (prior * MEAN + h * c / k) / precision
    best = constant(old, mean, -0.5 * jnp.log(precision))
    np.testing.assert_allclose(moments_gradient(cfg, best, old, q), np.zeros(4), atol=3e-4)
    away = constant(old, mean + 0.1, -0.5 * jnp.log(precision) - 0.1)
    assert np.abs(moments_gradient(cfg, away, old, q)).min() > 0.02


def test_the_loss_is_pathwise():
    """Finite differences of the loss in float64, in the bias of every output and in a kernel."""
    _, cfg, state = tiny("mdpo", **{"actor.penalty": 0.05})
    with jax.enable_x64(True):
        double = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)  # noqa: E731
        actor, obs = double(state.actor.params), jnp.asarray(batch().obs, jnp.float64)
        old = (constant(actor, jnp.asarray(MEAN, jnp.float64), jnp.asarray(LOG_STD, jnp.float64)), ())
        noise = jax.random.normal(jax.random.key(1), (16, 2), jnp.float64)

        def at(bias, kernel):
            head = replace(actor.net.head, bias=bias, weight=kernel)
            moved = replace(actor, net=replace(actor.net, head=head))
            return mdpo.actor_loss(moved, cfg, (), old, bump, obs, noise)[0]

        start = (actor.net.head.bias, actor.net.head.weight)
        grads, loss = jax.grad(at, argnums=(0, 1))(*start), jax.jit(at)
        for i in range(4):
            step = 1e-5 * jnp.eye(4)[i]
            slope = (loss(start[0] + step, start[1]) - loss(start[0] - step, start[1])) / 2e-5
            np.testing.assert_allclose(grads[0][i], slope, rtol=1e-6)
            step = jnp.zeros_like(start[1]).at[3, i].set(1e-5)
            slope = (loss(start[0], start[1] + step) - loss(start[0], start[1] - step)) / 2e-5
            np.testing.assert_allclose(grads[1][3, i], slope, rtol=1e-6)


def test_the_penalty_is_on_the_moments_before_the_squashing():
    _, cfg, state = tiny("mdpo")
    actor = constant(state.actor.params, MEAN, LOG_STD)
    value = lambda c: mdpo.actor_loss(actor, c, (), (actor, ()), bump, OBS, CORNERS)[0]  # noqa: E731
    extra = float(value(changed(cfg, {"actor.penalty": 0.5})) - value(cfg))
    assert extra == pytest.approx(0.5 * float((MEAN**2).mean() + (LOG_STD**2).mean()), rel=1e-4)


# ------------------------------------------------------------------------------------------- an update


def test_the_critics_regress_on_the_soft_target():
    """a' and its entropy bonus from the actor before the update, not from the old policy."""
    algorithm, cfg, state = tiny("mdpo", **{"mirror.entropy": 0.4})
    state = replace(state, old=(constant(state.actor.params, MEAN, LOG_STD), ()))
    data = batch()
    noise = jax.random.normal(use_key(state, mdpo.Use.NEXT_ACTION), data.action.shape)
    nxt = jax.vmap(lambda s, e: tanh_gaussian.draw(state.actor.params, s, e))(data.next_obs, noise)
    wanted, _ = expected(cfg.critic, 0.99, state.critics, data, nxt.action, -0.4 * nxt.log_prob)
    _, metrics = algorithm.update(cfg, state, data)
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_old_policy_is_a_copy_at_every_so_manyth_policy_update():
    algorithm, cfg, state = tiny("mdpo", **{"mirror.period": 2, "actor.delay": 2})
    step = jax.jit(lambda s: algorithm.update(cfg, s, batch())[0])
    states = [state]
    for _ in range(8):
        states.append(step(states[-1]))
    moved = [not same(one.old, other.old) for one, other in pairwise(states)]
    assert moved == [False, False, True, False, False, False, True, False]
    assert same(states[3].old[0], states[3].actor.params)
    assert not same(states[5].old[0], states[5].actor.params)
    assert same(state.old[0], state.actor.params)


def test_an_actor_with_running_statistics_is_copied_with_them():
    algorithm, cfg, state = tiny("mdpo", **{"actor.trunk": "crossq", "mirror.period": 2})
    step = jax.jit(lambda s: algorithm.update(cfg, s, batch())[0])
    once, twice = step(state), step(step(state))
    assert same(once.old[1], state.stats)
    assert same(twice.old, (twice.actor.params, twice.stats))
    assert not same(twice.stats, state.stats)


def test_the_policys_value_is_that_of_all_critics_or_of_the_first():
    _, cfg, state = tiny("mdpo")
    s, a = batch().obs[0], batch().action[0]
    each = [float(net(s, a)[0]) for net in state.critics.online.params]
    assert float(mdpo.climbed(cfg, state.critics)(s, a)) == pytest.approx(min(each))
    first = changed(cfg, {"actor.value": "first"})
    assert float(mdpo.climbed(first, state.critics)(s, a)) == pytest.approx(each[0])


def test_samples_collect_and_means_do_on_request():
    algorithm, cfg, state = tiny("mdpo")
    means = changed(cfg, {"actor.collects": "means"})
    assert algorithm.behaviour(cfg) == ActionMode()
    assert algorithm.behaviour(means) == ActionMode(noise_free=True) == algorithm.native(cfg)
    policy, obs, key = algorithm.policy(state), batch().obs, jax.random.key(0)
    wanted = jnp.tanh(jax.vmap(state.actor.params)(obs)[0])
    np.testing.assert_allclose(algorithm.collect(means, policy, obs, key), wanted, rtol=1e-6)
    assert not np.allclose(algorithm.collect(cfg, policy, obs, key), wanted, atol=1e-2)


@few(
    "setting",
    [
        {"mirror.kl": 2.0},
        {"mirror.entropy": 0.0},
        {"mirror.period": 3},
        {"actor.value": "first"},
        {"actor.penalty": 1e-3},
        {"actor.delay": 2},
        {"actor.log_std_min": -20.0},
    ],
)
def test_every_option_changes_the_update(setting):
    algorithm, cfg, state = tiny("mdpo")
    other = changed(cfg, setting)
    start = algorithm.init(other, SPEC, jax.random.key(0))
    assert program(algorithm.update, cfg, state, batch()) != program(algorithm.update, other, start, batch())


def test_an_improvement_is_one_step_with_the_old_policy_as_a_constant():
    """Down k log pi + (lambda - k) log pi_old - Q, pathwise; the log-determinant of tanh written out, too."""
    _, cfg, state = tiny("mdpo", **{"mirror.kl": 0.7, "mirror.entropy": 0.2})
    state, obs = apart(state), batch().obs
    state = replace(state, old=(moved(state.actor.params, 5), ()))
    after, metrics = jax.jit(lambda st: mdpo.improve(cfg, st, bump, obs))(state)
    noise = jax.random.normal(use_key(state, mdpo.Use.ACTION), (16, 2))
    old_mean, old_log_std = jax.jit(jax.vmap(state.old[0]))(obs)

    def loss(actor):
        mean, log_std = jax.vmap(actor)(obs)
        z = mean + jnp.exp(log_std) * noise
        squashing = jnp.log(1 - jnp.tanh(z) ** 2)
        normal = lambda m, w: -0.5 * ((z - m) / jnp.exp(w)) ** 2 - w - 0.5 * jnp.log(2 * jnp.pi)  # noqa: E731
        own, other = normal(mean, log_std) - squashing, normal(old_mean, old_log_std) - squashing
        value = -jnp.sum((jnp.tanh(z) - TARGET) ** 2, axis=1)
        return jnp.mean(0.7 * own.sum(1) + (0.2 - 0.7) * other.sum(1) - value)

    np.testing.assert_allclose(metrics["actor/loss"], jax.jit(loss)(state.actor.params), rtol=1e-4)
    assert_one_step(cfg.actor, state.actor, after.actor, loss)
    assert same((after.critics, after.old), (state.critics, state.old))


def ended(updates, q, **settings):
    """The last policy's mean and log sigma of many improvements in one state."""
    learn = {"actor.hidden": (32, 32), "actor.learning_rate": 3e-3, "mirror.period": 50}
    _, cfg, state = tiny("mdpo", **(learn | settings))
    obs = jnp.ones((128, 3))

    @jax.jit
    def run(state):
        def one(st, _):
            st, metrics = mdpo.improve(cfg, st, q, obs)
            return replace(st, updates=st.updates + 1), metrics["actor/kl_old"]

        return jax.lax.scan(one, state, None, length=updates)

    state, kl = run(state)
    return state.actor.params(jnp.ones(3)), kl


@pytest.mark.parametrize("kl", [0.3, 1.0])
def test_steps_of_mirror_descent_end_at_the_policy_of_maximum_entropy(kl):
    """Q = lambda log p, p a squashed Gaussian: pi = p at last, whatever k is."""
    mean, log_std = jnp.array([0.4, -0.6]), jnp.array([-0.9, -1.4])

    def q(_, a):
        z = jnp.arctanh(jnp.clip(a, -1 + 1e-6, 1 - 1e-6))
        return 0.3 * tanh_gaussian.log_density(z, mean, log_std)

    found, distance = ended(2000, q, **{"mirror.kl": kl, "mirror.entropy": 0.3})
    np.testing.assert_allclose(found[0], mean, atol=0.05)
    np.testing.assert_allclose(found[1], log_std, atol=0.08)
    assert abs(float(distance[-50:].mean())) < 0.01


def test_without_an_entropy_it_goes_on_to_the_maximum():
    """n steps of mirror descent are the policy exp(n Q / k): here 40 with k = 0.2, a deviation of 0.05."""
    found, _ = ended(2000, bump, **{"mirror.kl": 0.2, "mirror.entropy": 0.0})
    np.testing.assert_allclose(jnp.tanh(found[0]), [0.4, -0.3], atol=0.1)
    assert float(jnp.exp(found[1]).max()) < 0.1
