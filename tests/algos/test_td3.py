"""TD3: the smoothed target, what moves when, what every loss differentiates, and a known answer."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import twins
from fewstep.algos.contract import ActionMode, plain_sample
from fewstep.algos.td3 import ALGORITHM, learner
from fewstep.algos.td3 import config as c
from fewstep.errors import UsageError
from fewstep.types import Spec
from tests.algos.transitions import batch

TINY = c.TD3Config(
    actor=c.ActorConfig(hidden=(16, 16)), critic=replace(c.TD3Config().critic, hidden=(16, 16))
)
KINDS = ("plain", "layernorm", "crossq")


def with_critic(kind, cfg=TINY):
    return replace(cfg, critic=replace(cfg.critic, kind=kind))


def state(cfg=TINY, seed=0):
    return learner.init(cfg, Spec(3, 2), jax.random.key(seed))


@partial(jax.jit, static_argnums=0)
def step(cfg, s, b):
    return learner.update(cfg, s, b)


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (left, right)), strict=True))


def head(net):
    return net.net.head.weight


# --------------------------------------------------------------------------------------------- the target


@pytest.mark.parametrize(
    ("centre", "eps", "expected"),
    [
        (0.5, 1.0, 0.7),  # 0.2 is inside the clip
        (0.5, -1.5, 0.2),
        (0.1, 10.0, 0.6),  # the noise is cut at 0.5
        (0.1, -10.0, -0.4),
        (0.9, 2.0, 1.0),  # 1.3 is cut by the box
        (-0.6, -10.0, -1.0),
    ],
)
def test_the_target_action_is_smoothed_by_clipped_noise(centre, eps, expected):
    found = learner.target_action(c.SmoothingConfig(), lambda s: s, jnp.array([centre]), jnp.array([eps]))
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_critics_regress_on_the_slow_actors_smoothed_action(kind):
    """With actor, slow actor, critics and slow critics all different; the target written out in numpy."""
    cfg, b = with_critic(kind, replace(TINY, smoothing=c.SmoothingConfig(noise=0.6, clip=0.5))), batch()
    before = replace(step(cfg, state(cfg), b)[0], target_actor=state(cfg, seed=7).actor)
    eps = jax.random.normal(learner.use_key(before, learner.Use.SMOOTHING), b.action.shape)
    noise = np.clip(0.6 * np.asarray(eps), -0.5, 0.5)
    assert (np.abs(noise) == 0.5).any()
    nxt = np.clip(np.asarray(jax.vmap(before.target_actor)(b.next_obs)) + noise, -1, 1)
    if kind == "crossq":
        rows = [twins.joint_values(k, b.obs, b.action, b.next_obs, nxt)[1] for k in before.critics]
        values = [twins.joint_values(k, b.obs, b.action, b.next_obs, nxt)[0] for k in before.critics]
    else:
        rows = [jax.vmap(k)(b.next_obs, nxt) for k in before.target_critics]
        values = [jax.vmap(k)(b.obs, b.action) for k in before.critics]
    target = b.reward + 0.99 * np.where(b.terminated, 0.0, np.minimum(*rows))
    _, metrics = learner.update_critics(cfg, before, b)
    loss = 0.5 * sum(np.mean((value - target) ** 2) for value in values)
    np.testing.assert_allclose(metrics["critic/loss"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["critic/q_std"], np.std(target), rtol=1e-4)


def test_the_noise_of_the_target_changes_from_update_to_update():
    cfg, b = TINY, batch()
    first = state(cfg)
    later = replace(first, updates=jnp.int32(1))
    assert not same(*(learner.update_critics(cfg, s, b)[1]["critic/loss"] for s in (first, later)))


# ------------------------------------------------------------------------------------------ what moves when


@pytest.mark.parametrize("kind", KINDS)
def test_policy_and_slow_copies_move_on_every_delay_th_update_alone(kind):
    cfg = with_critic(kind, replace(TINY, actor=replace(TINY.actor, delay=3)))
    states = [state(cfg)]
    for seed in range(5):
        states.append(step(cfg, states[-1], batch(seed=seed))[0])
    for name in ("actor", "target_actor", "target_critics"):
        if kind == "crossq" and name == "target_critics":
            assert all(s.target_critics == () for s in states)
            continue
        moved = [not same(getattr(old, name), getattr(new, name)) for old, new in pairwise(states)]
        assert moved == [True, False, False, True, False], name
    assert not any(same(head(old.critics[0]), head(new.critics[0])) for old, new in pairwise(states))


def test_slow_copies_follow_the_new_networks_at_tau():
    cfg = replace(TINY, critic=replace(TINY.critic, tau=0.1))
    before = state(cfg)
    after, _ = step(cfg, before, batch())
    pairs = (
        (before.target_actor, after.actor, after.target_actor),
        (before.target_critics, after.critics, after.target_critics),
    )
    for trees in pairs:
        for old, new, slow in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_allclose(slow, 0.9 * old + 0.1 * new, rtol=1e-5, atol=1e-7)


def test_metrics_of_the_policy_are_held_while_it_waits():
    first, metrics = step(TINY, state(), batch())
    _, held = step(TINY, first, batch(seed=1))
    for name in learner.POLICY_METRICS:
        assert float(held[name]) == float(metrics[name]), name
    assert float(held["critic/loss"]) != float(metrics["critic/loss"])


# ------------------------------------------------------------------------------------------ the actor's loss


def test_the_first_critic_alone_drives_the_actor():
    """The critics' own step, where the twins share a target, is made too small to matter."""
    cfg = replace(TINY, critic=replace(TINY.critic, learning_rate=1e-30))
    s, other = state(cfg), state(cfg, seed=5)

    def actor_after(critics):
        changed = replace(s, critics=critics)
        return step(cfg, changed, batch())[0].actor

    reference = actor_after(s.critics)
    assert same(reference, actor_after((s.critics[0], other.critics[1])))
    assert not same(reference, actor_after((other.critics[0], s.critics[1])))


