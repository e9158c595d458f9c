"""DACER: gradients through the sampler against finite differences, the measured entropy, its temperature."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos import dacer
from fewstep.algos.contract import use_key
from fewstep.algos.shared import diffusion_policy as dp
from tests.algos.common import apart, assert_critics_learn, batch, bump, changed, same, tiny


def test_the_actors_gradient_goes_through_every_step_of_the_sampler():
    """The directional derivative of the loss against a central difference in float64."""
    with jax.enable_x64(True):
        _, cfg, state = tiny("dacer", **{"actor.steps": 4, "actor.from_outside": "none"})
        as64 = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64), tree)  # noqa: E731
        actor = as64(state.actor.params)
        noise = jax.random.normal(jax.random.key(1), (6, 4, 2), jnp.float64)
        args = (cfg, bump, jnp.float64(0.1), batch(6).obs.astype(jnp.float64), noise, jax.random.key(2))
        loss = lambda a: dacer.actor_loss(a, *args)[0]  # noqa: E731
        keys = iter(jax.random.split(jax.random.key(3), 100))
        way = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape, jnp.float64), actor)
        _, slope = jax.jvp(loss, (actor,), (way,))
        moved = lambda h: loss(jax.tree.map(lambda a, w: a + h * w, actor, way))  # noqa: E731
        assert float(slope) == pytest.approx(float(moved(1e-6) - moved(-1e-6)) / 2e-6, rel=1e-5)
        assert abs(float(slope)) > 1e-3


def test_the_loss_is_minus_the_value_of_noisy_actions_and_an_improvement_moves_the_actor_alone():
    _, cfg, state = tiny("dacer")
    obs, actor, key = batch(6).obs, state.actor.params, jax.random.key(2)
    noise = jax.random.normal(jax.random.key(1), (6, 3, 2))
    drawn = jnp.stack([dp.draw(cfg.actor, actor, s, e) for s, e in zip(obs, noise, strict=True)])
    noisy = cfg.temperature.added(jnp.float32(0.7), drawn, key)
    loss, _ = dacer.actor_loss(actor, cfg, bump, jnp.float32(0.7), obs, noise, key)
    np.testing.assert_allclose(loss, -np.mean([bump(None, a) for a in noisy]), rtol=1e-5)
    after, _ = jax.jit(lambda st: dacer.improve(cfg, st, bump, obs))(state)
    assert same(after.critics, state.critics)
    assert same(after.temperature, state.temperature)
    assert not same(after.actor.params, state.actor.params)


def test_the_critics_learn_the_trained_policys_action_with_the_noise_of_alpha():
    """Of width 0.1 alpha, as it is collected; cut to the box."""
    algorithm, cfg, state = tiny("dacer")
    state, data = apart(state), batch()
    drawing = jax.jit(partial(dp.draw_rows, cfg.actor))
    drawn = drawing(state.actor.params, data.next_obs, use_key(state, dacer.Use.NEXT_ACTION))
    noise = jax.random.normal(use_key(state, dacer.Use.NEXT_NOISE), (16, 2))
    nxt = np.clip(drawn + 0.1 * 3.0 * noise, -1, 1)
    assert_critics_learn(algorithm, cfg, state, data, nxt)


def test_it_climbs_a_known_critic():
    _, cfg, state = tiny("dacer", **{"actor.learning_rate": 0.01, "temperature.initial": 0.01})
    obs = batch(32).obs

    def step(st, _):
        st, metrics = dacer.improve(cfg, st, bump, obs)
        return replace(st, updates=st.updates + 1), metrics["actor/loss"]

    _, losses = jax.jit(lambda st: jax.lax.scan(step, st, None, 300))(state)
    assert losses[0] > 0.3
    assert losses[-20:].mean() < 0.01


@pytest.mark.parametrize("from_outside", ["inward", "none"])
def test_a_policy_at_the_bounds_comes_back_or_is_dead(from_outside):
    """Its network guesses noises of -30, so every guess of the clean action is cut at 1."""
    settings = {"actor.learning_rate": 0.1, "temperature.initial": 0.01, "actor.from_outside": from_outside}
    _, cfg, state = tiny("dacer", **settings)
    head = lambda net: net.body.head.bias  # noqa: E731
    stuck = eqx.tree_at(head, state.actor.params, jnp.full(2, -30.0))
    state = replace(state, actor=replace(state.actor, params=stuck))
    obs = batch(32).obs
    assert float(dp.draw_rows(cfg.actor, stuck, obs, jax.random.key(0)).min()) == 1.0

    def step(st, _):
        st, metrics = dacer.improve(cfg, st, bump, obs)
        return replace(st, updates=st.updates + 1), metrics["actor/loss"]

    after, losses = jax.jit(lambda st: jax.lax.scan(step, st, None, 600))(state)
    if from_outside == "none":
        assert same(after.actor.params, stuck)
    else:
        assert losses[0] > 2
        assert losses[-20:].mean() < 0.05


@pytest.mark.parametrize("estimator", ["samples", "bound"])
def test_the_measured_entropy_of_known_actions(estimator):
    cfg = dacer.EntropyConfig(samples=400, estimator=estimator)
    actions = 0.1 * jax.random.normal(jax.random.key(0), (8, 400, 2))
    exact = np.log(2 * np.pi * np.e * 0.01)
    found = float(jax.jit(cfg.of)(actions))
    assert found == pytest.approx(exact, abs=0.1) if estimator == "samples" else found > exact + 0.2


def test_alpha_follows_the_measured_entropy_when_it_is_due():
    algorithm, cfg, state = tiny("dacer", **{"temperature.delay": 2})
    step = jax.jit(lambda st: algorithm.update(cfg, st, batch()))
    first, metrics = step(state)
    second, _ = step(first)
    third, _ = step(second)
    assert not same(first.temperature, state.temperature)
    assert same(second.temperature, first.temperature)
    assert second.entropy == first.entropy == metrics["policy/entropy"]
    assert third.entropy != second.entropy
    for target, raised in ((5.0, True), (-30.0, False)):
        other = changed(cfg, {"temperature.target_entropy_per_dim": target})
        after = jax.jit(lambda st, c=other: dacer.regulated(c, st, batch().obs))(state)
        assert bool(after.temperature.alpha > state.temperature.alpha) == raised
