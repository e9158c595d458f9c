"""Ways to keep an action in the box [-1, 1]: cut it off, with or without a gradient there, or squash it."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from fewstep.flows.meanflow import Scalar, Vector

Bound = Literal["clip", "tanh"]

SATURATED = 0.99
"""Squashed coordinates beyond +-this count as saturated: tanh passes under 2 % of a gradient there."""


def to_action(bound: Bound, z: Vector) -> Vector:
    """Map the flow's end point ``z`` (any real vector) into [-1, 1]^act."""
    return clip(z) if bound == "clip" else jnp.tanh(z)


def from_action(bound: Bound, action: Vector, limit: float) -> Vector:
    """The point of any shape that ``to_action`` maps to ``action``; with ``tanh`` cut at +-``limit``."""
    return action if bound == "clip" else jnp.clip(jnp.arctanh(clip(action)), -limit, limit)


def at_the_edge(bound: Bound, z: Vector) -> Bool[Array, "act"]:
    """Which coordinates are clipped, or with ``tanh`` saturated."""
    return jnp.abs(z) > 1.0 if bound == "clip" else jnp.abs(jnp.tanh(z)) > SATURATED


def clip(z: Vector) -> Vector:
    """``z`` cut to the box. Outside of it no gradient comes back: what lies there stays there."""
    return jnp.clip(z, -1.0, 1.0)


@jax.custom_vjp
def clip_inward(z: Vector) -> Vector:
    """``clip`` for a loss that is to fall: from outside the gradient comes back where it leads into the box.

    A step against the gradient g moves an entry above 1 inwards if g > 0 and one below -1 if g < 0; any other
    gradient of an entry outside is 0, as ``clip`` has it. So it is the gradient of no function, and has no
    forward mode. With the loss's sign turned it would hold entries outside.
    """
    return clip(z)


def _inward(z: Vector, g: Vector) -> tuple[Vector]:
    leads = ((z >= -1.0) | (g < 0)) & ((z <= 1.0) | (g > 0))
    return (jnp.where(leads, g, 0.0),)


clip_inward.defvjp(lambda z: (clip(z), z), _inward)


def log_det(bound: Bound, z: Vector) -> Scalar:
    """Log |det da/dz| to subtract from the log-density of ``z``, in nats: the sum of ``log_slope``."""
    return jnp.sum(log_slope(bound, z), axis=-1)


def log_slope(bound: Bound, z: Vector) -> Vector:
    """Log da_i/dz_i of every coordinate, in nats; of the shape of ``z``.

    ``clip`` returns 0: the density stays that of the uncut point (what the MFPO authors do), and is wrong by
    the probability atoms on the faces of the box. ``tanh`` returns log(1 - tanh(z)^2) in the form that does
    not underflow.
    """
    if bound == "clip":
        return jnp.zeros_like(z)
    return 2.0 * (jnp.log(2.0) - z - jax.nn.softplus(-2.0 * z))
