"""The Gaussian critic of DSAC-T (Duan et al. 2023, arXiv 2310.05858): equations for one sample.

A critic gives the mean and the standard deviation of the return. Where the authors draw one return per
transition, the expectation over draws stands here in closed form: the same gradient on average, without
noise.
"""

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

Scalar = Float[Array, ""]

FLOOR = 0.1
"""Added to the variance and to its power 3/2 where the loss divides by them, as in the authors' code."""
WIDTH = 3.0
"""Sampled targets are clipped to this many running standard deviations around the predicted mean."""


def moments(out: Float[Array, "2"]) -> tuple[Scalar, Scalar]:
    """Mean and standard deviation from a network's two outputs; the second goes through softplus."""
    return out[0], jax.nn.softplus(out[1])


def clipped_square(mean: Scalar, std: Scalar, limit: Scalar) -> Scalar:
    """E[clip(x, -limit, limit)^2] for x ~ N(mean, std^2), in closed form."""
    std = jnp.maximum(std, 1e-4)
    low, high = (-limit - mean) / std, (limit - mean) / std
    outside = norm.cdf(low) + norm.cdf(-high)
    inside = norm.cdf(high) - norm.cdf(low)
    first = 2.0 * mean * std * (norm.pdf(low) - norm.pdf(high))
    second = std**2 * (low * norm.pdf(low) - high * norm.pdf(high))
    return limit**2 * outside + (mean**2 + std**2) * inside + first + second


def loss(out: Float[Array, "2"], target_mean: Scalar, target_std: Scalar, spread: Scalar) -> Scalar:
    """DSAC-T's critic loss (equations 13 to 16), in expectation over the target's draw. Differentiates: out.

    Its value means nothing; its gradient moves the mean to the target's and the variance to the expected
    squared distance of a draw, clipped to ``WIDTH`` times ``spread``. ``spread`` is the running mean of the
    predicted standard deviation, which makes the step's size independent of the reward's scale.
    """
    mean, std = moments(out)
    constant = jax.lax.stop_gradient
    distance = clipped_square(constant(target_mean - mean), target_std, WIDTH * spread)
    of_mean = mean * constant((target_mean - mean) / (std**2 + FLOOR))
    of_std = std * constant((distance - std**2) / (std**3 + FLOOR))
    return -(spread**2 + FLOOR) * (of_mean + of_std)
