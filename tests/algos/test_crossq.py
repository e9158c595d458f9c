"""CrossQ: whose statistics move when, the modes of the actor, the losses, and a known answer."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import sac
from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.crossq import ALGORITHM, CrossQConfig
from fewstep.algos.shared import tanh_gaussian
from fewstep.errors import UsageError
from fewstep.types import Spec
from tests.algos.common import batch, changed, same
from tests.critics.reference import expected

TINY = changed(CrossQConfig(), ALGORITHM.tiny)


def state(cfg=TINY, seed=0):
    return sac.init(cfg, Spec(3, 2), jax.random.key(seed))


@partial(jax.jit, static_argnums=0)
def step(cfg, s, b):
    return sac.update(cfg, s, b)


def evaluated(s, obs):
    return jax.vmap(lambda row: s.actor.params(row, s.stats))(obs)


@pytest.fixture(scope="module")
def course():
    """States before and after each of five updates, the actor's turn being the first and the fourth."""
    states = [state()]
    for seed in range(5):
        states.append(step(TINY, states[-1], batch(seed=seed))[0])
    return states


# --------------------------------------------------------------------------------------------- the statistics


def test_the_actors_statistics_see_each_of_its_own_updates_once(course):
    """One batch per policy update, none per critic update, though each of those asks it for a'."""
    assert [int(s.stats[0].batches) for s in course] == [0, 1, 1, 1, 2, 2]
    assert [int(s.critics.stats[0][0].batches) for s in course] == [0, 1, 2, 3, 4, 5]
    for name in ("actor", "stats", "temperature", "held"):
        moved = [not same(getattr(old, name), getattr(new, name)) for old, new in pairwise(course)]
        assert moved == [True, False, False, True, False], name


