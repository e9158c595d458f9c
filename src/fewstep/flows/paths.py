"""From noise (time 1) to an action (time 0) in steps: ODEs and SDEs, and what their paths cost.

A velocity ``v(x, t)`` is dx/dt as in ``flows.meanflow`` (e - a on the straight path), so a step of size h
from t to t - h *subtracts* it. Everything is for one sample; the noise comes as an argument, and gradients
flow through all of it.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from fewstep.flows import divergence, meanflow
from fewstep.flows.meanflow import Scalar, Vector

Velocity = Callable[[Vector, Scalar], Vector]
Control = Callable[[Vector, Int[Array, ""]], Vector]
Solver = Literal["euler", "midpoint"]


class Flow(NamedTuple):
    """The end of an ODE's path, and its kinetic energy 1/2 integral |v|^2 dt."""

    x: Vector
    energy: Scalar


def solve(v: Velocity, noise: Vector, steps: int, solver: Solver = "midpoint") -> Flow:
    """``noise`` carried to time 0 in equal steps.

    ``midpoint`` (second order) evaluates ``v`` twice per step, ``euler`` once. The energy sums 1/2 h |v|^2
    over the velocities that the steps were made with, which makes it at least half the squared distance from
    start to end (Cauchy-Schwarz), and equal to it where the velocity is constant.
    """
    h = 1.0 / steps

    def step(now: Flow, t: Scalar) -> tuple[Flow, None]:
        u = v(now.x, t)
        if solver == "midpoint":
            u = v(now.x - 0.5 * h * u, t - 0.5 * h)
        return Flow(now.x - h * u, now.energy + 0.5 * h * (u @ u)), None

    start = Flow(noise, jnp.zeros((), noise.dtype))
    return lax.scan(step, start, jnp.arange(steps, 0, -1, dtype=noise.dtype) / steps)[0]


def log_density(
    v: Velocity, x: Vector, steps: int, probes: Float[Array, "probes act"]
) -> Float[Array, "probes"]:
    """Log-density at ``x`` of what the ODE makes of N(0, I), in nats, estimated once by each probe.

    ``x`` is carried back to x_1 at time 1 in equal midpoint steps, and log p(x) = log N(x_1) + the integral
    of div v along the path: exact in the limit of many steps, and for the mean over probes of unit covariance
    (``divergence.traces``). All probes share one path.
    """
    h = 1.0 / steps

    def step(
        now: tuple[Vector, Float[Array, "probes"]], t: Scalar
    ) -> tuple[tuple[Vector, Float[Array, "probes"]], None]:
        x, total = now
        middle, t_middle = x + 0.5 * h * v(x, t), t + 0.5 * h
        u, each = divergence.traces(lambda y: v(y, t_middle), middle, probes)
        return (x + h * u, total + h * each), None

    times = jnp.arange(steps, dtype=x.dtype) / steps
    (x, total), _ = lax.scan(step, (x, jnp.zeros(probes.shape[0], x.dtype)), times)
    return meanflow.normal_log_density(x) + total


def score(v: Vector, x: Vector, t: Scalar) -> Vector:
    """grad_x log p_t(x) of the straight path (1 - t) a + t e whose velocity at (x, t) is ``v``; t > 0.

    The mean noise of x is x + (1 - t) v, and the score its negative over t (Tweedie's formula).
    """
    return -(x + (1.0 - t) * v) / t


def preserving(v: Velocity, sigma: float) -> Velocity:
    """The drift that keeps the marginals of ``v`` where a diffusion of strength ``sigma`` is added.

    dx = drift dt + sigma dW has them towards the action if the drift is v - sigma^2 / 2 times the score
    (SAC-Flow, arXiv 2509.25756; Song et al. 2021, arXiv 2011.13456, the other way round). It holds for a
    ``v`` that is the velocity of a straight path from N(0, I), and in the limit of many steps.
    """

    def drift(x: Vector, t: Scalar) -> Vector:
        u = v(x, t)
        return u - 0.5 * sigma**2 * score(u, x, t)

    return drift


class Path(NamedTuple):
    """The end of an SDE's path, and a log-probability of the path in nats."""

    x: Vector
    log_prob: Scalar


def noisy(v: Velocity, log_std: Vector, noise: Float[Array, "steps+1 act"]) -> Path:
    """Euler steps, each with Gaussian noise of standard deviation exp(log_std): x <- x - h v + std e.

    Returns:
        The end, and the log-density of the whole path (start and every step), which is that of its noises
        less the log of their widths. It is no bound of the end's own log-density: the entropy of a path is
        the end's plus that of the way there.
    """
    x, steps = noise[0], noise.shape[0] - 1
    log_prob = meanflow.normal_log_density(x)
    for (r, t), e in zip(meanflow.grid(steps), noise[1:], strict=True):
        x = x - (t - r) * v(x, jnp.asarray(t, x.dtype)) + jnp.exp(log_std) * e
        log_prob = log_prob + meanflow.normal_log_density(e) - log_std.sum()
    return Path(x, log_prob)


def controlled(
    control: Control,
    widths: Float[Array, "steps act"],
    prior_std: float,
    noise: Float[Array, "steps+1 act"],
) -> Path:
    """An Ornstein-Uhlenbeck process with a learned force, and an upper bound of its end's log-density.

    From x_0 ~ N(0, prior_std^2), with eta_k = ``widths[k]``, k from 0,

        x_{k+1} = x_k + eta_k (-x_k / prior_std^2 + control(x_k, k)) + sqrt(2 eta_k) e_k.

    The process that runs backwards without the force has kernels N(x_k; x_{k+1} - eta_k x_{k+1} /
    prior_std^2, 2 eta_k). The sum over the path of log forward - log backward, and log N(x_0), is the log
    ratio of two measures of paths with one end: its mean given the end is log p(end) plus a KL divergence
    (DIME, arXiv 2502.02316, equation 10), so the mean of ``-log_prob`` is a lower bound of the entropy.

    Returns:
        The end, and that sum.
    """
    x = prior_std * noise[0]
    start = meanflow.normal_log_density(noise[0]) - x.shape[-1] * jnp.log(prior_std)
    pull = prior_std**-2

    def step(
        now: tuple[Vector, Scalar], given: tuple[Array, Vector, Vector]
    ) -> tuple[tuple[Vector, Scalar], None]:
        (x, cost), (k, eta, e) = now, given
        y = x + eta * (control(x, k) - pull * x) + jnp.sqrt(2.0 * eta) * e
        back = y - eta * pull * y
        # The normalisers of the two Gaussians cancel.
        cost = cost + 0.5 * ((x - back) ** 2 / (2.0 * eta) - e * e).sum()
        return (y, cost), None

    (x, log_prob), _ = lax.scan(step, (x, start), (jnp.arange(noise.shape[0] - 1), widths, noise[1:]))
    return Path(x, log_prob)


def cosine_widths(steps: int) -> Float[Array, "steps"]:
    """Relative step sizes cos^2, 1 near the noise, falling towards the action, at least 0.001 (DIME)."""
    phase = (jnp.arange(steps) / steps + 0.008) / 1.008
    return jnp.maximum(jnp.cos(0.5 * jnp.pi * phase) ** 2, 1e-3)
