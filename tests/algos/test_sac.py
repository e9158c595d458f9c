"""SAC: the squashed density, the soft target, what the actor's loss differentiates, where training ends."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import sac
from fewstep.algos.contract import ActionMode, use_key
from fewstep.algos.sac import ALGORITHM, SACConfig
from fewstep.algos.shared import tanh_gaussian
from fewstep.envs.toys import bandit
from fewstep.envs.toys.gaussian_fit import best_gaussian
from fewstep.training.device.toys import bandit_reward
from fewstep.types import Spec
from tests.algos.common import batch, changed, same
from tests.critics.reference import expected
from tests.few import slow

TINY = changed(SACConfig(), ALGORITHM.tiny)


def state(cfg=TINY, seed=0):
    return sac.init(cfg, Spec(3, 2), jax.random.key(seed))


@partial(jax.jit, static_argnums=0)
def step(cfg, s, b):
    return sac.update(cfg, s, b)


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
    actor = state().actor.params
    s, eps = jnp.array([0.3, -0.2, 0.9]), scale * jnp.array([1.0, -0.7])
    mean, log_std = actor(s)
    found = tanh_gaussian.draw(actor, s, eps)
    z = mean + jnp.exp(log_std) * eps
    np.testing.assert_allclose(found.log_prob, tanh_gaussian.log_density(z, mean, log_std), rtol=1e-5)
    np.testing.assert_allclose(found.action, jnp.tanh(z), rtol=1e-6)
    assert np.isfinite(found.log_prob)


# --------------------------------------------------------------------------------------------- the losses


@pytest.mark.parametrize("trunk", ["mlp", "crossq"])
def test_the_critics_regress_on_the_soft_target(trunk):
    """a' and its entropy bonus from the actor and the temperature before the update."""
    cfg, b = changed(TINY, {"critic.trunk": trunk, "temperature.initial": 0.3}), batch()
    before = step(cfg, state(cfg), b)[0]
    noise = jax.random.normal(use_key(before, sac.Use.NEXT_ACTION), b.action.shape)
    nxt = jax.vmap(lambda s, e: tanh_gaussian.draw(before.actor.params, s, e))(b.next_obs, noise)
    bonus = -np.exp(before.temperature.log.params) * nxt.log_prob
    wanted, _ = expected(cfg.critic, 0.99, before.critics, b, nxt.action, bonus)
    _, metrics = step(cfg, before, b)
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_actor_loss_is_pathwise():
    """Finite differences of the loss in one parameter, with the noise held fixed."""
    s, b = step(TINY, state(), batch())[0], batch()
    noise = jax.random.normal(jax.random.key(1), b.action.shape)
    actor = s.actor.params

    @jax.jit
    def loss(actor):
        return sac.actor_loss(actor, (), s.critics.q(TINY.critic), 0.3, b.obs, noise)[0]

    grads = jax.grad(loss)(actor).net.head.bias
    for i in range(grads.size):
        ends = []
        for sign in (1.0, -1.0):
            head = actor.net.head
            moved = replace(head, bias=head.bias.at[i].add(sign * 1e-2))
            ends.append(float(loss(replace(actor, net=replace(actor.net, head=moved)))))
        np.testing.assert_allclose(grads[i], (ends[0] - ends[1]) / 2e-2, rtol=2e-2, atol=1e-4)


def test_the_gradient_map():
    """The critics' step moves critics alone, at every update; the improvement actor and temperature alone."""
    cfg = changed(TINY, {"actor.delay": 3})
    states = [state(cfg)]
    for _ in range(4):
        states.append(step(cfg, states[-1], batch())[0])
    for name in ("actor", "temperature", "held"):
        moved = [not same(getattr(old, name), getattr(new, name)) for old, new in pairwise(states)]
        assert moved == [True, False, False, True], name
    assert not any(same(old.critics.online, new.critics.online) for old, new in pairwise(states))
    improved, _ = sac.improve(cfg, states[1], states[1].critics.q(cfg.critic), batch().obs)
    assert same(improved.critics, states[1].critics)
    assert not same(improved.actor, states[1].actor)