def test_they_move_to_the_batch_of_states_by_one_minus_momentum(course):
    """The first layer's, which sees the states as they are: neither actions nor successors are in them."""
    obs = np.asarray(batch(seed=0).obs)
    first = course[1].stats[0]
    np.testing.assert_allclose(first.mean, 0.01 * obs.mean(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(first.variance, 0.99 + 0.01 * obs.var(0), rtol=1e-4)
    assert first.mean.shape == (3,)
    assert len(course[1].stats) == 3


def test_the_policys_update_leaves_no_trace_in_the_critics(course):
    s = course[1]
    improved = jax.jit(lambda s: sac.improve(TINY, s, s.critics.q(TINY.critic), batch().obs)[0])(s)
    assert same(improved.critics, s.critics)
    assert not same(improved.actor, s.actor)


def test_acting_is_evaluation_row_by_row(course):
    """By the running statistics: an action depends on its own state alone, and nothing moves."""
    policy, key = ALGORITHM.policy(course[-1]), jax.random.key(5)
    obs, native = batch().obs, ALGORITHM.native(TINY)
    assert native == ActionMode(noise_free=True)
    together = ALGORITHM.act(TINY, policy, obs, key, native)
    alone = jnp.concatenate([ALGORITHM.act(TINY, policy, obs[i : i + 1], key, native) for i in range(3)])
    np.testing.assert_allclose(together[:3], alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together, jnp.tanh(evaluated(course[-1], obs)[0]), rtol=1e-6)
    trained = course[-1].actor.params.train(course[-1].stats, obs)[0][0]
    assert not np.allclose(jnp.tanh(trained), together, atol=1e-2)


# --------------------------------------------------------------------------------------------- the losses


def test_the_critics_regress_on_the_soft_target_of_the_joint_forward(course):
    """a' from the actor in evaluation mode."""
    before, b = course[-1], batch(seed=9)
    noise = jax.random.normal(use_key(before, sac.Use.NEXT_ACTION), b.action.shape)
    nxt = jax.vmap(lambda s, e: tanh_gaussian.draw(before.actor.params, s, e, before.stats))(
        b.next_obs, noise
    )
    bonus = -np.exp(before.temperature.log.params) * nxt.log_prob
    wanted, _ = expected(TINY.critic, 0.99, before.critics, b, nxt.action, bonus)
    after, metrics = step(TINY, before, b)
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    rows = np.concatenate([np.hstack([b.obs, b.action]), np.hstack([b.next_obs, nxt.action])])
    moved = 0.99 * before.critics.stats[0][0].mean + 0.01 * rows.mean(0)
    np.testing.assert_allclose(after.critics.stats[0][0].mean, moved, rtol=1e-4, atol=1e-6)


def test_the_actor_loss_is_in_training_mode(course):
    """Before the warm-up's end the running statistics do not enter it, and the batch's own undo a shift and a
    scale of the states (up to the epsilon under the root)."""
    net, stats, obs = course[-1].actor.params, course[-1].stats, batch().obs
    noise = jax.random.normal(jax.random.key(1), (16, 2))

    def loss(stats, obs):
        return sac.actor_loss(net, stats, lambda _, a: -jnp.sum(a**2), 0.3, obs, noise)

    value, found = loss(stats, obs)
    moved = tuple(replace(one, mean=one.mean + 0.3) for one in stats)
    np.testing.assert_allclose(loss(moved, obs)[0], value, rtol=1e-5)
    np.testing.assert_allclose(loss(stats, 4.0 * obs + 1.0)[0], value, rtol=2e-2, atol=2e-3)
    assert net.log_std_min == -20.0
    mean, log_std = jnp.split(net.net.train(stats, obs)[0], 2, axis=1)
    by_hand = jax.vmap(tanh_gaussian.squash)(mean, jnp.clip(log_std, -20.0, 2.0), noise)
    np.testing.assert_allclose(found.q, -jnp.sum(by_hand.action**2, axis=1).mean(), rtol=1e-5)
    np.testing.assert_allclose(found.entropy, -by_hand.log_prob.mean(), rtol=1e-5)
    np.testing.assert_allclose(value, -0.3 * found.entropy - found.q, rtol=1e-5, atol=1e-6)


def test_the_actor_loss_is_pathwise_in_the_network_alone(course):
    """Finite differences in the head's bias, the noise held fixed."""
    s, b = course[-1], batch()
    noise = jax.random.normal(jax.random.key(1), b.action.shape)
    q, net = s.critics.q(TINY.critic), s.actor.params
    loss = jax.jit(lambda net: sac.actor_loss(net, s.stats, q, 0.3, b.obs, noise)[0])
    grads = jax.grad(loss)(net)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(grads.net.norms))
    for i in range(grads.net.head.bias.size):
        ends = []
        for sign in (1.0, -1.0):
            head = net.net.head
            moved = replace(head, bias=head.bias.at[i].add(sign * 1e-2))
            ends.append(float(loss(replace(net, net=replace(net.net, head=moved)))))
        np.testing.assert_allclose(grads.net.head.bias[i], (ends[0] - ends[1]) / 2e-2, rtol=2e-2, atol=1e-3)


# --------------------------------------------------------------------------------------------- a known answer


def test_it_finds_the_squashed_gaussian_of_a_quadratic_value():
    """Q = alpha log p: -alpha/2 ((z - m_s)/w)^2 in z = artanh a, with the tanh term; the optimum is p.

    Two states with their own optimum, seen as they are in training: half a batch each, so that the batch's
    statistics are those that evaluation ends up with.
    """
    means, log_std, alpha = jnp.array([[0.4, -0.6], [-0.5, 0.2]]), jnp.array([-0.9, -1.4]), 0.3
    actor = {"actor.hidden": (32, 32), "actor.learning_rate": 3e-3}
    cfg = changed(TINY, actor | {"temperature.initial": alpha, "temperature.automatic": False})
    obs = jnp.tile(jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), (64, 1))

    def q(s, a):
        z = jnp.arctanh(jnp.clip(a, -1 + 1e-6, 1 - 1e-6))
        return alpha * tanh_gaussian.log_density(z, s[:2] @ means, log_std)

    @jax.jit
    def run(s):
        def body(s, _):
            s, metrics = sac.improve(cfg, s, q, obs)
            return replace(s, updates=s.updates + 1), (metrics, evaluated(s, obs[:2]))

        return jax.lax.scan(body, s, None, length=2000)[1]

    metrics, policies = run(state(cfg))
    # At this rate single updates swing by 0.1 around the optimum; what they swing around is the claim.
    mean, log_std_found = (field[-500:].mean(0) for field in policies)
    np.testing.assert_allclose(mean, means, atol=0.04)
    np.testing.assert_allclose(log_std_found, jnp.tile(log_std, (2, 1)), atol=0.06)
    assert abs(float(metrics["actor/loss"][-50:].mean())) < 0.01


# --------------------------------------------------------------------------------------------- settings


def test_the_defaults_are_the_papers():
    cfg = CrossQConfig()
    assert cfg.critic.hidden == (2048, 2048)
    assert (cfg.actor.delay, cfg.actor.learning_rate, cfg.actor.b1) == (3, 1e-3, 0.5)
    critic = cfg.critic
    assert (critic.trunk, critic.head, critic.target) == ("crossq", "scalar", "none")
    assert (critic.ensemble, critic.reduce, critic.learning_rate, critic.b1) == (2, "min", 1e-3, 0.5)
    t = cfg.temperature
    assert (t.initial, t.learning_rate, t.target_entropy_per_dim, t.automatic) == (1.0, 1e-3, -1.0, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("actor.delay", 0), ("actor.momentum", 1.0), ("actor.warm_up", -1), ("discount", 1.5)],
)
def test_impossible_settings_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        changed(TINY, {name: value})
