"""TD3: the smoothed target, what moves when, the gradient of the actor's loss, a known answer."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import td3
from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.td3 import ALGORITHM, SmoothingConfig, TD3Config
from fewstep.errors import UsageError
from fewstep.types import Spec
from tests.algos.common import assert_close, batch, changed, same
from tests.critics.reference import expected

TINY = changed(TD3Config(), ALGORITHM.tiny)
KEY = jax.random.key(5)


def state(cfg=TINY, seed=0):
    return td3.init(cfg, Spec(3, 2), jax.random.key(seed))


@partial(jax.jit, static_argnums=0)
def step(cfg, s, b):
    return td3.update(cfg, s, b)


# -------------------------------------------------------------------------------- the target


@pytest.mark.parametrize(
    ("centre", "eps", "smoothed"),
    [
        (0.5, 1.0, 0.7),  # 0.2 is inside the clip
        (0.5, -1.5, 0.2),
        (0.1, 10.0, 0.6),  # the noise is cut at 0.5
        (0.1, -10.0, -0.4),
        (0.9, 2.0, 1.0),  # 1.3 is cut by the box
        (-0.6, -10.0, -1.0),
    ],
)
def test_the_target_action_is_smoothed_by_clipped_noise(centre, eps, smoothed):
    found = td3.target_action(SmoothingConfig(), lambda s: s, jnp.array([centre]), jnp.array([eps]))
    np.testing.assert_allclose(found, [smoothed], rtol=1e-6)


@pytest.mark.parametrize("trunk", ["mlp", "crossq"])
def test_the_critics_regress_on_the_target_actors_smoothed_action(trunk):
    """With actor and target actor different; no entropy bonus."""
    cfg, b = changed(TINY, {"critic.trunk": trunk, "smoothing.noise": 0.6}), batch()
    before = replace(step(cfg, state(cfg), b)[0], target_actor=state(cfg, seed=7).actor.params)
    eps = jax.random.normal(use_key(before, td3.Use.SMOOTHING), b.action.shape)
    noise = np.clip(0.6 * np.asarray(eps), -0.5, 0.5)
    assert (np.abs(noise) == 0.5).any()
    nxt = np.clip(np.asarray(jax.vmap(before.target_actor)(b.next_obs)) + noise, -1, 1)
    wanted, _ = expected(cfg.critic, 0.99, before.critics, b, nxt, None)
    _, metrics = step(cfg, before, b)
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_noise_of_the_target_changes_from_update_to_update():
    first = state()
    later = replace(first, updates=jnp.int32(2))
    losses = [float(step(TINY, s, batch())[1]["critic/loss"]) for s in (first, later)]
    assert losses[0] != losses[1]


# -------------------------------------------------------------------------------- the gradient map


def test_policy_and_target_actor_move_at_every_delay_th_update_alone():
    cfg = changed(TINY, {"actor.delay": 3, "critic.target_delay": 3})
    states = [state(cfg)]
    for seed in range(5):
        states.append(step(cfg, states[-1], batch(seed=seed))[0])
    for name in ("actor", "target_actor", "held"):
        moved = [not same(getattr(old, name), getattr(new, name)) for old, new in pairwise(states)]
        assert moved == [True, False, False, True, False], name
    moved = [not same(old.critics.target, new.critics.target) for old, new in pairwise(states)]
    assert moved == [True, False, False, True, False]
    assert not any(same(old.critics.online, new.critics.online) for old, new in pairwise(states))
    improved, _ = td3.improve(cfg, states[1], states[1].critics.first_q(cfg.critic), batch().obs)
    assert same(improved.critics, states[1].critics)


def test_by_default_policy_and_target_critics_share_the_delay():
    assert TD3Config().actor.delay == TD3Config().critic.target_delay == 2


def test_the_target_actor_follows_the_new_actor_at_tau():
    cfg = changed(TINY, {"critic.tau": 0.1})
    before, after = state(cfg), step(cfg, state(cfg), batch())[0]
    mixed = jax.tree.map(lambda new, old: 0.1 * new + 0.9 * old, after.actor.params, before.target_actor)
    assert_close(after.target_actor, mixed, atol=1e-7)
    assert same(before.target_actor, before.actor.params)


def test_the_first_critic_alone_drives_the_actor():
    """The critics' own step, where the two share a target, is made too small to matter."""
    cfg = changed(TINY, {"critic.learning_rate": 1e-30})
    s, other = state(cfg), state(cfg, seed=5).critics.online.params
    mine = s.critics.online.params

    def actor_after(nets):
        online = replace(s.critics.online, params=nets)
        return step(cfg, replace(s, critics=replace(s.critics, online=online)), batch())[0].actor

    assert same(actor_after(mine), actor_after((mine[0], other[1])))
    assert not same(actor_after(mine), actor_after((other[0], mine[1])))


