"""The divergence of a velocity field, and the average divergence that turns into log-densities (MFPO)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fewstep.flows.meanflow import AverageDivergence, AverageVelocity, Scalar, Vector, grid, total_derivative

Velocity = Callable[[Vector], Vector]
Shift = Callable[[Vector, Scalar, Scalar], Vector]


def exact_divergence(v: Velocity, x: Vector) -> Scalar:
    """Trace of dv/dx by ``act`` forward-mode JVPs."""
    return jnp.trace(jax.jacfwd(v)(x))


def instantaneous_divergence(u: AverageVelocity) -> AverageDivergence:
    """``d(x, r, t) = div_x u(x, t, t)``: the divergence of the velocity at the start of a step, in place of
    its average over the step. With it ``meanflow.sample_with_log_prob`` is off by O((t - r)^2) per step.

    Costs ``act`` forward-mode JVPs.
    """
    return lambda x, r, t: exact_divergence(lambda at: u(at, t, t), x)


def traces(
    v: Velocity, x: Vector, probes: Float[Array, "probes act"]
) -> tuple[Vector, Float[Array, "probes"]]:
    """``v(x)`` and of each probe e the estimate e . (dv/dx) e of its divergence.

    The probes must have mean zero and unit covariance. Rademacher probes (entries +-1) have the lowest
    variance of those with independent entries: only off-diagonal terms of dv/dx contribute. The linearisation
    is shared by all probes.
    """
    value, push = jax.linearize(v, x)
    return value, jax.vmap(lambda e: e @ push(e))(probes)


def hutchinson(v: Velocity, x: Vector, probes: Float[Array, "probes act"]) -> tuple[Vector, Scalar]:
    """``v(x)`` and the mean of ``traces``, an unbiased estimate of its divergence."""
    value, each = traces(v, x, probes)
    return value, each.mean()


def average_divergence_target(
    d: AverageDivergence, x: Vector, r: Scalar, t: Scalar, v: Vector, div: Scalar
) -> tuple[Scalar, Scalar]:
    """The network's value ``d(x, r, t)`` and its target ``div - (t - r) dd/dt`` (MFPO).

    The MeanFlow identity with the divergence in place of the velocity: ``v`` moves the point, ``div`` is
    what is averaged. The target carries no gradient.
    """
    value, derivative = total_derivative(d, x, r, t, v)
    return value, lax.stop_gradient(div - (t - r) * derivative)


def traced_log_det(
    shift: Shift, noise: Vector, intervals: int, probes: Float[Array, "probes act"], limit: float
) -> Scalar:
    """log |det dx_0/dnoise| to first order, x <- x - ``shift(x, r, t)`` carrying noise to time 0 (FLAME).

    With J the Jacobian of a shift, log |det(I - J)| = -tr J - tr J^2 / 2 - ...: the sum of -tr J over the
    ``intervals``, each trace by ``hutchinson`` with the same ``probes`` and cut to [-limit, limit]. Before
    that it is unbiased for the traces; what is left out is at most 0 for a symmetric J below I, so there it
    errs upwards. A straight flow that ends at a point, whose log-determinant is minus infinity, has
    -d (1 + 1/2 + ... + 1/intervals) here.
    """

    def step(now: tuple[Vector, Scalar], times: Vector) -> tuple[tuple[Vector, Scalar], None]:
        x, total = now
        moved, trace = hutchinson(lambda y: shift(y, times[0], times[1]), x, probes)
        return (x - moved, total - jnp.clip(trace, -limit, limit)), None

    start = noise, jnp.zeros((), noise.dtype)
    return lax.scan(step, start, jnp.asarray(grid(intervals), noise.dtype))[0][1]
