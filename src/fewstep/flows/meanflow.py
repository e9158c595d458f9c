"""MeanFlow: average velocities, their regression target, and the few-step sampler they give.

``u(x, r, t)`` is the average over [r, t] of the velocity along the path through ``x`` at time ``t``:

    (t - r) u(x, r, t) = integral_r^t v(x_tau, tau) dtau.

Everything here works on one sample; ``u`` is any function of (x, r, t) (a network with its state filled in).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Scalar = Float[Array, ""]
Vector = Float[Array, "act"]
AverageVelocity = Callable[[Vector, Scalar, Scalar], Vector]
AverageDivergence = Callable[[Vector, Scalar, Scalar], Scalar]


def interpolate(a: Vector, e: Vector, t: Scalar) -> Vector:
    """The point ``(1 - t) a + t e`` between an action (t = 0) and a noise (t = 1)."""
    return (1.0 - t) * a + t * e


def total_derivative(
    f: Callable[[Vector, Scalar, Scalar], Array], x: Vector, r: Scalar, t: Scalar, v: Vector
) -> tuple[Array, Array]:
    """``f(x, r, t)`` and its derivative along the flow, v . grad_x f + df/dt, from one forward-mode JVP."""
    return jax.jvp(f, (x, r, t), (v, jnp.zeros_like(r), jnp.ones_like(t)))


def meanflow_target(u: AverageVelocity, x: Vector, r: Scalar, t: Scalar, v: Vector) -> tuple[Vector, Vector]:
    """The network's value ``u(x, r, t)`` and its target ``v - (t - r) du/dt`` (MeanFlow, eq. 6).

    Args:
        u: average velocity; gradients flow into it only through the returned value.
        x: point on the path at time t, action units.
        r, t: times, 0 <= r <= t <= 1. At r = t the target is ``v`` itself.
        v: (estimate of) the instantaneous velocity at (x, t).

    Returns:
        ``(value, target)``; the target carries no gradient.
    """
    value, derivative = total_derivative(u, x, r, t, v)
    return value, lax.stop_gradient(v - (t - r) * derivative)


def grid(steps: int) -> list[tuple[float, float]]:
    """The sampler's time pairs (r, t) from noise to action: (1 - 1/T, 1), ..., (0, 1/T)."""
    return [((i - 1) / steps, i / steps) for i in range(steps, 0, -1)]


def sample(u: AverageVelocity, noise: Vector, steps: int) -> Vector:
    """Transport ``noise`` (time 1) to an action (time 0) by ``steps`` times x <- x - (t - r) u(x, r, t)."""
    x = noise
    for r, t in grid(steps):
        x = x - (t - r) * u(x, jnp.asarray(r, x.dtype), jnp.asarray(t, x.dtype))
    return x


def normal_log_density(e: Vector) -> Scalar:
    """Log-density of the standard normal at ``e``, in nats."""
    return -0.5 * (e @ e + e.shape[-1] * jnp.log(2.0 * jnp.pi))


def sample_with_log_prob(
    u: AverageVelocity, d: AverageDivergence, noise: Vector, steps: int
) -> tuple[Vector, Scalar]:
    """``sample`` together with the log-density that the average divergence ``d`` assigns (MFPO).

    Since d log p(x_t) / dt = -div v along the flow, log p_0 = log p_1 + sum over steps of (t - r) d(x, r, t),
    with ``d`` evaluated where ``u`` is: at the point before the step.

    Returns:
        ``(x, log_prob)``: the sample and its log-density in nats. Exact in the limit of exact ``u``, ``d``;
        for the few-step map itself see ``exact_log_prob``.
    """

    def step(now: tuple[Vector, Scalar], times: Vector) -> tuple[tuple[Vector, Scalar], None]:
        (x, log_prob), (r, t) = now, times
        return (x - (t - r) * u(x, r, t), log_prob + (t - r) * d(x, r, t)), None

    start = noise, normal_log_density(noise)
    return lax.scan(step, start, jnp.asarray(grid(steps), noise.dtype))[0]


def exact_log_prob(u: AverageVelocity, noise: Vector, steps: int) -> tuple[Vector, Scalar]:
    """``sample`` with the exact log-density of the ``steps``-step map: log N(noise) - log |det dx/dnoise|.

    Costs ``act`` forward-mode JVPs, so it is for small actions and for checking everything else. It is the
    density of the sample if the map is injective, which the map of a trained flow nearly is; where it folds,
    the true density is larger.
    """
    jacobian = jax.jacfwd(lambda e: sample(u, e, steps))(noise)
    return sample(u, noise, steps), normal_log_density(noise) - jnp.linalg.slogdet(jacobian)[1]
