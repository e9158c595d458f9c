"""Regressions of flows: on the velocity of straight paths, and the MeanFlow residual."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fewstep.flows import meanflow
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.velocity_nets import VelocityNet

Rows = Float[Array, "batch"]
ActRows = Float[Array, "batch act"]


def errors(
    actor: FlowNet, equal: int, obs: Float[Array, "batch obs"], x: ActRows, r: Rows, t: Rows, v: ActRows
) -> Rows:
    """|u(s, x, r, t) - (v - (t - r) du/dt)|^2 / d of each row (FLAME, FPMD, SOM).

    Differentiates: actor, not the target. In the first ``equal`` rows r = t, where the target is the velocity
    itself.
    """
    velocity = jax.vmap(lambda s, x, t: actor(s, x, t, t))(obs[:equal], x[:equal], t[:equal])
    average, target = jax.vmap(lambda s, *row: meanflow.meanflow_target(partial(actor, s), *row))(
        obs[equal:], x[equal:], r[equal:], t[equal:], v[equal:]
    )
    residual = jnp.concatenate([velocity - v[:equal], average - target])
    return jnp.mean(residual**2, axis=-1)


def straight(
    actor: VelocityNet, obs: Float[Array, "batch obs"], end: ActRows, noise: ActRows, t: Rows
) -> Rows:
    """|v(s, x_t, t) - (noise - end)|^2 / d of each row, x_t on the straight path. Differentiates: actor."""
    x = jax.vmap(meanflow.interpolate)(end, noise, t)
    return jnp.mean((jax.vmap(actor)(obs, x, t) - (noise - end)) ** 2, axis=-1)
