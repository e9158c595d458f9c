"""MaxEntDP: the soft target, its likelihood, what it regresses on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import maxentdp
from fewstep.algos.contract import use_key
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.diffusion_policy import Noised
from fewstep.flows import likelihood
from tests.algos.common import apart, assert_one_step, batch, bump, changed, same, tiny


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
    algorithm, cfg, state = tiny("maxentdp", **{"temperature.automatic": False})
    step = jax.jit(lambda st: algorithm.update(cfg, st, batch())[0].temperature)
    assert same(step(state), state.temperature)


@pytest.mark.parametrize(("target", "sign"), [(50.0, 1), (-50.0, -1)])
def test_alpha_rises_while_the_entropy_is_below_its_target(target, sign):
    """One step down alpha (H - target), H of the successors' likelihoods."""
    aimed = {"temperature.automatic": True, "temperature.target_entropy_per_dim": target}
    algorithm, cfg, state = tiny("maxentdp", **aimed)

    @jax.jit
    def step(st):
        after, metrics = algorithm.update(cfg, st, batch())
        return after.temperature, metrics["policy/entropy"]

    after, entropy = step(state)
    assert np.sign(float(after.alpha - state.temperature.alpha)) == sign
    loss = lambda log: jnp.exp(log) * (entropy - 2 * target)  # noqa: E731
    assert_one_step(cfg.temperature, state.temperature.log, after.log, loss)


def test_the_target_critics_choose_and_weigh_the_candidates_that_it_regresses_on():
    """Those that have followed the critics' step of the same update."""
    algorithm, cfg, state = tiny("maxentdp", **{"temperature.initial": 0.5})
    state, data = apart(state), batch()
    assert same(algorithm.policy(state).critics.nets, state.critics.target)
    after, metrics = jax.jit(partial(algorithm.update, cfg))(state, data)
    one, two = after.critics.target
    q = lambda s, a: jnp.minimum(one(s, a)[0], two(s, a)[0])  # noqa: E731
    improve = jax.jit(lambda st: maxentdp.improve(cfg, st, q, data.obs, data.action)[1]["actor/loss"])
    np.testing.assert_allclose(metrics["actor/loss"], improve(state), rtol=1e-4)


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
