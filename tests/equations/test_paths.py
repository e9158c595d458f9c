"""Samplers along paths: orders, energies and densities against closed forms.

For an action a ~ N(m, s^2) and the straight path to N(0, 1) the velocity is known: with variance
S = (1 - t)^2 s^2 + t^2 of x_t it is ((t - (1 - t) s^2) (x - (1 - t) m)) / S - m.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from fewstep.flows import meanflow, paths

M, S = 0.4, 0.3
DRAWS = 40_000


def velocity(x, t):
    """E[e - a | x_t = x] for a ~ N(M, S^2)."""
    variance = (1 - t) ** 2 * S**2 + t**2
    return (t - (1 - t) * S**2) * (x - (1 - t) * M) / variance - M


def normals(*shape):
    return jax.random.normal(jax.random.key(0), shape)


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_constant_velocity_is_a_straight_line(solver, steps):
    v, e = jnp.array([0.5, -2.0]), jnp.array([1.0, 0.3])
    flow = paths.solve(lambda x, t: v, e, steps, solver)
    np.testing.assert_allclose(flow.x, e - v, rtol=1e-6)
    assert float(flow.energy) == pytest.approx(0.5 * float(v @ v), rel=1e-6)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2)])
def test_orders(solver, order):
    """Of dx/dt = -x from time 1 to 0, which multiplies x by e (in float64)."""
    with jax.enable_x64(True):
        x = jnp.array([1.0])
        ends = [float(paths.solve(lambda x, t: -x, x, n, solver).x[0]) for n in (32, 64)]
        errors = [abs(end - np.e) for end in ends]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.05)


def test_energy_is_at_least_that_of_the_straight_line():
    """1/2 |end - start|^2; and here it is known: 1/2 integral of e^(2 (1 - t)) dt = (e^2 - 1) / 4."""
    flow = paths.solve(lambda x, t: -x, jnp.array([1.0]), 200)
    assert float(flow.energy) == pytest.approx((np.e**2 - 1) / 4, rel=1e-3)
    assert float(flow.energy) > 0.5 * (np.e - 1) ** 2


@pytest.mark.parametrize("steps", [8, 64])
def test_the_density_of_a_gaussian_flow(steps):
    """Carried back along its velocity (float64); the error falls with the square of the steps."""
    with jax.enable_x64(True):
        x = jnp.array([[-0.2], [0.4], [0.9]])
        found = jax.vmap(lambda x: paths.log_density(velocity, x, steps, jnp.array([[1.0], [-1.0]])))(x)
        np.testing.assert_allclose(found[:, 0], found[:, 1])
        expected = norm.logpdf(x[:, 0], M, S)
        np.testing.assert_allclose(found[:, 0], expected, atol=2.0 / steps**2)


def test_the_velocity_of_a_gaussian_carries_noise_to_it():
    flow = jax.vmap(lambda e: paths.solve(velocity, e, 50).x)(normals(DRAWS, 1))
    assert float(flow.mean()) == pytest.approx(M, abs=0.01)
    assert float(flow.std()) == pytest.approx(S, abs=0.01)


@pytest.mark.parametrize("t", [0.1, 0.5, 1.0])
def test_the_score_of_a_velocity(t):
    """Of N((1 - t) M, (1 - t)^2 S^2 + t^2): autodiff of its log-density."""
    x = jnp.array([0.7])
    std = ((1 - t) ** 2 * S**2 + t**2) ** 0.5
    expected = jax.grad(lambda x: jax.scipy.stats.norm.logpdf(x, (1 - t) * M, std).sum())(x)
    np.testing.assert_allclose(paths.score(velocity(x, t), x, t), expected, rtol=1e-5)


def test_the_preserving_drift_keeps_the_end():
    """With the noise alone the variance at the end would be sigma^2 too large."""
    sigma, steps = 0.5, 100
    log_std = jnp.full(1, np.log(sigma / steps**0.5))
    noise = normals(DRAWS, steps + 1, 1)

    def ends(v):
        return jax.jit(jax.vmap(lambda e: paths.noisy(v, log_std, e).x))(noise)

    kept, spread = ends(paths.preserving(velocity, sigma)), ends(velocity)
    assert float(kept.mean()) == pytest.approx(M, abs=0.02)
    assert float(kept.std()) == pytest.approx(S, abs=0.02)
    assert float(spread.std()) > 1.2 * S


def test_the_log_density_of_a_noisy_path():
    """Start and every step, written out with scipy's density."""
    v = lambda x, t: t * jnp.sin(x)  # noqa: E731
    log_std, noise = jnp.log(jnp.array([0.1, 0.6])), normals(4, 2)
    path = paths.noisy(v, log_std, noise)
    x, total = np.asarray(noise[0]), norm.logpdf(noise[0]).sum()
    for k in range(3):
        t = 1 - k / 3
        mean = x - t * np.sin(x) / 3
        x = mean + np.exp(log_std) * noise[k + 1]
        total += norm.logpdf(x, mean, np.exp(log_std)).sum()
    np.testing.assert_allclose(path.x, x, rtol=1e-5)
    assert float(path.log_prob) == pytest.approx(total, rel=1e-5)


