"""Two ways to keep a flow's action in the box [-1, 1]: cut it off, or squash it."""

from typing import Literal

import jax
import jax.numpy as jnp

from fewstep.flows.meanflow import Scalar, Vector

Bound = Literal["clip", "tanh"]


def to_action(bound: Bound, z: Vector) -> Vector:
    """Map the flow's end point ``z`` (any real vector) into [-1, 1]^act."""
    return jnp.clip(z, -1.0, 1.0) if bound == "clip" else jnp.tanh(z)


def log_det(bound: Bound, z: Vector) -> Scalar:
    """Log |det da/dz| to subtract from the log-density of ``z``, in nats.

    ``clip`` returns 0: the density stays that of the uncut point (what the MFPO authors do), and is wrong by
    the probability atoms on the faces of the box. ``tanh`` returns sum log(1 - tanh(z)^2) in the form that
    does not underflow.
    """
    if bound == "clip":
        return jnp.zeros(z.shape[:-1])
    return jnp.sum(2.0 * (jnp.log(2.0) - z - jax.nn.softplus(-2.0 * z)), axis=-1)