def test_the_actor_loss_reaches_the_actor_through_the_action():
    """The chain rule by hand: dL/dtheta = -mean dQ/da da/dtheta, and finite differences."""
    s, b = step(TINY, state(), batch())[0], batch()
    q, actor = s.critics.first_q(TINY.critic), s.actor.params
    loss = jax.jit(lambda actor: td3.actor_loss(actor, q, b.obs)[0])
    grads = jax.grad(loss)(actor)
    actions = jax.vmap(actor)(b.obs)
    slope = jax.vmap(jax.grad(q, argnums=1))(b.obs, actions)
    np.testing.assert_allclose(grads.net.head.bias, -(slope * (1 - actions**2)).mean(0), rtol=1e-4, atol=1e-7)
    for i in range(2):
        ends = []
        for sign in (1.0, -1.0):
            top = actor.net.head
            moved = replace(top, bias=top.bias.at[i].add(sign * 1e-2))
            ends.append(float(loss(replace(actor, net=replace(actor.net, head=moved)))))
        np.testing.assert_allclose(grads.net.head.bias[i], (ends[0] - ends[1]) / 2e-2, rtol=2e-2, atol=1e-4)


# -------------------------------------------------------------------------------- a known answer


def test_it_climbs_to_the_top_of_a_quadratic_value():
    """Q = -|a - f(s)|^2 with f inside the box for one state and beyond it for the other (where tanh ends)."""
    cfg = changed(TINY, {"actor.hidden": (32, 32), "actor.learning_rate": 3e-3})
    obs = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    tops = jnp.array([[0.5, -0.3], [-0.8, 1.5]])

    def q(s, a):
        return -jnp.sum((a - s[:2] @ tops) ** 2)

    @jax.jit
    def run(s):
        return jax.lax.scan(lambda s, _: td3.improve(cfg, s, q, obs), s, None, length=1500)

    after, metrics = run(state(cfg))
    found = ALGORITHM.act(cfg, ALGORITHM.policy(after), obs, KEY, ActionMode(noise_free=True))
    np.testing.assert_allclose(found, [[0.5, -0.3], [-0.8, 1.0]], atol=0.02)
    np.testing.assert_allclose(metrics["actor/loss"][-1], 0.25 / 2, atol=0.01)
    np.testing.assert_allclose(metrics["actor/loss"], -metrics["actor/q"])
    assert float(metrics["policy/saturated_share"][-1]) == 0.25
    np.testing.assert_allclose(after.actor.params(obs[0]), after.target_actor(obs[0]), atol=0.02)


# -------------------------------------------------------------------------------- acting


def test_every_action_that_is_evaluated_is_the_actors_own():
    """Exploration noise is added while collecting alone: a sample has none either."""
    s = state()
    policy, obs = ALGORITHM.policy(s), batch().obs
    assert ALGORITHM.native(TINY) == ActionMode(noise_free=True)
    own = jnp.tanh(jax.vmap(s.actor.params.net)(obs))
    for mode in (ActionMode(noise_free=True), ActionMode()):
        np.testing.assert_allclose(ALGORITHM.act(TINY, policy, obs, KEY, mode), own, rtol=1e-6)
    with pytest.raises(UsageError, match="no best-of-4"):
        ALGORITHM.mode(TINY, "best-of-4")


def test_what_is_collected_is_the_action_and_gaussian_noise_inside_the_box():
    policy, obs = ALGORITHM.policy(state()), jnp.tile(batch().obs[:1], (4000, 1))
    centre = policy(obs[0])
    assert np.abs(centre).max() < 0.6
    collected = ALGORITHM.collect(TINY, policy, obs, KEY)
    np.testing.assert_allclose(collected.mean(0), centre, atol=0.01)
    np.testing.assert_allclose(collected.std(0), 0.1, rtol=0.05)
    assert not np.array_equal(collected, ALGORITHM.collect(TINY, policy, obs, jax.random.key(6)))
    wild = ALGORITHM.collect(changed(TINY, {"actor.exploration_noise": 5.0}), policy, obs, KEY)
    assert float(jnp.abs(wild).max()) == 1.0
    silent = ALGORITHM.collect(changed(TINY, {"actor.exploration_noise": 0.0}), policy, obs, KEY)
    np.testing.assert_allclose(silent, jnp.tile(centre, (4000, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("actor.exploration_noise", -0.1),
        ("actor.delay", 0),
        ("smoothing.noise", -1.0),
        ("smoothing.clip", -1.0),
        ("discount", 1.5),
    ],
)
def test_impossible_settings_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        changed(TINY, {name: value})
