"""The divergence of a velocity field, and the average divergence that turns into log-densities (MFPO)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fewstep.flows.meanflow import AverageDivergence, Scalar, Vector, total_derivative

Velocity = Callable[[Vector], Vector]


def exact_divergence(v: Velocity, x: Vector) -> Scalar:
    """Trace of dv/dx by ``act`` forward-mode JVPs."""
    return jnp.trace(jax.jacfwd(v)(x))


def hutchinson(v: Velocity, x: Vector, probes: Float[Array, "probes act"]) -> tuple[Vector, Scalar]:
    """``v(x)`` and the unbiased estimate mean_i e_i . (dv/dx) e_i of its divergence.

    The probes must have mean zero and unit covariance. Rademacher probes (entries +-1) have the lowest
        variance of those with
    independent entries: only off-diagonal terms of dv/dx contribute. The linearisation is shared by all
        probes.
    """
    value, push = jax.linearize(v, x)
    return value, jax.vmap(lambda e: e @ push(e))(probes).mean()


def average_divergence_target(
    d: AverageDivergence, x: Vector, r: Scalar, t: Scalar, v: Vector, div: Scalar
) -> tuple[Scalar, Scalar]:
    """The network's value ``d(x, r, t)`` and its target ``div - (t - r) dd/dt`` (MFPO).

    The MeanFlow identity with the divergence in place of the velocity: ``v`` moves the point, ``div`` is what
        is averaged. The
    target carries no gradient.
    """
    value, derivative = total_derivative(d, x, r, t, v)
    return value, lax.stop_gradient(div - (t - r) * derivative)
