"""The log-determinant of a flow by traces over intervals: against exact ones, and how far it is off."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows import divergence, meanflow
from fewstep.nets.flow_net import FlowNet
from tests.equations.linear_gaussian import LinearGaussian

ALL = np.array(list(product([-1.0, 1.0], repeat=2)))
"""Every probe in two dimensions: the mean over them is the trace itself."""
NOISE = np.array([0.7, -0.4])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def traced(shift, intervals, probes=ALL, limit=1e9):
    return float(divergence.traced_log_det(shift, jnp.asarray(NOISE), intervals, jnp.asarray(probes), limit))


def linear(matrix):
    """A velocity that is linear in x: an interval of length h has the Jacobian h times the matrix."""
    return lambda x, r, t: (t - r) * (jnp.asarray(matrix) @ x)


@pytest.mark.parametrize("intervals", [1, 3, 20])
def test_a_linear_map_has_minus_its_trace(intervals):
    """For any number of intervals; the exact log-determinant of as many has it as its limit."""
    matrix = np.array([[0.6, 0.3], [0.1, -0.4]])
    assert traced(linear(matrix), intervals) == pytest.approx(-0.2, rel=1e-12)
    exact = intervals * np.log(np.linalg.det(np.eye(2) - matrix / intervals))
    h = 1 / intervals
    second = -0.5 * h * np.trace(matrix @ matrix)
    assert exact + 0.2 == pytest.approx(second, abs=0.2 * h**2)


def test_it_errs_upwards_for_a_symmetric_jacobian_and_downwards_for_a_rotation():
    """-tr J is log |det(I - J)| but for -tr J^2 / 2 and what follows; J^2 is negative for a rotation."""
    symmetric, rotation = np.array([[0.5, 0.2], [0.2, -0.6]]), np.array([[0.0, 0.5], [-0.5, 0.0]])
    exact = [np.linalg.slogdet(np.eye(2) - j)[1] for j in (symmetric, rotation)]
    assert traced(linear(symmetric), 1) > exact[0] + 0.1
    assert traced(linear(rotation), 1) < exact[1] - 0.1


@pytest.mark.parametrize("intervals", [1, 3, 20])
@pytest.mark.parametrize("sigma", [1.0, 0.3, 0.01])
def test_the_exact_flow_to_a_gaussian_by_hand(intervals, sigma):
    """An interval scales by s(r) / s(t), of which 1 - s(r) / s(t) is taken for the logarithm."""
    flow = LinearGaussian(jnp.array([0.4, -0.2]), sigma)
    found = traced(lambda x, r, t: (t - r) * flow.average_velocity(x, r, t), intervals, probes=ALL[:1])
    scale = np.array([float(flow.scale(i / intervals)) for i in range(intervals + 1)])
    assert found == pytest.approx(-2 * (1 - scale[:-1] / scale[1:]).sum(), rel=1e-6)
    assert found >= 2 * np.log(sigma) - 1e-6


def test_a_point_has_a_finite_one():
    """Its true log-determinant is minus infinity; here it is minus the harmonic number per dimension."""
    point = LinearGaussian(jnp.array([0.4, -0.2]), 1e-6)
    for intervals, harmonic in ((1, 1.0), (3, 11 / 6), (20, 3.5977397)):
        found = traced(lambda x, r, t: (t - r) * point.average_velocity(x, r, t), intervals)
        assert found == pytest.approx(-2 * harmonic, rel=1e-3)


def small_net(scale):
    """A MeanFlow network's u, in float64, times a factor."""
    net = FlowNet.create(jax.random.key(0), 3, 2, 2, (16, 16), 4, 4, "mish", norm=False)
    net = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), net)
    s = jnp.array([0.3, -0.2, 0.5])
    return lambda x, r, t: scale * net(s, x, r, t)


def test_a_small_network_against_the_exact_log_determinant():
    """Their difference is of the second order: halving the velocity divides it by four."""
    noise, errors = jnp.asarray(NOISE), []
    for scale in (0.5, 0.25, 0.125):
        u = small_net(scale)
        found = traced(lambda x, r, t, u=u: (t - r) * u(x, r, t), 3)
        end, log_prob = meanflow.exact_log_prob(u, noise, 3)
        exact = float(meanflow.normal_log_density(noise) - log_prob)
        assert abs(exact) > 1e-2
        assert np.all(np.isfinite(end))
        errors.append(found - exact)
    assert abs(errors[0]) < 0.1
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.15)
    np.testing.assert_allclose(errors[1] / errors[2], 4, rtol=0.08)


def test_one_probe_is_unbiased_and_all_intervals_see_the_same():
    u = small_net(1.0)
    shift = lambda x, r, t: (t - r) * u(x, r, t)  # noqa: E731
    each = [traced(shift, 3, probes=probe[None]) for probe in ALL]
    assert np.std(each) > 1e-4
    assert np.mean(each) == pytest.approx(traced(shift, 3), rel=1e-6)
    x, probe, total = jnp.asarray(NOISE), jnp.asarray(ALL[1]), 0.0
    for r, t in meanflow.grid(3):
        moved, push = jax.linearize(lambda y, r=r, t=t: shift(y, jnp.float64(r), jnp.float64(t)), x)
        total, x = total - float(probe @ push(probe)), x - moved
    assert each[1] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("slope", [100.0, -100.0])
def test_the_trace_of_an_interval_is_cut(slope):
    """Two dimensions of slope 100 / 3 in each interval: 67 nats become 10."""
    assert traced(linear(slope * np.eye(2)), 3, limit=10.0) == pytest.approx(-np.sign(slope) * 30)
