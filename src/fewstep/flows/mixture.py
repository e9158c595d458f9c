"""Gaussian mixtures with full covariances, fitted to samples by expectation maximisation: the entropy of a
policy that has no density (DACER, arXiv 2405.15177)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Samples = Float[Array, "n d"]
Scalar = Float[Array, ""]
RIDGE = 1e-6
"""Added to the diagonal of every covariance: samples may lie on a face of the box."""


class Mixture(eqx.Module):
    """sum_k weight_k N(mean_k, cov_k)."""

    weight: Float[Array, "k"]
    mean: Float[Array, "k d"]
    cov: Float[Array, "k d d"]

    def log_joint(self, x: Float[Array, "d"]) -> Float[Array, "k"]:
        """log weight_k + log N(x; mean_k, cov_k)."""
        normal = jax.vmap(lambda m, c: jax.scipy.stats.multivariate_normal.logpdf(x, m, c))
        return jnp.log(self.weight) + normal(self.mean, self.cov)

    def log_density(self, x: Float[Array, "d"]) -> Scalar:
        """log of the sum."""
        return jax.nn.logsumexp(self.log_joint(x))

    @property
    def entropy_bound(self) -> Scalar:
        """sum_k weight_k (-log weight_k + entropy of component k), nats: the paper's estimate.

        It is an upper bound of the mixture's entropy, met where components do not overlap; one Gaussian that
        is fitted by three has up to log 3 too much.
        """
        d = self.mean.shape[-1]
        each = 0.5 * (d * jnp.log(2.0 * jnp.pi * jnp.e) + jnp.linalg.slogdet(self.cov)[1])
        return jnp.sum(self.weight * (each - jnp.log(self.weight)))


def fit(x: Samples, components: int = 3, iterations: int = 100) -> Mixture:
    """The mixture after so many iterations of expectation maximisation.

    It starts from the clusters of ten iterations of Lloyd's algorithm (k-means), whose centres start as far
    from each other as samples are. A component that has lost its samples keeps a weight above 0.
    """
    hard = jax.nn.one_hot(_clusters(x, components), components)
    start = _maximised(x, hard)

    def step(_: int, now: Mixture) -> Mixture:
        return _maximised(x, jax.vmap(lambda row: jax.nn.softmax(now.log_joint(row)))(x))

    return lax.fori_loop(0, iterations, step, start)


def entropy(mixture: Mixture, x: Samples) -> Scalar:
    """-mean log density of the samples it was fitted to, nats. Differentiates: nothing needs it to.

    Too low by about (parameters of the mixture) / (2 n) for n samples.
    """
    return -jax.vmap(mixture.log_density)(x).mean()


def _maximised(x: Samples, share: Float[Array, "n k"]) -> Mixture:
    count = share.sum(axis=0) + 10.0 * jnp.finfo(x.dtype).eps
    mean = share.T @ x / count[:, None]
    away = x[:, None] - mean
    cov = jnp.einsum("nk,nki,nkj->kij", share, away, away) / count[:, None, None]
    return Mixture(count / count.sum(), mean, cov + RIDGE * jnp.eye(x.shape[1]))


def _clusters(x: Samples, components: int) -> Float[Array, "n"]:
    def away(centres: Float[Array, "k d"]) -> Float[Array, "n k"]:
        return jnp.sum((x[:, None] - centres) ** 2, axis=-1)

    centres = x[jnp.argmax(away(x.mean(axis=0, keepdims=True)))][None]
    for _ in range(components - 1):
        centres = jnp.concatenate([centres, x[jnp.argmax(away(centres).min(axis=1))][None]])

    def lloyd(_: int, now: Float[Array, "k d"]) -> Float[Array, "k d"]:
        mine = jax.nn.one_hot(away(now).argmin(axis=1), components)
        count = mine.sum(axis=0)[:, None]
        return jnp.where(count > 0, mine.T @ x / jnp.maximum(count, 1.0), now)

    return away(lax.fori_loop(0, 10, lloyd, centres)).argmin(axis=1)
