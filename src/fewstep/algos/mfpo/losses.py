"""MFPO's two regressions. Each says what it differentiates; everything else in it is a constant."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fewstep.algos.mfpo.policy import Scalar, average_divergence, average_velocity
from fewstep.flows import divergence, meanflow
from fewstep.nets.flow_net import FlowNet


def actor_regression(
    actor: FlowNet,
    equal: int,
    obs: Float[Array, "batch obs"],
    x: Float[Array, "batch act"],
    v: Float[Array, "batch act"],
    r: Float[Array, "batch"],
    t: Float[Array, "batch"],
) -> tuple[Scalar, None]:
    """Mean squared MeanFlow residual over batch and action. Differentiates: actor.

    In the first ``equal`` rows r = t, where the target is ``v`` and the JVP of the identity would be
    multiplied by zero.
    """
    value = jax.vmap(actor)(obs[:equal], x[:equal], r[:equal], t[:equal])
    apart, target = jax.vmap(
        lambda s, x, r, t, v: meanflow.meanflow_target(average_velocity(actor, s), x, r, t, v)
    )(obs[equal:], x[equal:], r[equal:], t[equal:], v[equal:])
    squares = jnp.sum((value - v[:equal]) ** 2) + jnp.sum((apart - target) ** 2)
    return squares / v.size, None


def divergence_regression(
    div: FlowNet,
    actor: FlowNet,
    equal: int,
    obs: Float[Array, "batch obs"],
    x: Float[Array, "batch act"],
    probes: Float[Array, "batch probes act"],
    r: Float[Array, "batch"],
    t: Float[Array, "batch"],
) -> tuple[Scalar, Scalar]:
    """Mean squared residual of the average divergence, and the mean divergence. Differentiates: div."""
    v, trace = jax.vmap(lambda s, x, t, e: divergence.hutchinson(lambda y: actor(s, y, t, t), x, e))(
        obs, x, t, probes
    )
    v, trace = lax.stop_gradient((v, trace))
    value = jax.vmap(lambda s, x, r, t: average_divergence(div, s)(x, r, t))(
        obs[:equal], x[:equal], r[:equal], t[:equal]
    )
    apart, target = jax.vmap(
        lambda s, x, r, t, v, tr: divergence.average_divergence_target(
            average_divergence(div, s), x, r, t, v, tr
        )
    )(obs[equal:], x[equal:], r[equal:], t[equal:], v[equal:], trace[equal:])
    squares = jnp.sum((value - trace[:equal]) ** 2) + jnp.sum((apart - target) ** 2)
    return squares / trace.size, trace.mean()
