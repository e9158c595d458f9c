"""The variance preserving SDE: schedule, flow on a Gaussian, MeanFlow on that flow, scores in a box."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows import diffusion, meanflow, paths, vp
from fewstep.flows.velocity import share_below, truncated_mean, truncated_normal

MEAN, SIGMA = np.array([0.4, -0.3]), 0.25


def variance(t):
    """Of x_t for an action of N(MEAN, SIGMA^2)."""
    return vp.alpha_bar(t) * SIGMA**2 + 1.0 - vp.alpha_bar(t)


def score(x, t):
    return -(x - jnp.sqrt(vp.alpha_bar(t)) * MEAN) / variance(t)


def velocity(x, t):
    return vp.velocity(t, x, score(x, t))


def carried(x, t, r):
    """Where the flow has x of time t at time r: the same number of standard deviations from the mean."""
    means = [jnp.sqrt(vp.alpha_bar(each)) * MEAN for each in (t, r)]
    return means[1] + jnp.sqrt(variance(r) / variance(t)) * (x - means[0])


def test_the_schedule_by_numbers():
    with jax.enable_x64(True):
        assert float(vp.beta(jnp.float64(0.5))) == pytest.approx(10.05)
        assert float(vp.alpha_bar(jnp.float64(0.0))) == 1.0
        assert float(jnp.sqrt(vp.alpha_bar(jnp.float64(1.0)))) == pytest.approx(np.exp(-5.025))
        grid = (np.arange(100_000) + 0.5) / 100_000
        for t in (0.1, 0.7):
            total = t * np.mean(vp.beta(t * grid))
            assert float(vp.alpha_bar(jnp.float64(t))) == pytest.approx(np.exp(-total), rel=1e-9)


def test_standard_noise_is_at_rest():
    """The score of N(0, I) is -x."""
    x = jnp.array([0.3, -1.7])
    np.testing.assert_array_equal(vp.velocity(jnp.float32(0.6), x, -x), 0)


@pytest.mark.parametrize("t", [0.05, 0.4, 0.95])
def test_the_flow_of_a_gaussian_is_what_its_velocity_says(t):
    with jax.enable_x64(True):
        x, h = jnp.array([0.9, -1.3]), 1e-6
        slope = (carried(x, t, t + h) - carried(x, t, t - h)) / (2 * h)
        np.testing.assert_allclose(slope, velocity(x, t), rtol=1e-7)


def test_the_ode_carries_noise_to_the_target():
    """By Euler's method from N(0, I), whose error halves with the steps."""
    with jax.enable_x64(True):
        e = jax.random.normal(jax.random.key(0), (20_000, 2), jnp.float64)
        errors = []
        for steps in (200, 400, 800):
            a = jax.vmap(lambda e, n=steps: paths.solve(velocity, e, n, "euler").x)(e)
            errors.append(float(jnp.abs(a - carried(e, 1.0, 0.0)).max()))
        assert errors[2] < 0.01
        np.testing.assert_allclose(np.array(errors[:2]) / errors[1:], 2, atol=0.1)
        np.testing.assert_allclose(a.mean(0), MEAN, atol=0.01)
        np.testing.assert_allclose(a.std(0), SIGMA, atol=0.01)


def test_the_exact_average_velocity_obeys_meanflows_identity():
    """Along the ODE; the straight path through the same points has another velocity and another average."""
    with jax.enable_x64(True):
        u = lambda x, r, t: (x - carried(x, t, r)) / (t - r)  # noqa: E731
        x = jnp.array([0.9, -1.3])
        for r, t in ((0.0, 1.0), (0.2, 0.5), (0.6, 0.601)):
            pair = jnp.float64(r), jnp.float64(t)
            value, target = meanflow.meanflow_target(u, x, *pair, velocity(x, t))
            np.testing.assert_allclose(value, target, rtol=1e-7)
            _, straight = meanflow.meanflow_target(u, x, *pair, x - MEAN)
            assert float(jnp.abs(value - straight).max()) > 0.1
        np.testing.assert_allclose(meanflow.sample(u, x, 1), carried(x, 1.0, 0.0), rtol=1e-12)


