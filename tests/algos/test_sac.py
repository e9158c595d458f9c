"""SAC: the squashed density, what every loss differentiates, and where training ends on known problems."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import tanh_gaussian, twins
from fewstep.algos.contract import ActionMode
from fewstep.algos.sac import ALGORITHM, learner
from fewstep.algos.sac import config as c
from fewstep.algos.temperature import TemperatureConfig
from fewstep.envs.toys import bandit
from fewstep.envs.toys.gaussian_fit import best_gaussian
from fewstep.types import Spec
from tests.algos.transitions import batch

TINY = c.SACConfig(
    actor=c.ActorConfig(hidden=(16, 16)), critic=replace(c.SACConfig().critic, hidden=(16, 16))
)
KINDS = ("plain", "layernorm", "crossq")


def with_critic(kind, cfg=TINY):
    return replace(cfg, critic=replace(cfg.critic, kind=kind))


def state(cfg=TINY, seed=0):
    return learner.init(cfg, Spec(3, 2), jax.random.key(seed))


@partial(jax.jit, static_argnums=0)
def step(cfg, s, b):
    return learner.update(cfg, s, b)


# --------------------------------------------------------------------------------------------- the density


def test_the_density_of_an_action_integrates_to_one():
    """On a grid of the open interval, in one dimension; also where the Gaussian is pushed into a corner."""
    for mean, log_std in ((0.0, -0.5), (1.0, 0.3), (-2.0, -1.0)):
        a = jnp.linspace(-1.0, 1.0, 400_001)[1:-1]
        density = jax.vmap(
            lambda z, m=mean, w=log_std: tanh_gaussian.log_density(z[None], jnp.array([m]), jnp.array([w]))
        )(jnp.arctanh(a))
        total = float(jnp.exp(density).sum() * (a[1] - a[0]))
        np.testing.assert_allclose(total, 1.0, atol=2e-3)


@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
def test_the_density_of_a_draw_is_that_of_its_action(scale):
    """Also far out in the saturated part, where 1 - tanh^2 is zero in float32."""
    actor = state().actor
    s, eps = jnp.array([0.3, -0.2, 0.9]), scale * jnp.array([1.0, -0.7])
    mean, log_std = actor(s)
    found = tanh_gaussian.draw(actor, s, eps)
    z = mean + jnp.exp(log_std) * eps
    np.testing.assert_allclose(found.log_prob, tanh_gaussian.log_density(z, mean, log_std), rtol=1e-5)
    np.testing.assert_allclose(found.action, jnp.tanh(z), rtol=1e-6)
    assert np.isfinite(found.log_prob)


# --------------------------------------------------------------------------------------------- the losses


@pytest.mark.parametrize("kind", KINDS)
def test_the_critics_regress_on_the_soft_target(kind):
    cfg, b = with_critic(kind), batch()
    before = step(cfg, state(cfg), b)[0]
    noise = jax.random.normal(learner.use_key(before, learner.Use.NEXT_ACTION), b.action.shape)
    nxt = jax.vmap(lambda s, e: tanh_gaussian.draw(before.actor, s, e))(b.next_obs, noise)
    judges = before.target_critics or before.critics
    if kind == "crossq":
        rows = [
            learner.twins.joint_values(k, b.obs, b.action, b.next_obs, nxt.action)[1] for k in before.critics
        ]
    else:
        rows = [jax.vmap(k)(b.next_obs, nxt.action) for k in judges]
    soft = np.minimum(*rows) - np.exp(before.log_alpha) * nxt.log_prob
    expected = b.reward + 0.99 * np.where(b.terminated, 0.0, soft)
    fitted = twins.fit(
        cfg.critic,
        cfg.discount,
        before.critics,
        before.target_critics,
        before.optimisers.critics,
        b,
        nxt.action,
        -jnp.exp(before.log_alpha) * nxt.log_prob,
    )
    np.testing.assert_allclose(fitted.seen.target, expected, rtol=1e-4, atol=1e-5)
    _, metrics = step(cfg, before, b)
    np.testing.assert_allclose(metrics["critic/q_std"], fitted.seen.target.std(), rtol=1e-4)


def test_the_actor_loss_reaches_the_actor_alone_and_is_pathwise():
    """Finite differences of the loss in one parameter, with the noise held fixed."""
    s, b = step(TINY, state(), batch())[0], batch()
    noise = jax.random.normal(jax.random.key(1), b.action.shape)

    def loss(actor, critics, alpha):
        q = twins.q_value("min", jax.lax.stop_gradient(critics))
        return learner.actor_loss(actor, q, alpha, b.obs, noise)[0]

    grads = jax.grad(loss)(s.actor, s.critics, 0.3).net.head.bias
    for i in range(grads.size):
        ends = []
        for sign in (1.0, -1.0):
            head = s.actor.net.head
            moved = replace(head, bias=head.bias.at[i].add(sign * 1e-2))
            actor = replace(s.actor, net=replace(s.actor.net, head=moved))
            ends.append(float(loss(actor, s.critics, 0.3)))
        np.testing.assert_allclose(grads[i], (ends[0] - ends[1]) / 2e-2, rtol=2e-2, atol=1e-4)


def test_a_critic_update_leaves_the_actor_alone_and_the_delay_is_kept():
    cfg = replace(TINY, actor=replace(TINY.actor, delay=3))
    actors = [state(cfg)]
    for _ in range(4):
        actors.append(step(cfg, actors[-1], batch())[0])
    moved = [
        bool(np.any(after.actor.net.head.weight != before.actor.net.head.weight))
        for before, after in pairwise(actors)
    ]
    assert moved == [True, False, False, True]
    assert all(
        np.any(after.critics[0].net.head.weight != before.critics[0].net.head.weight)
        for before, after in pairwise(actors)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_slow_copies_follow_at_their_rate_or_do_not_exist(kind):
    cfg = with_critic(kind)
    before = state(cfg)
    after, _ = step(cfg, before, batch())
    if kind == "crossq":
        assert after.target_critics == ()
        assert learner.policy(after).critics is after.critics
        return
    for old, new, slow in zip(
        *map(jax.tree.leaves, (before.target_critics, after.critics, after.target_critics)), strict=True
    ):
        np.testing.assert_allclose(slow, 0.995 * old + 0.005 * new, rtol=1e-5, atol=1e-7)


# --------------------------------------------------------------------------------------------- known answers


def trained(cfg, q, updates, obs_size=1, act_size=2, rows=128):
    obs = jnp.ones((rows, obs_size))

    @jax.jit
    def run(s):
        def body(s, _):
            s, metrics = learner.improve_policy(cfg, s, q, obs)
            return replace(s, updates=s.updates + 1), metrics

        return jax.lax.scan(body, s, None, length=updates)

    return run(learner.init(cfg, Spec(obs_size, act_size), jax.random.key(0)))


LEARN = c.SACConfig(actor=c.ActorConfig(hidden=(32, 32), learning_rate=3e-3))


def test_with_a_fixed_temperature_it_finds_the_squashed_gaussian_of_a_matching_value():
    """Q = alpha log p, p a squashed Gaussian: the optimum is p itself, and Q - alpha log pi is constant 0."""
    mean, log_std, alpha = jnp.array([0.4, -0.6]), jnp.array([-0.9, -1.4]), 0.3
    cfg = replace(LEARN, temperature=TemperatureConfig(initial=alpha, automatic=False))

    def q(_, a):
        z = jnp.arctanh(jnp.clip(a, -1 + 1e-6, 1 - 1e-6))
        return alpha * tanh_gaussian.log_density(z, mean, log_std)

    after, metrics = trained(cfg, q, 1500)
    found = after.actor(jnp.ones(1))
    np.testing.assert_allclose(found[0], mean, atol=0.03)
    np.testing.assert_allclose(found[1], log_std, atol=0.05)
    assert abs(float(metrics["actor/loss"][-50:].mean())) < 0.005


def test_an_adjusted_temperature_brings_the_entropy_to_its_target():
    cfg = replace(
        LEARN, temperature=TemperatureConfig(initial=0.1, learning_rate=1e-2, target_entropy_per_dim=-1.0)
    )
    _, metrics = trained(cfg, lambda _, a: -3.0 * jnp.sum((a - 0.2) ** 2), 2000)
    np.testing.assert_allclose(metrics["policy/entropy"][-200:].mean(), -2.0, atol=0.1)


def test_on_the_bandit_a_gaussian_is_what_it_can_find():
    """The control cannot represent the Boltzmann density: no better than the best Gaussian, fewer modes."""
    centres = jnp.asarray(bandit.CENTRES, jnp.float32)
    heights = jnp.asarray(bandit.HEIGHTS, jnp.float32)

    def q(_, a):
        return jnp.sum(heights * jnp.exp(-jnp.sum((a - centres) ** 2, axis=-1) / (2 * bandit.WIDTH**2)))

    cfg = replace(LEARN, temperature=TemperatureConfig(initial=0.2, automatic=False))
    after, _ = trained(cfg, q, 1000)
    obs = jnp.ones((20_000, 1))
    actions = learner.act(cfg, learner.policy(after), obs, jax.random.key(3), ActionMode())
    distance = float(bandit.total_variation(np.asarray(actions), 0.2))
    assert distance > float(best_gaussian(0.2).best.total_variation) - 0.02


def test_the_native_action_is_the_mean_and_best_of_n_is_the_best():
    s = step(TINY, state(), batch())[0]
    policy, obs, key = learner.policy(s), batch().obs, jax.random.key(5)
    assert ALGORITHM.native(TINY) == ActionMode(noise_free=True)
    mean = learner.act(TINY, policy, obs, key, ActionMode(noise_free=True))
    np.testing.assert_allclose(mean, jnp.tanh(jax.vmap(s.actor)(obs)[0]), rtol=1e-6)
    q = jax.vmap(twins.q_value("min", policy.critics))
    one = q(obs, learner.act(TINY, policy, obs, key, ActionMode()))
    best = q(obs, learner.act(TINY, policy, obs, key, ActionMode(candidates=64)))
    assert (best >= one - 1e-6).mean() > 0.9
