from itertools import pairwise

import jax
import jax.numpy as jnp
import pytest

from fewstep.flows import divergence, meanflow, paths
from tests.equations.linear_gaussian import LinearGaussian

TIMES = [(0.0, 0.5), (0.5, 1.0), (0.1, 0.9), (0.3, 0.35), (0.0, 1.0)]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def flow(size=3):
    return LinearGaussian(jnp.linspace(-0.4, 0.7, size), 0.3)


@pytest.mark.parametrize(("r", "t"), TIMES)
def test_the_exact_average_velocity_satisfies_the_meanflow_identity(x64, r, t):
    f, x = flow(), jnp.array([0.2, -1.1, 0.8])
    r, t = jnp.float64(r), jnp.float64(t)
    value, target = meanflow.meanflow_target(f.average_velocity, x, r, t, f.velocity(x, t))
    assert jnp.allclose(value, target, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("r", "t"), TIMES)
def test_the_exact_average_divergence_satisfies_its_identity(x64, r, t):
    f, x = flow(), jnp.array([0.2, -1.1, 0.8])
    r, t = jnp.float64(r), jnp.float64(t)
    v = f.velocity(x, t)
    div = divergence.exact_divergence(lambda y: f.velocity(y, t), x)
    value, target = divergence.average_divergence_target(f.average_divergence, x, r, t, v, div)
    assert jnp.allclose(value, target, rtol=1e-10)


def test_at_equal_times_the_target_is_the_velocity():
    x, t, v = jnp.array([0.3, 0.1]), jnp.float32(0.4), jnp.array([5.0, -2.0])
    _, target = meanflow.meanflow_target(lambda x, r, t: jnp.sin(x * t) + r, x, t, t, v)
    assert jnp.array_equal(target, v)


def test_the_target_agrees_with_a_finite_difference_along_the_path(x64):
    def u(x, r, t):
        return jnp.sin(3 * x * t) + jnp.cos(x[::-1] * r) * t**2

    x, r, t, v = jnp.array([0.3, -0.7]), jnp.float64(0.2), jnp.float64(0.6), jnp.array([1.3, -0.4])
    h = 1e-6
    derivative = (u(x + h * v, r, t + h) - u(x - h * v, r, t - h)) / (2 * h)
    _, target = meanflow.meanflow_target(u, x, r, t, v)
    assert jnp.allclose(target, v - (t - r) * derivative, rtol=1e-8)


def test_the_target_carries_no_gradient():
    def loss(scale):
        value, target = meanflow.meanflow_target(
            lambda x, r, t: scale * x * t, jnp.ones(2), jnp.float32(0.1), jnp.float32(0.5), jnp.ones(2)
        )
        return jnp.sum(target) + 0.0 * jnp.sum(value)

    assert jax.grad(loss)(2.0) == 0.0


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_any_number_of_steps_of_the_exact_field_gives_the_same_sample_and_density(x64, steps):
    f, e = flow(), jnp.array([1.5, -0.2, 0.4])
    expected = f.mean + f.sigma * e
    x, log_prob = meanflow.sample_with_log_prob(f.average_velocity, f.average_divergence, e, steps)
    assert jnp.allclose(x, expected, atol=1e-12)
    assert jnp.allclose(meanflow.sample(f.average_velocity, e, steps), expected, atol=1e-12)
    assert jnp.allclose(log_prob, f.log_density(expected), rtol=1e-10)
    exact_x, exact = meanflow.exact_log_prob(f.average_velocity, e, steps)
    assert jnp.allclose(exact_x, expected, atol=1e-12)
    assert jnp.allclose(exact, f.log_density(expected), rtol=1e-10)


def test_the_instantaneous_divergence_is_right_in_the_limit_of_many_steps(x64):
    """Its error over the whole way is of first order in the length of a step."""
    f, e = flow(), jnp.array([1.5, -0.2, 0.4])
    d = divergence.instantaneous_divergence(lambda x, r, t: f.velocity(x, t))  # of r = t, where it is asked
    exact = f.log_density(f.mean + f.sigma * e)
    errors = [
        abs(float(meanflow.sample_with_log_prob(f.average_velocity, d, e, steps)[1] - exact))
        for steps in (2, 64, 128, 256)
    ]
    assert errors[0] > 0.05
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.05)
    assert errors[2] / errors[3] == pytest.approx(2.0, rel=0.05)


def test_the_grid_goes_from_noise_to_action_without_gaps():
    assert meanflow.grid(2) == [(0.5, 1.0), (0.0, 0.5)]
    pairs = meanflow.grid(7)
    assert pairs[0][1] == 1.0
    assert pairs[-1][0] == 0.0
    assert all(a[0] == b[1] for a, b in pairwise(pairs))


