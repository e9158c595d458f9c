"""SDAC: what it regresses on, its losses' gradients, which networks act and judge."""

import jax
import jax.numpy as jnp
import numpy as np

from fewstep.algos import sdac
from fewstep.algos.contract import use_key
from fewstep.algos.shared.diffusion_policy import Noised
from tests.algos.common import apart, assert_critics_learn, batch, bump, noisy_best, same, tiny


def test_the_loss_is_the_distance_to_the_weighted_noise():
    """One improvement, recomputed from the same keys with a loop over rows."""
    _, cfg, state = tiny("sdac", **{"temperature.initial": 2.0, "regression.sharpness": 4.0})
    obs, actor = batch(5).obs, state.actor.params
    _, metrics = jax.jit(lambda st: sdac.improve(cfg, st, bump, obs))(state)
    key = use_key(state, sdac.Use.ACTION)
    action, _ = cfg.temperature.best(cfg.actor, actor, bump, jnp.float32(2.0), obs, key)
    at = Noised.of(cfg.actor, use_key(state, sdac.Use.NOISE), action)
    target, ess = cfg.regression.targets(bump, jnp.float32(0.5), obs, at, use_key(state, sdac.Use.CANDIDATES))
    errors = [(actor(s, x, t) - y) ** 2 for s, x, t, y in zip(obs, at.x, at.t, target, strict=True)]
    np.testing.assert_allclose(metrics["actor/loss"], np.mean(errors), rtol=1e-4)
    np.testing.assert_allclose(metrics["snis/ess"], ess, rtol=1e-4)


def test_a_flat_critic_leaves_the_box_uniform():
    """The mean noise of a flat target is that of the uniform density: its own sampler gives it back."""
    from fewstep.flows import diffusion

    _, cfg, _ = tiny("sdac", **{"actor.steps": 30, "actor.schedule": "cosine"})
    flat = lambda s, a: 0.0 * a.sum()  # noqa: E731
    table = jnp.asarray(cfg.actor.alphas_bar)

    def draw(key):
        k_noise, k_z = jax.random.split(key)

        def guess(x, t):
            uniform = jax.random.uniform(jax.random.fold_in(k_z, t), (200, 1), minval=1e-7)
            z = diffusion.noise_in_box(table[t], x, uniform)
            return cfg.regression.target(flat, jnp.float32(1.0), None, x, table[t], z)[0]

        return diffusion.sample(cfg.actor.alphas_bar, guess, jax.random.normal(k_noise, (30, 1)))

    drawn = np.ravel(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 4000)))
    shares = np.histogram(drawn, bins=8, range=(-1, 1))[0] / 4000
    np.testing.assert_allclose(shares, 1 / 8, atol=0.03)


def test_the_average_policy_acts_and_the_trained_critics_judge():
    algorithm, cfg, state = tiny("sdac", **{"actor.delay": 1})
    after, _ = jax.jit(lambda st: algorithm.update(cfg, st, batch()))(state)
    policy = algorithm.policy(after)
    assert same(policy.actor, after.target_actor)
    assert not same(policy.actor, after.actor.params)
    assert same(policy.critics.nets, after.critics.online.params)
    kept = jax.tree.map(lambda a, b: 0.995 * a + 0.005 * b, state.target_actor, after.actor.params)
    for found, expected in zip(jax.tree.leaves(after.target_actor), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_the_critics_learn_the_trained_policys_best_by_the_trained_critics_and_no_entropy_bonus():
    algorithm, cfg, state = tiny("sdac")
    state, data = apart(state), batch()
    nxt = noisy_best(cfg, state, data.next_obs, use_key(state, sdac.Use.NEXT_ACTION))
    assert_critics_learn(algorithm, cfg, state, data, nxt)