def test_with_no_steps_a_noisy_path_is_its_start():
    path = paths.noisy(velocity, jnp.zeros(2), normals(1, 2))
    assert float(path.log_prob) == pytest.approx(float(meanflow.normal_log_density(normals(1, 2)[0])))


def test_the_entropy_of_a_path_with_fixed_noise_is_out_of_the_velocitys_reach():
    """Its log-density depends on the noise and the widths alone: no gradient, whatever the velocity is."""
    slope = jax.grad(lambda c: paths.noisy(lambda x, t: c * x, jnp.zeros(2), normals(5, 2)).log_prob)(0.3)
    assert float(slope) == 0.0


WIDTHS = jnp.full((8, 1), 0.1)


def controlled(control, noise, widths=WIDTHS, prior=2.5):
    return jax.vmap(lambda e: paths.controlled(control, widths, prior, e))(noise)


def test_without_control_the_process_stays_near_its_start():
    """Exactly with small steps; the cost is then the start's own log-density, on average its entropy."""
    path = controlled(lambda x, k: 0.0 * x, normals(DRAWS, 9, 1))
    entropy = 0.5 * np.log(2 * np.pi * np.e) + np.log(2.5)
    assert float(path.x.std()) == pytest.approx(2.5, abs=0.04)
    assert float(-path.log_prob.mean()) == pytest.approx(entropy, abs=0.01)


def test_a_linear_control_bounds_the_entropy_of_its_gaussian():
    """x_{k+1} = (1 - eta (1/p^2 + c)) x_k + noise is Gaussian of known variance."""
    c, eta, p = 3.0, 0.1, 2.5
    variance = p**2
    for _ in range(8):
        variance = (1 - eta * (p**-2 + c)) ** 2 * variance + 2 * eta
    path = controlled(lambda x, k: -c * x, normals(DRAWS, 9, 1))
    assert float(path.x.var()) == pytest.approx(variance, rel=0.03)
    entropy, bound = 0.5 * np.log(2 * np.pi * np.e * variance), float(-path.log_prob.mean())
    assert bound == pytest.approx(entropy - 2.22, abs=0.03)  # what another way to the same end would save


def test_the_bound_is_met_by_the_reverse_of_the_process_without_control():
    """That process forgets its start: from N(0, s^2) it goes to N(0, 1), and the way back has control 2 x -
    2 x / V with its variance V. The bound is then the entropy, to the error of 300 steps."""
    s, steps, eta = 0.3, 300, 0.01

    def control(x, k):
        left = (steps - k) * eta
        return 2.0 * x - 2.0 * x / (1.0 + (s**2 - 1.0) * jnp.exp(-2.0 * left))

    path = jax.jit(lambda e: controlled(control, e, jnp.full((steps, 1), eta), 1.0))(
        normals(10_000, steps + 1, 1)
    )
    assert float(path.x.std()) == pytest.approx(s, rel=0.07)  # steps of 0.01
    entropy = 0.5 * np.log(2 * np.pi * np.e) + np.log(float(path.x.std()))
    assert float(-path.log_prob.mean()) == pytest.approx(entropy, abs=0.05)


def test_the_cost_of_a_controlled_path_written_out():
    noise, prior = normals(4, 2), 1.5
    widths = jnp.array([[0.3, 0.1], [0.2, 0.2], [0.05, 0.4]])
    path = paths.controlled(lambda x, k: jnp.cos(x) + k, widths, prior, noise)
    x = prior * np.asarray(noise[0])
    total = norm.logpdf(x, 0, prior).sum()
    for k, eta in enumerate(np.asarray(widths)):
        mean, std = x + eta * (-x / prior**2 + np.cos(x) + k), np.sqrt(2 * eta)
        y = mean + std * noise[k + 1]
        total += norm.logpdf(y, mean, std).sum() - norm.logpdf(x, y - eta * y / prior**2, std).sum()
        x = y
    np.testing.assert_allclose(path.x, x, rtol=1e-4)
    assert float(path.log_prob) == pytest.approx(total, rel=1e-4)


def test_gradients_of_a_controlled_path_against_differences():
    with jax.enable_x64(True):
        noise = jax.random.normal(jax.random.key(1), (4, 2), jnp.float64)
        widths = jnp.full((3, 2), 0.2, jnp.float64)

        def total(c):
            path = paths.controlled(lambda x, k: jnp.tanh(c * x), widths, 1.5, noise)
            return path.log_prob + (path.x**2).sum()

        found, h = jax.grad(total)(0.7), 1e-6
        assert float(found) == pytest.approx(float((total(0.7 + h) - total(0.7 - h)) / (2 * h)), rel=1e-7)


def test_cosine_widths_written_out():
    """cos^2 of pi / 2 (k / n + 0.008) / 1.008, of which n = 100 has the last below 0.001."""
    for steps in (4, 100):
        wanted = [np.cos(np.pi / 2 * (k / steps + 0.008) / 1.008) ** 2 for k in range(steps)]
        assert (wanted[-1] < 1e-3) == (steps == 100)
        np.testing.assert_allclose(paths.cosine_widths(steps), np.maximum(wanted, 1e-3), rtol=1e-5)
