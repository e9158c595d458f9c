"""MaxEntDP: the soft target, its likelihood, what it regresses on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fewstep.algos import maxentdp
from fewstep.algos.contract import use_key
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.diffusion_policy import Noised
from fewstep.flows import likelihood
from tests.algos.common import batch, bump, changed, same, tiny


def test_the_critics_target_has_the_entropy_bonus_of_the_likelihood():
    algorithm, cfg, state = tiny("maxentdp", **{"temperature.initial": 0.5})
    data, actor = batch(), state.actor.params
    after, metrics = jax.jit(lambda st: algorithm.update(cfg, st, data))(state)
    nxt = dp.draw_rows(cfg.actor, actor, data.next_obs, use_key(state, maxentdp.Use.NEXT_ACTION))
    noise = jax.random.normal(use_key(state, maxentdp.Use.LIKELIHOOD), (16, 1, 3, 2))

    @jax.jit
    def density(s, a, e):
        return likelihood.log_density(cfg.actor.alphas_bar, partial(actor, s), a, e)

    log_prob = jnp.stack([density(*row) for row in zip(data.next_obs, nxt, noise, strict=True)])
    np.testing.assert_allclose(metrics["policy/entropy"], -log_prob.mean(), rtol=1e-4)
    fit = jax.jit(partial(state.critics.fit, cfg.critic, cfg.discount))
    expected, _ = fit(state.updates, data, nxt, -0.5 * log_prob)
    for a, b in zip(*map(jax.tree.leaves, (after.critics, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_distance_to_the_weighted_noise_at_replay_actions():
    _, cfg, state = tiny("maxentdp", **{"temperature.initial": 0.5})
    data, actor = batch(5), state.actor.params
    _, metrics = jax.jit(lambda st: maxentdp.improve(cfg, st, bump, data.obs, data.action))(state)
    at = Noised.of(cfg.actor, use_key(state, maxentdp.Use.NOISE), data.action)
    key = use_key(state, maxentdp.Use.CANDIDATES)
    target, _ = cfg.regression.targets(bump, jnp.float32(0.5), data.obs, at, key)
    errors = [(actor(s, x, t) - y) ** 2 for s, x, t, y in zip(data.obs, at.x, at.t, target, strict=True)]
    np.testing.assert_allclose(metrics["actor/loss"], np.mean(errors), rtol=1e-4)


def test_the_temperature_is_fixed_unless_it_is_automatic():
    for automatic in (False, True):
        algorithm, cfg, state = tiny("maxentdp", **{"temperature.automatic": automatic})
        after, _ = jax.jit(lambda st, a=algorithm, c=cfg: a.update(c, st, batch()))(state)
        assert same(after.temperature, state.temperature) != automatic


def test_the_target_critics_choose():
    algorithm, _, state = tiny("maxentdp")
    assert same(algorithm.policy(state).critics.nets, state.critics.target)


def test_the_rule_of_the_integral_changes_the_likelihood():
    _, cfg, state = tiny("maxentdp")
    data, key = batch(), jax.random.key(0)
    found = [
        maxentdp.log_probs(
            changed(cfg, {"likelihood.rule": rule}), state.actor.params, data.obs, data.action, key
        )
        for rule in ("trapezoid", "right")
    ]
    assert np.all(np.abs(found[0] - found[1]) > 1e-3)
