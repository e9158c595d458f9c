"""The entropy bounds of a semi-implicit policy against mixtures whose entropy is known."""

from itertools import pairwise
from math import comb, erf, log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows import semi_implicit as si

LOG_2PIE = float(np.log(2 * np.pi * np.e))
SETS = 8_000
TOLERANCE = 0.04
"""Three standard errors of the estimates below, and no more."""


def linear(e, spread=1.0, sigma=0.15):
    """mu = spread e, so that the policy is N(0, spread^2 + sigma^2) per dimension."""
    return spread * e, jnp.full_like(e, jnp.log(sigma))


def two_modes(e, sigma=0.2):
    """mu = +-1 by the sign of the noise: an equal mixture of two Gaussians."""
    return jnp.sign(e), jnp.full_like(e, jnp.log(sigma))


def entropy_of_two_modes(sigma=0.2):
    x = np.linspace(-4, 4, 80_001)
    p = sum(np.exp(-0.5 * ((x - m) / sigma) ** 2) for m in (-1, 1)) / (2 * sigma * np.sqrt(2 * np.pi))
    return float(-np.sum(p * np.log(np.maximum(p, 1e-300))) * (x[1] - x[0]))


def bound(policy, k, size, noise="independent", shared=False, seed=0):
    """Monte Carlo H_K; ``shared`` samples from every component of a set instead of from the first."""

    def one(key):
        k_e, k_eps = jax.random.split(key)
        means, log_stds = policy(si.draw_noises(k_e, noise, k + 1, size))
        z = means + jnp.exp(log_stds) * jax.random.normal(k_eps, means.shape)
        z = z if shared else z[:1]
        return -jax.vmap(lambda one: si.mixture_log_density(one, means, log_stds))(z).mean()

    return float(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), SETS)).mean())


def test_densities_of_a_gaussian_and_of_a_mixture():
    scipy_stats = pytest.importorskip("scipy.stats")
    z, mean, log_std = jnp.array([0.3, -1.2]), jnp.array([0.1, -1.0]), jnp.array([-0.5, 0.4])
    one = scipy_stats.norm(np.asarray(mean), np.exp(log_std)).logpdf(np.asarray(z)).sum()
    np.testing.assert_allclose(si.gaussian_log_density(z, mean, log_std), one, rtol=1e-5)
    other = scipy_stats.norm(0.0, 1.0).logpdf(np.asarray(z)).sum()
    mixed = si.mixture_log_density(z, jnp.stack([mean, jnp.zeros(2)]), jnp.stack([log_std, jnp.zeros(2)]))
    np.testing.assert_allclose(mixed, np.log(0.5 * np.exp(one) + 0.5 * np.exp(other)), rtol=1e-5)


def test_a_single_component_is_its_gaussian_at_any_distance():
    z, log_std = jnp.full(3, 1e3), jnp.full(3, -10.0)
    mixed = si.mixture_log_density(z, jnp.zeros((1, 3)), log_std[None])
    assert mixed == si.gaussian_log_density(z, jnp.zeros(3), log_std)
    assert bool(jnp.isfinite(mixed))


def test_k_zero_is_the_conditional_surrogate():
    np.testing.assert_allclose(
        si.conditional_entropy(jnp.log(jnp.array([0.1, 0.5]))), np.log(0.05) + LOG_2PIE, rtol=1e-6
    )
    log_std = linear(jnp.zeros(2))[1]
    assert abs(bound(linear, 0, 2) - float(si.conditional_entropy(log_std))) < TOLERANCE


def test_the_bound_rises_with_k_and_stays_below_the_true_entropy():
    """The chain rule H(a) = H(a | e) + I(a; e) with a known gap, and how much of the gap each K counts."""
    size = 2
    true = 0.5 * size * (LOG_2PIE + np.log(1 + 0.15**2))
    values = [bound(linear, k, size) for k in (0, 1, 4, 16)]
    assert all(low + 0.1 < high for low, high in pairwise(values))
    assert values[-1] < true + TOLERANCE
    assert true - values[0] > 1.8 * size
    assert true - values[-1] < 1.4


def test_two_modes_are_worth_log_two_and_k_counts_them():
    true = entropy_of_two_modes()
    conditional = float(si.conditional_entropy(jnp.log(jnp.array([0.2]))))
    assert abs(true - conditional - np.log(2)) < 1e-4
    values = [bound(two_modes, k, 1) for k in (1, 4, 16)]
    # With K fresh noises, each in the sample's mode with probability 1/2, the bound is known in closed form.
    expected = [conditional + expected_gain(k) for k in (1, 4, 16)]
    np.testing.assert_allclose(values, expected, atol=TOLERANCE)
    assert max(values) < true + TOLERANCE


def expected_gain(k):
    """E log((K + 1) / (1 + n)), n ~ Binomial(K, 1/2) components in the sample's own mode."""
    return sum(comb(k, n) * 0.5**k * log((k + 1) / (1 + n)) for n in range(k + 1))


def test_nothing_is_gained_when_the_action_ignores_the_noise():
    def deaf(e):
        return linear(0.0 * e)

    assert abs(bound(deaf, 8, 2) - bound(deaf, 0, 2)) < TOLERANCE