def test_exact_log_prob_is_the_density_of_a_nonlinear_map(x64):
    """One step of x - u(x) in one dimension: the density by the change of variables, done by hand."""
    e = jnp.array([0.7])
    _, log_prob = meanflow.exact_log_prob(lambda x, r, t: 0.5 * jnp.tanh(x), e, 1)
    slope = 1 - 0.5 / jnp.cosh(e[0]) ** 2
    assert jnp.allclose(log_prob, -0.5 * e[0] ** 2 - 0.5 * jnp.log(2 * jnp.pi) - jnp.log(slope), rtol=1e-12)


def test_hutchinson_is_exact_for_diagonal_fields_with_rademacher_probes(x64):
    probes = jnp.array([[1.0, -1.0, 1.0]])
    x = jnp.array([0.1, 0.2, 0.3])
    value, trace = divergence.hutchinson(lambda y: y**3, x, probes)
    assert jnp.allclose(value, x**3)
    assert jnp.allclose(trace, 3 * jnp.sum(x**2))


@pytest.mark.parametrize("kind", [jax.random.rademacher, jax.random.normal])
def test_hutchinson_is_unbiased_and_rademacher_has_less_variance(kind):
    matrix = jnp.array([[2.0, 0.7, -0.3], [0.1, -1.0, 0.5], [0.4, 0.2, 0.6]])
    probes = kind(jax.random.key(0), (40_000, 1, 3), jnp.float32)
    estimates = jax.vmap(lambda p: divergence.hutchinson(lambda y: matrix @ y, jnp.ones(3), p)[1])(probes)
    error = 4 * estimates.std() / jnp.sqrt(len(estimates))
    assert abs(estimates.mean() - jnp.trace(matrix)) < error
    symmetric = 0.5 * (matrix + matrix.T)
    off = symmetric - jnp.diag(jnp.diag(symmetric))
    variance = 2 * jnp.sum((off if kind is jax.random.rademacher else symmetric) ** 2)
    assert jnp.allclose(estimates.var(), variance, rtol=0.05)


def test_a_linear_field_has_the_divergence_of_its_slope_at_every_equal_time():
    """MFPO's fixed point: for u = c x the divergence target is c times the action size whenever r = t."""
    for t in (0.1, 0.5, 0.9):
        _, trace = divergence.hutchinson(lambda y: 1.7 * y, jnp.ones(6), jnp.ones((2, 6)))
        t = jnp.float32(t)
        _, target = divergence.average_divergence_target(
            lambda x, r, t: x @ x, jnp.ones(6), t, t, jnp.ones(6), trace
        )
        assert jnp.allclose(target, 1.7 * 6, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_eulers_method_is_exact_in_a_constant_field(x64, steps):
    e, v = jnp.array([1.5, -0.2]), jnp.array([0.3, 0.8])
    assert jnp.allclose(paths.solve(lambda x, t: v, e, steps, "euler").x, e - v, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_eulers_method_in_a_linear_field_and_at_the_times_where_its_steps_begin(x64, steps):
    """v = c x gives e (1 - c / T)^T; v = t, at times 1, ..., 1 / T, takes (T + 1) / (2 T) away."""
    e = jnp.array([1.5, -0.2])
    found = paths.solve(lambda x, t: 0.7 * x, e, steps, "euler").x
    assert jnp.allclose(found, e * (1 - 0.7 / steps) ** steps, rtol=1e-12)
    found = paths.solve(lambda x, t: t + 0.0 * x, e, steps, "euler").x
    assert jnp.allclose(found, e - (steps + 1) / (2 * steps), rtol=1e-12)


def test_eulers_method_is_of_first_order_and_its_one_step_is_the_mean(x64):
    """The exact velocity at time 1 is e - m, so one step ends at m from any noise."""
    f, e = flow(), jnp.array([1.5, -0.2, 0.4])
    assert jnp.allclose(paths.solve(f.velocity, e, 1, "euler").x, f.mean, atol=1e-12)
    exact = f.mean + f.sigma * e
    coarse, fine = (jnp.abs(paths.solve(f.velocity, e, n, "euler").x - exact).max() for n in (200, 400))
    assert 1.9 < coarse / fine < 2.1
    assert fine < 0.01


def test_eulers_method_is_the_sampler_of_a_field_that_does_not_average(x64):
    f, e = flow(), jnp.array([1.5, -0.2, 0.4])
    found = meanflow.sample(lambda x, r, t: f.velocity(x, t), e, 5)
    assert jnp.allclose(paths.solve(f.velocity, e, 5, "euler").x, found, rtol=1e-12)