INNER = [(-1.0, 2.0), (-0.01, 0.0033), (3.0, 5.0), (12.0, 12.013), (-5.0, -4.9)]
BOUNDS = [*INNER, (44.0, 180.0), (-180.0, -44.0)]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_the_mean_of_a_truncated_normal_by_quadrature(low, high):
    grid = np.linspace(low, high, 1_000_001)
    weight = np.exp(-0.5 * (grid**2 - (grid**2).min()))
    found = truncated_mean(jnp.float32(low), jnp.float32(high))
    np.testing.assert_allclose(found, grid @ weight / weight.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [*INNER, (14.0, 15.0), (-15.0, -14.0)])
def test_the_share_below_a_draw_is_the_share_of_draws_below_it(low, high):
    uniform = jnp.linspace(0.001, 0.999, 999)
    draws = np.asarray(truncated_normal(uniform, jnp.float32(low), jnp.float32(high)))
    share = np.asarray(share_below(uniform, jnp.float32(low), jnp.float32(high)))
    assert np.corrcoef(np.argsort(np.argsort(draws)), share)[0, 1] > 0.999


@pytest.mark.parametrize("t", [0.02, 0.1, 0.3, 0.999])
@pytest.mark.parametrize("x", [-3.0, -0.9, 0.1, 1.5])
def test_proposals_move_as_a_finite_difference_has_it(t, x):
    ab, at = vp.alpha_bar(jnp.float32(t)), jnp.array([x], jnp.float32)
    uniform = jnp.linspace(0.001, 0.999, 999)[:, None]
    h = 0.01 * jnp.sqrt(1.0 - ab)
    ahead, behind = (
        diffusion.proposals(ab, y, diffusion.noise_in_box(ab, y, uniform)) for y in (at + h, at - h)
    )
    moved = diffusion.moved_in_box(ab, at, uniform, diffusion.noise_in_box(ab, at, uniform))
    np.testing.assert_allclose(jnp.sqrt(ab) * (ahead - behind) / (2 * h), jnp.sqrt(ab) * moved, atol=0.015)


@pytest.mark.parametrize("t", [0.02, 0.1, 0.3, 0.999])
@pytest.mark.parametrize("x", [-3.0, -0.9, 0.1, 0.8, 1.5])
def test_the_score_in_a_box_by_quadrature(t, x):
    """The target exp(2 a - 3 (a - 0.3)^2) in [-1, 1]; 4000 proposals. At t near 1 the score is nearly -x."""
    log_target = lambda a: 2 * a - 3 * (a - 0.3) ** 2  # noqa: E731
    ab = vp.alpha_bar(jnp.float32(t))
    grid, left = np.linspace(-1, 1, 200_001), 1 - float(ab)
    logs = log_target(grid) - (x - np.sqrt(float(ab)) * grid) ** 2 / (2 * left)
    weight = np.exp(logs - logs.max())
    exact = (np.sqrt(float(ab)) * (grid @ weight) / weight.sum() - x) / left
    at, uniform = jnp.array([x], jnp.float32), jax.random.uniform(jax.random.key(0), (4000, 1), minval=1e-30)
    z = diffusion.noise_in_box(ab, at, uniform)
    a = jnp.clip(diffusion.proposals(ab, at, z), -1, 1)
    found = diffusion.score_in_box(ab, at, uniform, z, log_target(a)[:, 0], 2 - 6 * (a - 0.3))
    np.testing.assert_allclose(found[0], exact, rtol=2e-3, atol=0.04)
    if t == 0.999:
        np.testing.assert_allclose(exact, -x, atol=0.01)


def test_a_flat_box_needs_no_proposals():
    """Where the target has no gradient, the score is that of the box, without an error of sampling."""
    ab, x = vp.alpha_bar(jnp.float32(0.4)), jnp.array([0.7, -1.2])
    uniform = jax.random.uniform(jax.random.key(0), (2, 2), minval=1e-30)
    z = diffusion.noise_in_box(ab, x, uniform)
    found = diffusion.score_in_box(ab, x, uniform, z, jnp.zeros(2), jnp.zeros((2, 2)))
    mass = lambda y: jnp.sum(  # noqa: E731
        jnp.log(jnp.diff(jax.scipy.special.ndtr(jnp.stack(diffusion.noise_bounds(ab, y))), axis=0))
    )
    np.testing.assert_allclose(found, jax.grad(mass)(x), rtol=1e-4)