@pytest.mark.parametrize("trunk", ["flash", *slow("layernorm", "crossq", "xqc")])
def test_an_actor_of_any_trunk_keeps_what_its_trunk_keeps(trunk):
    """Unit columns after a step; statistics that see the batch of states, once per policy update."""
    cfg = changed(TINY, {"actor.trunk": trunk, "actor.delay": 2})
    s = state(cfg)
    for seed in range(3):
        s = step(cfg, s, batch(seed=seed))[0]
    kernel = s.actor.params.net.head.weight
    norms = jnp.linalg.norm(kernel, axis=0)
    assert np.allclose(norms, 1.0, atol=1e-5) == (trunk in ("xqc", "flash"))
    assert [int(one.batches) for one in s.stats[:1]] == ([] if trunk == "layernorm" else [2])
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((s.actor, s.stats, s.held)))
    policy, obs, key = ALGORITHM.policy(s), batch().obs, jax.random.key(1)
    rows = ALGORITHM.act(cfg, policy, obs, key, ALGORITHM.native(cfg))
    alone = ALGORITHM.act(cfg, policy, obs[:1], key, ALGORITHM.native(cfg))
    np.testing.assert_allclose(alone, rows[:1], rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------------------------- known answers


def trained(cfg, q, updates, obs_size=1, act_size=2, rows=128):
    obs = jnp.ones((rows, obs_size))

    @jax.jit
    def run(s):
        def body(s, _):
            s, metrics = sac.improve(cfg, s, q, obs)
            return replace(s, updates=s.updates + 1), metrics

        return jax.lax.scan(body, s, None, length=updates)

    return run(sac.init(cfg, Spec(obs_size, act_size), jax.random.key(0)))


LEARN = changed(TINY, {"actor.hidden": (32, 32), "actor.learning_rate": 3e-3, "temperature.automatic": False})


def test_with_a_fixed_temperature_it_finds_the_squashed_gaussian_of_a_matching_value():
    """Q = alpha log p, p a squashed Gaussian: the optimum is p itself, and Q - alpha log pi is constant 0."""
    mean, log_std, alpha = jnp.array([0.4, -0.6]), jnp.array([-0.9, -1.4]), 0.3

    def q(_, a):
        z = jnp.arctanh(jnp.clip(a, -1 + 1e-6, 1 - 1e-6))
        return alpha * tanh_gaussian.log_density(z, mean, log_std)

    after, metrics = trained(changed(LEARN, {"temperature.initial": alpha}), q, 1500)
    found = after.actor.params(jnp.ones(1))
    np.testing.assert_allclose(found[0], mean, atol=0.03)
    np.testing.assert_allclose(found[1], log_std, atol=0.05)
    assert abs(float(metrics["actor/loss"][-50:].mean())) < 0.005


def test_an_adjusted_temperature_brings_the_entropy_to_its_target():
    adjusted = {"initial": 0.1, "learning_rate": 1e-2, "target_entropy_per_dim": -1.0, "automatic": True}
    cfg = changed(LEARN, {"temperature": adjusted})
    _, metrics = trained(cfg, lambda _, a: -3.0 * jnp.sum((a - 0.2) ** 2), 2000)
    np.testing.assert_allclose(metrics["policy/entropy"][-200:].mean(), -2.0, atol=0.1)


def test_on_the_bandit_it_finds_the_best_gaussian_which_has_one_of_the_four_bumps():
    """The control cannot represent the Boltzmann density: as far from it as that Gaussian, no nearer."""
    cfg = changed(LEARN, {"temperature.initial": 0.1})
    after, _ = trained(cfg, lambda _, a: bandit_reward(a), 1000)
    obs = jnp.ones((20_000, 1))
    actions = np.asarray(ALGORITHM.act(cfg, ALGORITHM.policy(after), obs, jax.random.key(3), ActionMode()))
    best = best_gaussian(0.1).best
    assert 0.35 < best.total_variation < 0.45
    np.testing.assert_allclose(bandit.total_variation(actions, 0.1), best.total_variation, atol=0.03)
    np.testing.assert_allclose(bandit.mode_shares(actions), [1, 0, 0, 0], atol=0.01)
    np.testing.assert_allclose(best.mode_shares, [1, 0, 0, 0], atol=0.01)
    assert bandit.target_shares(0.1)[0] < 0.65


def test_the_native_action_is_the_mean():
    s = step(TINY, state(), batch())[0]
    assert ALGORITHM.native(TINY) == ActionMode(noise_free=True)
    assert ALGORITHM.behaviour(TINY) == ActionMode()
    mean = ALGORITHM.act(
        TINY, ALGORITHM.policy(s), batch().obs, jax.random.key(5), ActionMode(noise_free=True)
    )
    np.testing.assert_allclose(mean, jnp.tanh(jax.vmap(s.actor.params)(batch().obs)[0]), rtol=1e-6)
