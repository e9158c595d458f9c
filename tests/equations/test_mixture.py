"""Gaussian mixtures by expectation maximisation: recovered parameters, a likelihood that rises, entropies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows import mixture

FIT = jax.jit(mixture.fit, static_argnums=(1, 2))


def three(n=3000):
    """Three Gaussians far from each other, one with a tilted covariance."""
    rng = np.random.default_rng(0)
    weight = np.array([0.5, 0.3, 0.2])
    mean = np.array([[0.0, 0.0], [4.0, 1.0], [-3.0, 3.0]])
    cov = np.array([[[0.3, 0.2], [0.2, 0.4]], [[0.1, 0.0], [0.0, 0.1]], [[0.5, 0.0], [0.0, 0.05]]])
    which = rng.choice(3, n, p=weight)
    x = np.stack([rng.multivariate_normal(mean[k], cov[k]) for k in which])
    return weight, mean, cov, jnp.asarray(x, jnp.float32)


def test_it_recovers_three_gaussians():
    weight, mean, cov, x = three()
    found = FIT(x, 3, 100)
    order = [int(np.argmin(((found.mean - m) ** 2).sum(1))) for m in mean]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(found.weight[jnp.array(order)], weight, atol=0.03)
    np.testing.assert_allclose(found.mean[jnp.array(order)], mean, atol=0.06)
    np.testing.assert_allclose(found.cov[jnp.array(order)], cov, atol=0.05)


def test_the_likelihood_never_falls():
    x = three(400)[3] * 0.3  # now they overlap
    fits = [mixture.entropy(FIT(x, 3, n), x) for n in (0, 1, 3, 10, 100)]
    assert np.all(np.diff(fits) <= 1e-5)


def test_components_far_apart_have_the_entropy_of_the_bound():
    weight, _, cov, x = three()
    exact = float(np.sum(weight * (0.5 * np.linalg.slogdet(2 * np.pi * np.e * cov)[1] - np.log(weight))))
    found = FIT(x, 3, 100)
    assert found.entropy_bound == pytest.approx(exact, abs=0.06)
    assert mixture.entropy(found, x) == pytest.approx(exact, abs=0.06)


def test_the_bound_is_too_high_for_one_gaussian_and_the_sample_mean_is_not():
    """200 draws of N(0, I) in two dimensions: 2.84 nats."""
    exact = np.log(2 * np.pi * np.e)
    x = jax.random.normal(jax.random.key(0), (50, 200, 2))
    fits = jax.jit(jax.vmap(lambda each: mixture.fit(each)))(x)
    bound = jax.vmap(lambda m: m.entropy_bound)(fits).mean()
    mean = jax.vmap(mixture.entropy)(fits, x).mean()
    assert bound - exact > 0.2
    assert mean == pytest.approx(exact, abs=0.08)


def test_it_is_finite_where_samples_lie_on_a_face_or_in_one_point():
    x = jax.random.normal(jax.random.key(0), (200, 3)).clip(-0.5, 0.5).at[:, 0].set(1.0)
    for samples in (x, jnp.ones((50, 2)), jnp.tile(x[:3], (20, 1))):
        found = FIT(samples, 3, 50)
        assert np.all(np.isfinite(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])))
        assert np.isfinite(found.entropy_bound)
        assert np.isfinite(mixture.entropy(found, samples))
    assert found.weight.sum() == pytest.approx(1, abs=1e-5)