@pytest.mark.parametrize("noise", ["antithetic", "stratified"])
@pytest.mark.parametrize("shared", [False, True])
def test_dependent_noises_and_shared_components_stay_below_the_true_entropy(noise, shared):
    true = 0.5 * 2 * (LOG_2PIE + np.log(1 + 0.15**2))
    assert bound(linear, 7, 2, noise, shared) < true + TOLERANCE


def test_sharing_the_components_changes_the_cost_and_not_the_bound():
    assert abs(bound(linear, 4, 2, shared=True) - bound(linear, 4, 2)) < TOLERANCE


def test_stratified_noises_tighten_the_bound():
    assert bound(linear, 4, 1, "stratified") > bound(linear, 4, 1) + 0.1
    # Two strata hit both modes always: log 2 exactly, where independent noises get expected_gain(1) = 0.35.
    assert abs(bound(two_modes, 1, 1, "stratified") - entropy_of_two_modes()) < TOLERANCE


@pytest.mark.parametrize("kind", ["independent", "antithetic", "stratified"])
def test_every_noise_is_a_standard_normal_at_every_place_of_its_set(kind):
    draw = jax.vmap(lambda key: si.draw_noises(key, kind, 4, 2))
    e = np.asarray(draw(jax.random.split(jax.random.key(3), 40_000)))
    np.testing.assert_allclose(e.mean(0), 0.0, atol=0.02)
    np.testing.assert_allclose((e**2).mean(0), 1.0, atol=0.03)
    np.testing.assert_allclose((e**4).mean(0), 3.0, atol=0.2)
    np.testing.assert_allclose((e[..., 0] * e[..., 1]).mean(0), 0.0, atol=0.02)


def test_strata_and_pairs():
    e = np.asarray(si.draw_noises(jax.random.key(0), "stratified", 10, 3))
    place = np.vectorize(lambda x: 0.5 * (1 + erf(x / np.sqrt(2))))(e)
    for column in place.T:
        assert sorted(np.floor(10 * column).astype(int)) == list(range(10))
    pairs = np.asarray(si.draw_noises(jax.random.key(0), "antithetic", 6, 3))
    np.testing.assert_array_equal(pairs[0::2], -pairs[1::2])


def test_the_bound_pushes_components_apart_and_the_surrogate_does_not():
    """The reason modes survive: only H_K has a gradient in the means."""

    def entropy(offset, components):
        means = jnp.stack([jnp.zeros(1), offset[None]])[:components]
        log_stds = jnp.full((components, 1), jnp.log(0.5))
        return -si.mixture_log_density(0.3 + means[0], means, log_stds)

    assert abs(float(jax.grad(entropy)(jnp.float32(0.8), 2))) > 0.1
    assert float(jax.grad(entropy)(jnp.float32(0.8), 1)) == 0.0


def weighted_bound(k, guess, size=2, spread=1.0, sigma=0.3):
    """Monte Carlo entropy bound of the linear policy with K noises from ``guess(z) -> (mean, log_std)``."""

    def one(key):
        k_e, k_eps, k_guess = jax.random.split(key, 3)
        e = jax.random.normal(k_e, (size,))
        z = spread * e + sigma * jax.random.normal(k_eps, (size,))
        mean, log_std = guess(z)
        noises = jnp.concatenate([e[None], mean + jnp.exp(log_std) * jax.random.normal(k_guess, (k, size))])
        zero = jnp.zeros(size)
        ratios = si.gaussian_log_density(noises, zero, zero) - si.gaussian_log_density(noises, mean, log_std)
        means, log_stds = linear(noises, spread, sigma)
        return -si.importance_log_density(z, means, log_stds, ratios), z

    values, z = jax.vmap(one)(jax.random.split(jax.random.key(5), SETS))
    variance = spread**2 + sigma**2
    exact = 0.5 * jnp.sum(z**2 / variance + jnp.log(2 * jnp.pi * variance), axis=-1)
    return values, exact


def posterior(z, spread=1.0, sigma=0.3):
    """Of e given z for the linear policy: Gaussian."""
    variance = spread**2 + sigma**2
    return spread * z / variance, jnp.full_like(z, 0.5 * np.log(sigma**2 / variance))


@pytest.mark.parametrize("k", [1, 3])
def test_weighting_by_the_exact_posterior_gives_the_exact_density_at_every_sample(k):
    """Not only in the mean and whatever K is: every importance weight is the density itself."""
    values, exact = weighted_bound(k, posterior)
    np.testing.assert_allclose(values, exact, rtol=2e-4, atol=2e-4)


def test_weighting_by_any_guess_stays_below_the_entropy_and_a_better_guess_comes_closer():
    prior, biased, wide = (
        lambda z: (0.0 * z, 0.0 * z),
        lambda z: (posterior(z)[0] + 0.5, posterior(z)[1]),
        lambda z: (posterior(z)[0], posterior(z)[1] + 0.3),
    )
    bounds = [weighted_bound(3, guess)[0].mean() for guess in (prior, biased, wide)]
    truth = float(np.log(2 * np.pi * np.e * 1.09))
    assert max(bounds) < truth + TOLERANCE
    assert bounds[2] > truth - 0.1
    assert bounds[0] < truth - 0.5
    plain = bound(lambda e: linear(e, 1.0, 0.3), 3, 2)
    assert bounds[0] == pytest.approx(plain, abs=TOLERANCE)  # blind guesses are H_K
