"""The residual form of MeanFlow: its identity on a flow known exactly, its target by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows import residual
from tests.equations.linear_gaussian import LinearGaussian

TIMES = [(0.0, 1.0), (0.0, 0.3), (0.2, 0.9), (0.6, 0.6)]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def exact_g(flow):
    return lambda x, b, t: (x - flow.average_velocity(x, b, t), None)


@pytest.mark.parametrize(("b", "t"), TIMES)
def test_the_exact_g_satisfies_the_identity(x64, b, t):
    flow, x = LinearGaussian(jnp.array([-0.4, 0.1, 0.7]), 0.3), jnp.array([0.2, -1.1, 0.8])
    b, t = jnp.float64(b), jnp.float64(t)
    value, _, target = residual.residual_target(exact_g(flow), x, b, t, flow.velocity(x, t), 50.0)
    np.testing.assert_allclose(value, target, rtol=1e-9, atol=1e-10)


def test_on_the_whole_interval_g_is_the_action(x64):
    flow, e = LinearGaussian(jnp.array([-0.4, 0.7]), 0.3), jnp.array([0.5, -1.2])
    g, _ = exact_g(flow)(e, jnp.float64(0.0), jnp.float64(1.0))
    np.testing.assert_allclose(g, flow.mean + flow.sigma * e, rtol=1e-9)


def test_the_target_is_the_formula_with_a_finite_difference_along_the_path(x64):
    def g(x, b, t):
        return jnp.sin(3 * x * t) + jnp.cos(x[::-1] * b) * t**2, t * x

    x, b, t, v = jnp.array([0.3, -0.7]), jnp.float64(0.2), jnp.float64(0.6), jnp.array([1.3, -0.4])
    h = 1e-6
    derivative = (g(x + h * v, b, t + h)[0] - g(x - h * v, b, t - h)[0]) / (2 * h)
    value, aux, target = residual.residual_target(g, x, b, t, v, 50.0)
    np.testing.assert_allclose(target, x + (t - b - 1) * v - (t - b) * derivative, rtol=1e-8)
    np.testing.assert_allclose(value, g(x, b, t)[0])
    np.testing.assert_allclose(aux, t * x)


def test_at_equal_times_the_target_is_the_point_minus_the_velocity_and_not_the_point():
    x, t, v = jnp.array([0.3, 0.1]), jnp.float32(0.4), jnp.array([2.0, -1.0])
    _, _, target = residual.residual_target(lambda x, b, t: (jnp.sin(x * t), None), x, t, t, v, 50.0)
    np.testing.assert_allclose(target, x - v, rtol=1e-6)


def test_the_target_is_cut_and_carries_no_gradient():
    def both(scale):
        value, _, target = residual.residual_target(
            lambda x, b, t: (scale * x * t, None),
            jnp.ones(2),
            jnp.float32(0.0),
            jnp.float32(0.5),
            jnp.full(2, 40.0),
            5.0,
        )
        return jnp.sum(target), jnp.sum(value)

    assert both(2.0)[0] == -10.0
    assert jax.grad(lambda s: both(s)[0])(2.0) == 0.0
    assert jax.grad(lambda s: both(s)[1])(2.0) == 1.0


@pytest.mark.parametrize(("gamma", "expected"), [(1.0, 1.0), (0.0, 1 / 0.2501), (0.8, 0.2501**-0.2)])
def test_the_adaptive_weight(gamma, expected):
    np.testing.assert_allclose(residual.adaptive_weight(jnp.float32(0.25), gamma), expected, rtol=1e-5)
    assert jax.grad(lambda d: residual.adaptive_weight(d, gamma))(0.25) == 0.0


def test_times_are_uniform_and_never_zero():
    t = residual.sample_times(jax.random.key(0), (100, 200))
    assert float(t.min()) > 0.0
    assert float(t.max()) <= 1.0
    assert abs(float(t.mean()) - 0.5) < 0.01
    assert abs(float((t < 0.25).mean()) - 0.25) < 0.01
