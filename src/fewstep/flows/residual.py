"""The residual form of MeanFlow: a network that predicts an action instead of a velocity.

    g(x, b, t) = x - u(x, b, t),

with u the average velocity over [b, t]. On the whole interval, b = 0 and t = 1, the unit of time is all there
is, so g(e, 0, 1) is the action: one evaluation, nothing to subtract. Anywhere else g is not where the path
ends; at t = b, for one, it is x - v(x, t).
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.flows.meanflow import Scalar, Vector

Aux = TypeVar("Aux")
Residual = Callable[[Vector, Scalar, Scalar], tuple[Vector, Aux]]
"""(x, b, t) -> (g, whatever else the network says there)."""


def residual_target(
    g: Residual[Aux], x: Vector, b: Scalar, t: Scalar, v: Vector, limit: float
) -> tuple[Vector, Aux, Vector]:
    """The network's value ``g(x, b, t)`` and its target x + (t - b - 1) v - (t - b) dg/dt.

    This is the MeanFlow identity u = v - (t - b) du/dt with u = x - g; dg/dt is the derivative along the
    flow, v . grad_x g + dg/dt, from one forward-mode JVP.

    Args:
        g: the network; gradients flow into it only through the returned value (and the auxiliary output).
        x: point on the path at time t, action units.
        b, t: times, 0 <= b <= t <= 1.
        v: (estimate of) the instantaneous velocity at (x, t).
        limit: the target is cut to [-limit, limit] in every dimension: for small t it may be far from any
            action, and the derivative of an untrained network may be anything.

    Returns:
        ``(value, aux, target)``; the target carries no gradient.
    """
    start, derivative, aux = jax.jvp(g, (x, b, t), (v, jnp.zeros_like(b), jnp.ones_like(t)), has_aux=True)
    target = x + (t - b - 1.0) * v - (t - b) * derivative
    return start, aux, lax.stop_gradient(jnp.clip(target, -limit, limit))


def adaptive_weight(delta: Scalar, gamma: float, epsilon: float = 1e-4) -> Scalar:
    """MeanFlow's weight (delta + epsilon)^-(1 - gamma) of a squared error; 1 for gamma = 1. No gradient."""
    return lax.stop_gradient((delta + epsilon) ** -(1.0 - gamma))


def sample_times(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Training times, uniform on (0, 1]."""
    return 1.0 - jax.random.uniform(key, shape)
