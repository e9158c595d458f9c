"""Noise on chosen actions and the temperature behind it (DACER, DPMD, FPMD, SDAC)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.shared import added_noise
from fewstep.algos.shared.added_noise import NoiseTemperatureConfig
from fewstep.algos.shared.temperature import Temperature
from fewstep.errors import UsageError
from tests.algos.common import TARGET, batch, bump, same, tiny


def test_alpha_goes_to_where_the_noise_has_the_target_entropy():
    """-0.9 nats per dimension is a standard deviation of exp(-0.9) / sqrt(2 pi e) = 0.0984, alpha 0.984."""
    cfg = NoiseTemperatureConfig(learning_rate=0.05, delay=1)
    follow = jax.jit(lambda t, n: cfg.follow(t, n, 3)[0])
    temperature = Temperature.create(cfg)
    for n in range(300):
        temperature = follow(temperature, jnp.int32(n))
    assert float(temperature.alpha) == pytest.approx(np.exp(-0.9) / np.sqrt(2 * np.pi * np.e) / 0.1, rel=0.01)
    assert float(added_noise.noise_entropy(0.1 * temperature.alpha, 3)) == pytest.approx(-2.7, abs=0.03)


@pytest.mark.parametrize(
    ("objective", "alphas"), [("alpha", [1.99, 1.37, 1.05]), ("log_alpha", [1.65, 1.08, 0.984])]
)
def test_the_schedule_of_alpha_depends_on_its_objective(objective, alphas):
    """After 200, 400 and 800 of its steps: in alpha, Adam's memory of the start makes later ones small."""
    cfg = NoiseTemperatureConfig(delay=1, objective=objective)
    last = lambda t, n: (follow := cfg.follow(t, n, 6)[0], follow.alpha)  # noqa: E731
    _, found = jax.lax.scan(last, Temperature.create(cfg), jnp.arange(800))
    np.testing.assert_allclose(found[jnp.array([199, 399, 799])], alphas, atol=0.006)
    target, log_alpha, first, second = np.log(0.1 * np.sqrt(2 * np.pi * np.e)) + 0.9, np.log(5.0), 0.0, 0.0
    for n in range(1, 801):  # Adam of Kingma and Ba, in float64; the entropy is linear in log alpha
        slope = 6 * (log_alpha + target) * (np.exp(log_alpha) if objective == "alpha" else 1.0)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        log_alpha -= 7e-3 * first / (1 - 0.9**n) / (np.sqrt(second / (1 - 0.999**n)) + 1e-8)
    assert float(found[-1]) == pytest.approx(np.exp(log_alpha), rel=1e-3)


def test_alpha_moves_at_every_so_manyth_update_only():
    cfg = NoiseTemperatureConfig(delay=4)
    temperature = Temperature.create(cfg)
    moved = [n for n in range(9) if cfg.follow(temperature, jnp.int32(n), 2)[0].alpha != temperature.alpha]
    assert moved == [0, 4, 8]


def test_added_noise_has_its_width_and_stays_in_the_box():
    cfg = NoiseTemperatureConfig(noise=0.1)
    actions = jnp.tile(TARGET, (20_000, 1))
    noisy = cfg.added(jnp.float32(2.0), actions, jax.random.key(0))
    np.testing.assert_allclose(noisy.std(0), 0.2, rtol=0.02)
    np.testing.assert_allclose(noisy.mean(0), TARGET, atol=0.005)
    wide = cfg.added(jnp.float32(50.0), actions, jax.random.key(0))
    assert np.abs(wide).max() == 1


@pytest.mark.parametrize("name", ["dacer", "dpmd", "fpmd", "sdac"])
def test_collecting_adds_the_noise_and_evaluating_does_not(name):
    algorithm, cfg, state = tiny(name, **{"temperature.noise": 0.3, "temperature.initial": 2.0})
    policy = algorithm.policy(state)
    assert float(policy.alpha) == 2
    noise = jnp.array([0.5, -1.0])
    np.testing.assert_allclose(algorithm.explore(cfg, policy, TARGET, noise), TARGET + 0.6 * noise, rtol=1e-6)
    obs, key = batch(4).obs, jax.random.key(0)
    evaluated = algorithm.act(cfg, policy, obs, key, algorithm.behaviour(cfg))
    assert not same(evaluated, algorithm.collect(cfg, policy, obs, key))
    still = eqx.tree_at(lambda policy: policy.alpha, policy, jnp.float32(0.0))
    assert same(evaluated, algorithm.act(cfg, still, obs, key, algorithm.behaviour(cfg)))


@pytest.mark.parametrize("name", ["dpmd", "fpmd", "sdac"])
def test_the_best_of_the_candidates_is_taken(name):
    _, cfg, state = tiny(name, **{"actor.candidates": 50, "temperature.noise": 1e-6})
    obs = batch(6).obs
    alpha = jnp.float32(1.0)
    key = jax.random.key(0)
    action, values = cfg.temperature.best(cfg.actor, state.actor.params, bump, alpha, obs, key)
    np.testing.assert_allclose(jax.vmap(bump)(obs, action), values.max(axis=1), atol=1e-4)
    assert np.all(values.max(axis=1) > values.mean(axis=1))


def test_an_alpha_that_would_move_nothing_is_refused():
    with pytest.raises(UsageError, match="noise must be positive"):
        NoiseTemperatureConfig(noise=0.0)
    NoiseTemperatureConfig(noise=0.0, automatic=False)
