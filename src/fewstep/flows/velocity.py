"""Estimating the velocity of a Boltzmann target by self-normalised importance sampling (SNIS), as MFPO does.

The marginal velocity at (x, t) of the flow that noises ``a ~ p(a)`` to ``x = (1 - t) a + t e`` is

    v(x, t) = E[(x - a) / t | x],      p(a | x) proportional to p(a) N(x; (1 - t) a, t^2 I),

and p(a) = exp(Q(a) / alpha) / Z is known up to its constant. All functions take one state: K candidates, one
x, one t.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fewstep.flows.meanflow import Scalar, Vector

Candidates = Float[Array, "K act"]
LogWeights = Float[Array, "K"]


def policy_log_weights(
    log_target: LogWeights, log_q: LogWeights, candidates: Candidates, x: Vector, t: Scalar
) -> LogWeights:
    """Log-weights of candidates drawn from the policy, up to a constant.

    Args:
        log_target: log p(a_k) up to a constant (Q / alpha), nats.
        log_q: the policy's log-density at its samples, nats.
        candidates: the samples; x, t: the point to estimate at (t > 0).
    """
    distance = jnp.sum((x - (1.0 - t) * candidates) ** 2, axis=-1)
    return log_target - distance / (2.0 * t * t) - log_q


def snis_velocity(
    log_weights: LogWeights, candidates: Candidates, x: Vector, t: Scalar
) -> tuple[Vector, Scalar]:
    """The estimate sum_k w_k (x - a_k) / t and the effective sample size 1 / sum_k w_k^2 in [1, K]."""
    w = jax.nn.softmax(log_weights)
    return (x - w @ candidates) / t, 1.0 / jnp.sum(w * w)


def mix_by_ess(v_p: Vector, ess_p: Scalar, v_g: Vector, ess_g: Scalar) -> tuple[Vector, Scalar]:
    """Weigh two estimates by effective sample size: rho v_p + (1 - rho) v_g, rho = ess_p / (ess_p + ess_g).

    MFPO does not divide the sizes by their K: two perfect proposals share the weight as K1 : K2. Given sizes
    per candidate, they share it equally.
    """
    rho = ess_p / (ess_p + ess_g)
    return rho * v_p + (1.0 - rho) * v_g, rho


def truncated_normal(uniform: Array, low: Array, high: Array) -> Array:
    """Standard normal restricted to [low, high], elementwise, right in both tails in float32.

    The inverse-CDF formula loses all resolution for bounds above about 4.5 because the CDF rounds to 1. The
    interval is therefore mirrored to the side where the CDF is small, where float32 keeps its relative
    precision down to bounds of -12; beyond that the tail density is replaced by the one proportional to |z|
    exp(-z^2/2), within 1/144 of it.

    Args:
        uniform: from (0, 1), never 0; one number per number to draw.
        low, high: bounds that broadcast against it, low <= high.
    """
    mirror = low + high > 0.0
    a, b = jnp.where(mirror, -high, low), jnp.where(mirror, -low, high)

    cdf_a, cdf_b = jax.scipy.special.ndtr(a), jax.scipy.special.ndtr(b)
    central = jax.scipy.special.ndtri(
        jnp.maximum(cdf_a + uniform * (cdf_b - cdf_a), jnp.finfo(jnp.float32).tiny)
    )

    # Far tail [a, b], b < -12: -sqrt(b^2 - 2 log(uniform)) solves the CDF of |z| exp(-z^2/2); the truncation
    # at a by scaling.
    b_far, a_far = jnp.minimum(b, -1.0), jnp.minimum(a, -1.0)
    kept = -jnp.expm1(0.5 * (b_far - a_far) * (b_far + a_far))
    # Not log1p: what it gains is lost in the sum with b^2 > 144, and beside ndtri XLA does not vectorise it.
    far = -jnp.sqrt(b_far * b_far - 2.0 * jnp.log(1.0 - uniform * kept))

    z = jnp.clip(jnp.where(b < -12.0, far, central), a, b)
    return jnp.where(mirror, -z, z)


def share_below(uniform: Array, low: Array, high: Array) -> Array:
    """Share of the truncated normal's mass below ``truncated_normal(uniform, low, high)``.

    It is ``uniform`` or 1 - ``uniform``: the mirrored side and the far tail each turn the order around.
    """
    mirror = low + high > 0.0
    far = jnp.where(mirror, -low, high) < -12.0
    return jnp.where(mirror != far, 1.0 - uniform, uniform)


def truncated_mean(low: Array, high: Array) -> Array:
    """Mean of the standard normal restricted to [low, high], elementwise, right in both tails in float32.

    (phi(low) - phi(high)) / (Phi(high) - Phi(low)), mirrored to the left and divided through by the larger
    of each pair, of which the logarithms are known.
    """
    mirror = low + high > 0.0
    a, b = jnp.where(mirror, -high, low), jnp.where(mirror, -low, high)
    tail_a, tail_b = jax.scipy.special.log_ndtr(a), jax.scipy.special.log_ndtr(b)
    hazard = jnp.exp(-0.5 * (b * b + jnp.log(2.0 * jnp.pi)) - tail_b)
    mean = -hazard * jnp.expm1(0.5 * (b - a) * (b + a)) / jnp.expm1(tail_a - tail_b)
    mean = jnp.clip(mean, a, b)
    return jnp.where(mirror, -mean, mean)


def gaussian_in_box(uniform: Candidates, x: Vector, t: Scalar) -> Candidates:
    """Candidates from N(x / (1 - t), (t / (1 - t))^2 I) restricted to the box [-1, 1]^act.

    This is p(a | x) for a uniform target, so their log-weights are just Q / alpha. Drawn through the noise
    e = (x - (1 - t) a) / t, which is a standard normal truncated to the image of the box; needs 0 < t < 1.
    ``uniform`` are the numbers from (0, 1) it is made of.
    """
    noise = truncated_normal(uniform, (x - (1.0 - t)) / t, (x + (1.0 - t)) / t)
    return jnp.clip((x - t * noise) / (1.0 - t), -1.0, 1.0)


def gaussian_with_prior(normal: Candidates, x: Vector, t: Scalar) -> tuple[Candidates, LogWeights]:
    """Candidates from the product of N(x / (1 - t), (t / (1 - t))^2 I) and a standard normal prior.

    For targets without bounds the plain Gaussian is useless near t = 1 (infinitely wide); the prior keeps it
    proper up to and including t = 1. Needs t > 0. ``normal`` are the standard normal numbers to make them of.

    Returns:
        ``(candidates, log_prior)``: the log-weight of a candidate is log p(a) - log_prior (+ const).
    """
    precision = ((1.0 - t) / t) ** 2 + 1.0
    mean = (1.0 - t) / (t * t) * x / precision
    candidates = mean + normal * lax.rsqrt(precision)
    return candidates, -0.5 * jnp.sum(candidates**2, axis=-1)
