"""The density from denoising errors: against Gaussians, whose mean noise and density are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows import diffusion, likelihood

M = np.array([0.2, -0.1])


def estimated(v, a, steps=20, rule="trapezoid", samples=20_000, clip=False):
    noise = jax.random.normal(jax.random.key(0), (samples, steps, 2))
    return float(estimate(v, a, steps, noise, rule, clip))


def estimate(v, a, steps, noise, rule="trapezoid", clip=False):
    abs_ = diffusion.alphas_bar("cosine", steps)
    table = jnp.asarray(abs_)

    def guess(x, t):
        ab = table[t]
        return jnp.sqrt(1 - ab) * (x - jnp.sqrt(ab) * M) / (ab * v + 1 - ab)

    return likelihood.log_density(abs_, guess, jnp.asarray(a), noise, rule, clip)


def singles(v, plain):
    """The estimates from one sample each, at one standard deviation from the mean."""
    a = M + np.sqrt([v, v])
    old = likelihood.TYPICAL_VARIANCE
    likelihood.TYPICAL_VARIANCE = 1e-9 if plain else old
    try:
        noise = jax.random.normal(jax.random.key(0), (2000, 1, 20, 2))
        return np.asarray(jax.vmap(lambda each: estimate(v, a, 20, each))(noise))
    finally:
        likelihood.TYPICAL_VARIANCE = old


def exact(v, a):
    return float(-np.log(2 * np.pi * v) - ((a - M) ** 2).sum() / (2 * v))


@pytest.mark.parametrize("v", [0.1, 0.3, 1.0])
def test_a_gaussians_density(v):
    for a in (M, M + np.sqrt([v, 0]), M - np.sqrt([v, v])):
        assert estimated(v, a) == pytest.approx(exact(v, a), abs=0.08)


def test_the_trapezoid_is_nearer_than_the_rule_of_the_authors():
    """At 20 steps, at the mean of a Gaussian of variance 0.1: -0.33 nats by ``right``."""
    far = estimated(0.1, M, rule="right") - exact(0.1, M)
    near = estimated(0.1, M) - exact(0.1, M)
    assert far == pytest.approx(-0.33, abs=0.05)
    assert abs(near) < 0.05


@pytest.mark.parametrize("rule", ["trapezoid", "right"])
def test_both_rules_converge(rule):
    a = M + np.array([0.1, 0.2])
    errors = [abs(estimated(0.1, a, steps, rule) - exact(0.1, a)) for steps in (5, 200)]
    assert errors[1] < 0.05 < errors[0]


def test_narrow_densities_are_taken_to_be_wider():
    """The first of 20 steps has noise of standard deviation 0.1: a Gaussian of 0.01 is not seen as one."""
    error = estimated(1e-4, M) - exact(1e-4, M)
    assert error == pytest.approx(2 * -2.19, abs=0.1)


def test_a_standard_normal_is_met_exactly_at_any_number_of_steps():
    """Its mean denoising error is ab d, so the integrand has mean 0: the entropy is d/2 log 2 pi e."""
    with jax.enable_x64(True):
        abs_ = diffusion.alphas_bar("cosine", 7)
        table = jnp.asarray(abs_)
        guess = lambda x, t: jnp.sqrt(1 - table[t]) * x  # noqa: E731
        a = jax.random.normal(jax.random.key(1), (4000, 1))
        noise = jax.random.normal(jax.random.key(2), (4000, 4, 7, 1))
        each = jax.vmap(lambda a, n: likelihood.log_density(abs_, guess, a, n, clip=False))(a, noise)
        assert -each.mean() == pytest.approx(0.5 * np.log(2 * np.pi * np.e), abs=0.05)


def test_a_guess_out_of_the_box_is_cut_first():
    """A network that guesses an action beyond the box is judged as if it had guessed the box's face."""
    abs_ = diffusion.alphas_bar("cosine", 5)
    table = jnp.asarray(abs_)
    noise = jax.random.normal(jax.random.key(0), (10, 5, 1))
    a = jnp.array([0.9])
    beyond = lambda x, t: diffusion.noise_of(table[t], x, jnp.array([7.0]))  # noqa: E731
    face = lambda x, t: diffusion.noise_of(table[t], x, jnp.array([1.0]))  # noqa: E731
    found = [likelihood.log_density(abs_, guess, a, noise) for guess in (beyond, face)]
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-4)
    assert found[0] > likelihood.log_density(abs_, beyond, a, noise, clip=False) + 10


def test_quadrature_weights():
    abs_ = diffusion.alphas_bar("cosine", 6).astype(np.float64)
    ab = abs_[1:]
    np.testing.assert_allclose(likelihood.quadrature(abs_, "right"), (abs_[:-1] - ab) / (ab * (1 - ab)))
    weights, log_g = likelihood.quadrature(abs_, "trapezoid"), np.log(ab / (1 - ab))
    # Of a constant between the steps: the length; of the tails 1 / g and g: 1 each.
    assert weights.sum() == pytest.approx(log_g[0] - log_g[-1] + 2)
    assert weights @ log_g - (log_g[0] + log_g[-1]) == pytest.approx((log_g[0] ** 2 - log_g[-1] ** 2) / 2)
    assert likelihood.quadrature(diffusion.alphas_bar("vp", 1), "trapezoid") == pytest.approx([2.0])


@pytest.mark.parametrize("v", [0.1, 1.0])
def test_the_control_variate_halves_the_noise_and_leaves_the_mean(v):
    with_it, without = singles(v, plain=False), singles(v, plain=True)
    assert with_it.std() < 0.5 * without.std()
    differences = with_it - without
    assert abs(differences.mean()) < 4 * differences.std() / np.sqrt(len(differences))


@pytest.mark.parametrize(
    ("v", "trapezoid", "right"),
    [(0.3, 0.02, -0.06), (0.1, 0.01, -0.16), (0.01, -0.18, -0.64), (0.001, -1.05, -1.61)],
)
def test_the_errors_of_the_page_per_dimension(v, trapezoid, right):
    """The table of docs/algorithms/maxentdp.md: at the mean, 20 steps."""
    for rule, error in (("trapezoid", trapezoid), ("right", right)):
        assert (estimated(v, M, rule=rule) - exact(v, M)) / 2 == pytest.approx(error, abs=0.025)
