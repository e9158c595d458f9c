"""Densities and entropies of a Gaussian whose parameters depend on a noise that is integrated out.

a ~ N(mu(e), sigma(e)^2) with e ~ N(0, I) has no density in closed form. Two bounds of its entropy H(a):

    H(a | e) = E_e sum_i log sigma_i(e) + (d / 2) log(2 pi e)           SMFP's surrogate: forgets I(a; e),
    H_K = - E log 1/(K+1) sum_k N(a; mu(e_k), sigma(e_k)^2)             semi-implicit (Yin and Zhou 2018),

where a is drawn from one of the K + 1 components. H(a | e) = H_0 <= H_1 <= ... <= H(a).

Why H_K is a bound, and with which noises. Given the noises, a is a sample of their equal mixture, so H_K is
the expected entropy of that mixture; entropy is concave and the expected mixture is the law of a. Nothing
more is used than that each noise is a standard normal and that the component a comes from is any of them
alike. The noises of one set may therefore depend on each other (antithetic, stratified), and one set may
serve a sample from each of its components: K + 1 evaluations then give K + 1 samples, each with its H_K.

H_K - H(a | e) is at most log(K + 1), because noises drawn blindly rarely meet the sample. Drawn from a guess
r(e | a) and weighted by p(e) / r(e | a), with the sample's own noise among them, they give a bound too, tight
where r is the posterior of e whatever K is (Sobolev and Vetrov 2019, arXiv 1905.10732).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.flows import noises
from fewstep.flows.meanflow import Scalar, Vector

Noise = Literal["independent", "antithetic", "stratified"]
Components = Float[Array, "N act"]


def conditional_entropy(log_std: Vector) -> Scalar:
    """Entropy of a diagonal Gaussian in nats, sum log sigma + (d / 2) log(2 pi e)."""
    return jnp.sum(log_std, axis=-1) + 0.5 * log_std.shape[-1] * jnp.log(2.0 * jnp.pi * jnp.e)


def gaussian_log_density(z: Vector, mean: Vector, log_std: Vector) -> Scalar:
    """log N(z; mean, diag(exp(log_std))^2), nats."""
    standard = (z - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.sum(standard**2 + jnp.log(2.0 * jnp.pi), axis=-1) - jnp.sum(log_std, axis=-1)


def mixture_log_density(z: Vector, means: Components, log_stds: Components) -> Scalar:
    """Log-density of the equal mixture of N diagonal Gaussians at ``z``, nats.

    With ``z`` drawn from one of the components, minus its mean is H_K for K = N - 1.
    """
    return importance_log_density(z, means, log_stds, jnp.zeros(means.shape[0]))


def importance_log_density(
    z: Vector, means: Components, log_stds: Components, log_ratios: Float[Array, "N"]
) -> Scalar:
    """log of the mean over N components of exp(log_ratio) N(z; mean, std), nats.

    ``log_ratios`` are log p(e) - log r(e | z) of the components' noises. With one noise that ``z`` really
    came from and N - 1 drawn from r, its mean is not below that of the true log-density.
    """
    each = gaussian_log_density(z, means, log_stds) + log_ratios
    return jax.nn.logsumexp(each) - jnp.log(float(means.shape[0]))


def draw_noises(key: PRNGKeyArray, kind: Noise, count: int, size: int) -> Components:
    """``count`` standard normal vectors for the components of one state.

    Args:
        key: random key.
        kind: ``independent``; ``antithetic``, pairs (e, -e), which needs an even count; ``stratified``, a
            Latin hypercube: in every dimension one noise falls into each of ``count`` equally likely
            intervals.
        count, size: how many, of which dimension.
    """
    if kind == "independent":
        return jax.random.normal(key, (count, size))
    if kind == "antithetic":
        half = jax.random.normal(key, (count // 2, size))
        return jnp.stack([half, -half], axis=1).reshape(count, size)
    return noises.normals(key, "stratified", (count, size))
