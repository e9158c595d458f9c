"""The MeanFlow residual of rows, of which the first have r = t (FLAME, FPMD, SOM)."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fewstep.flows import meanflow
from fewstep.nets.flow_net import FlowNet

Rows = Float[Array, "batch"]
ActRows = Float[Array, "batch act"]


def errors(
    actor: FlowNet, equal: int, obs: Float[Array, "batch obs"], x: ActRows, r: Rows, t: Rows, v: ActRows
) -> Rows:
    """|u(s, x, r, t) - (v - (t - r) du/dt)|^2 / d of each row. Differentiates: actor, not the target.

    In the first ``equal`` rows r = t, where the target is the velocity itself.
    """
    velocity = jax.vmap(lambda s, x, t: actor(s, x, t, t))(obs[:equal], x[:equal], t[:equal])
    average, target = jax.vmap(lambda s, *row: meanflow.meanflow_target(partial(actor, s), *row))(
        obs[equal:], x[equal:], r[equal:], t[equal:], v[equal:]
    )
    residual = jnp.concatenate([velocity - v[:equal], average - target])
    return jnp.mean(residual**2, axis=-1)