def test_the_actor_loss_reaches_the_actor_through_the_action():
    """The chain rule by hand: dL/dtheta = -mean dQ/da da/dtheta, and finite differences."""
    s, b = step(TINY, state(), batch())[0], batch()
    q = s.critics[0]
    grads = jax.grad(lambda actor: learner.actor_loss(actor, q, b.obs)[0])(s.actor)
    actions = jax.vmap(s.actor)(b.obs)
    slope = jax.vmap(jax.grad(q, argnums=1))(b.obs, actions)
    np.testing.assert_allclose(grads.net.head.bias, -(slope * (1 - actions**2)).mean(0), rtol=1e-4, atol=1e-7)
    for i in range(2):
        ends = []
        for sign in (1.0, -1.0):
            top = s.actor.net.head
            moved = replace(top, bias=top.bias.at[i].add(sign * 1e-2))
            actor = replace(s.actor, net=replace(s.actor.net, head=moved))
            ends.append(float(learner.actor_loss(actor, q, b.obs)[0]))
        np.testing.assert_allclose(grads.net.head.bias[i], (ends[0] - ends[1]) / 2e-2, rtol=2e-2, atol=1e-4)


def test_the_gradient_map():
    """No gradient of the critics' step reaches an actor, and none of the actor's step the critics."""
    s, b = step(TINY, state(), batch())[0], batch()
    after = learner.update_critics(TINY, s, b)[0]
    assert same(
        (after.actor, after.target_actor, after.target_critics), (s.actor, s.target_actor, s.target_critics)
    )
    improved = learner.improve_policy(TINY, s, s.critics[0], b.obs)[0]
    assert same(improved.critics, s.critics)
    assert same(improved.optimisers.critics, s.optimisers.critics)


# --------------------------------------------------------------------------------------------- a known answer


def test_it_climbs_to_the_top_of_a_quadratic_value():
    """Q = -|a - f(s)|^2 with f inside the box for one state and beyond it for the other (where tanh ends)."""
    cfg = replace(TINY, actor=c.ActorConfig(hidden=(32, 32), learning_rate=3e-3))
    obs = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    tops = jnp.array([[0.5, -0.3], [-0.8, 1.5]])

    def q(s, a):
        return -jnp.sum((a - s[:2] @ tops) ** 2)

    @jax.jit
    def run(s):
        return jax.lax.scan(lambda s, _: learner.improve_policy(cfg, s, q, obs), s, None, length=1500)

    after, metrics = run(state(cfg))
    found = learner.act(cfg, learner.policy(after), obs, jax.random.key(0), ActionMode(noise_free=True))
    np.testing.assert_allclose(found, [[0.5, -0.3], [-0.8, 1.0]], atol=0.02)
    np.testing.assert_allclose(metrics["actor/loss"][-1], 0.25 / 2, atol=0.01)
    np.testing.assert_allclose(metrics["actor/loss"], -metrics["actor/q"])
    assert float(metrics["policy/saturated_share"][-1]) == 0.25
    np.testing.assert_allclose(learner.policy(after).actor(obs[0]), after.target_actor(obs[0]), atol=0.02)


# --------------------------------------------------------------------------------------------- acting


def test_the_native_action_has_no_noise_and_a_sample_is_noise_around_it_inside_the_box():
    s = state()
    policy, key = learner.policy(s), jax.random.key(5)
    assert ALGORITHM.native(TINY) == ActionMode(noise_free=True)
    assert ALGORITHM.behaviour is plain_sample
    obs = jnp.tile(batch().obs[:1], (4000, 1))
    centre = learner.act(TINY, policy, obs[:1], key, ActionMode(noise_free=True))[0]
    np.testing.assert_allclose(centre, jnp.tanh(s.actor.net(obs[0])), rtol=1e-6)
    drawn = learner.act(TINY, policy, obs, key, ActionMode())
    assert np.abs(centre).max() < 0.6
    np.testing.assert_allclose(drawn.mean(0), centre, atol=0.01)
    np.testing.assert_allclose(drawn.std(0), 0.1, rtol=0.05)
    loud = replace(TINY, actor=replace(TINY.actor, exploration_noise=5.0))
    wild = learner.act(loud, policy, obs, key, ActionMode())
    assert float(jnp.abs(wild).max()) == 1.0


def test_best_of_n_is_the_best_of_noisy_actions():
    s = step(TINY, state(), batch())[0]
    policy, obs, key = learner.policy(s), batch().obs, jax.random.key(5)
    q = jax.vmap(twins.q_value("min", policy.critics))
    one = q(obs, learner.act(TINY, policy, obs, key, ActionMode()))
    best = q(obs, learner.act(TINY, policy, obs, key, ActionMode(candidates=64)))
    assert (best >= one - 1e-6).mean() > 0.9


@pytest.mark.parametrize(
    "make",
    [
        lambda: c.ActorConfig(exploration_noise=-0.1),
        lambda: c.ActorConfig(delay=0),
        lambda: c.SmoothingConfig(noise=-1.0),
        lambda: c.SmoothingConfig(clip=-1.0),
        lambda: c.TD3Config(discount=1.5),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(UsageError):
        make()
