"""The Gaussian critic's closed form and its gradient: the authors' sampled loss, integrated."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from fewstep.critics import gaussian


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def over_draws(f, mean, std):
    """E f(x) for x ~ N(mean, std^2), by adaptive quadrature in standard units."""
    return integrate.quad(lambda x: f(mean + std * x) * stats.norm.pdf(x), -10.0, 10.0, limit=500)[0]


@pytest.mark.parametrize("limit", [0.3, 2.0, 50.0])
@pytest.mark.parametrize("std", [0.01, 0.7, 20.0])
@pytest.mark.parametrize("mean", [-1.3, 0.0, 4.0])
def test_the_clipped_square_is_its_expectation(mean, std, limit):
    breaks = np.clip([(-limit - mean) / std, (limit - mean) / std], -10.0, 10.0)
    edges = [-10.0, *breaks, 10.0]
    pieces = [
        integrate.quad(lambda x: np.clip(mean + std * x, -limit, limit) ** 2 * stats.norm.pdf(x), low, high)[
            0
        ]
        for low, high in itertools.pairwise(edges)
    ]
    np.testing.assert_allclose(
        gaussian.clipped_square(*map(jnp.float64, (mean, std, limit))), sum(pieces), rtol=1e-7, atol=1e-12
    )


def test_the_clipped_square_by_draws():
    draws = np.random.default_rng(0).normal(0.8, 1.5, 1_000_000)
    by_draws = np.mean(np.clip(draws, -2.0, 2.0) ** 2)
    np.testing.assert_allclose(
        gaussian.clipped_square(*map(jnp.float64, (0.8, 1.5, 2.0))), by_draws, rtol=3e-3
    )


@pytest.mark.parametrize("mean", [-3.0, 0.5, 3.0])
def test_without_spread_it_is_the_clipped_square_of_the_mean(mean):
    """What is left at a terminal state, whose return is known."""
    found = gaussian.clipped_square(*map(jnp.float64, (mean, 0.0, 2.0)))
    np.testing.assert_allclose(found, min(abs(mean), 2.0) ** 2, atol=1e-3)


def sampled_gradient(out, target_mean, target_std, spread):
    """DSAC-T's gradient (equations 13 to 16) in mean and standard deviation, each averaged over the draw.

    For one draw y of the target: -w (y_mean - Q) / (std^2 + 0.1) and
    -w (clip(y - Q, -3 b, 3 b)^2 - std^2) / (std^3 + 0.1), with w = b^2 + 0.1 and b the running mean of std.
    """
    mean, std = out[0], np.log1p(np.exp(out[1]))
    weight, bound = spread**2 + 0.1, 3.0 * spread

    def of_std(y):
        return -weight * (np.clip(y - mean, -bound, bound) ** 2 - std**2) / (std**3 + 0.1)

    in_mean = -weight * (target_mean - mean) / (std**2 + 0.1)
    in_std = over_draws(of_std, target_mean, target_std) if target_std else of_std(target_mean)
    return in_mean, in_std / (1.0 + np.exp(-out[1]))  # the slope of softplus


@pytest.mark.parametrize("spread", [0.2, 1.5])
@pytest.mark.parametrize("target", [(1.2, 0.8), (-4.0, 0.3), (0.5, 0.0)])
@pytest.mark.parametrize("out", [(0.5, 0.3), (-1.0, -3.0), (2.0, 4.0)])
def test_the_gradient_is_the_sampled_losss_on_average(out, target, spread):
    grads = jax.grad(gaussian.loss)(jnp.array(out), *map(jnp.float64, (*target, spread)))
    np.testing.assert_allclose(grads, sampled_gradient(out, *target, spread), rtol=1e-5, atol=1e-6)


def test_the_target_is_where_nothing_is_left_to_learn():
    """Mean and variance those of the target, and no draw clipped: both gradients vanish."""
    out = jnp.array([0.7, np.log(np.expm1(0.4))])
    np.testing.assert_allclose(
        jax.grad(gaussian.loss)(out, *map(jnp.float64, (0.7, 0.4, 10.0))), [0.0, 0.0], atol=1e-6
    )


def test_moments_are_mean_and_positive_standard_deviation():
    mean, std = gaussian.moments(jnp.array([-2.0, -5.0]))
    np.testing.assert_allclose([mean, std], [-2.0, np.log1p(np.exp(-5.0))], rtol=1e-12)


@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("target_std", [0.0, 1e-8, 1e4])
@pytest.mark.parametrize("out", [(0.0, -80.0), (1e4, 0.0), (-1e4, 1e3)])
def test_it_is_finite_in_float32(out, target_std, spread):
    """Terminal states (no spread in the target), a certain critic, values far off, rewards of any size."""
    arguments = [jnp.float32(x) for x in (3.0, target_std, spread)]
    value, grads = jax.value_and_grad(gaussian.loss)(jnp.array(out, jnp.float32), *arguments)
    assert np.isfinite(value)
    assert np.isfinite(grads).all()
