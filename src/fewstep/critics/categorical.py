"""The categorical critic (C51) and its soft target: equations for one sample.

A critic gives ``atoms`` logits over a fixed grid ``z`` of returns; its value is the mean of that
distribution.
"""

from functools import reduce as fold
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = Float[Array, ""]
Atoms = Float[Array, "atoms"]


def support(v_min: float, v_max: float, atoms: int) -> Atoms:
    """Evenly spaced returns from ``v_min`` to ``v_max``, in reward units (float32)."""
    return jnp.linspace(v_min, v_max, atoms, dtype=jnp.float32)


FLOOR = -10.0
"""Lowest logit of a distribution that starts narrow. A Gaussian's would fall to -300 at the ends of the grid,
but a bias moves by about its learning rate per step, and a kernel of unit norm adds some ten at most."""


def logits_around_zero(z: Atoms, width: float = 0.02) -> Atoms:
    """Logits of a narrow Gaussian around the return 0 (std ``width`` of the support's length) on the grid, at
    least ``FLOOR``."""
    return jnp.maximum(-0.5 * (z / (width * (z[-1] - z[0]))) ** 2, FLOOR)


def expected_value(logits: Atoms, z: Atoms) -> Scalar:
    """Mean return of softmax(logits)."""
    return jax.nn.softmax(logits) @ z


def soft_atoms(
    z: Atoms, reward: Scalar, terminated: Array, discount: Scalar | float, bonus: Scalar | float
) -> Atoms:
    """Where the successor's atoms land: r + gamma (z + bonus), or r if terminated.

    ``bonus`` is the successor's entropy bonus, -alpha log pi(a'|s') for a soft backup.
    """
    return reward + jnp.where(terminated, 0.0, discount * (z + bonus))


def project(
    probabilities: Float[Array, "*twins atoms"], values: Atoms, z: Atoms
) -> Float[Array, "*twins atoms"]:
    """Distribute mass at arbitrary ``values`` onto the grid ``z`` (Bellemare et al. 2017, eq. 7).

    Args:
        probabilities: of one distribution, or of several over the same ``values``.
        values: returns, in reward units; z: the grid.

    Values outside the grid count as its nearest end; inside, the mass is shared by the two neighbours so that
        the mean is kept.
    A CPU adds two shares per value; elsewhere, where additions to one place come in any order, the sums are
        a dense product.
    """
    return jax.lax.platform_dependent(
        probabilities, values, z, cpu=project_by_adding, default=project_by_product
    )


def project_by_adding(
    probabilities: Float[Array, "*twins atoms"], values: Atoms, z: Atoms
) -> Float[Array, "*twins atoms"]:
    """``project`` as additions to the two neighbours of every value."""
    position = _position(values, z)
    # The bounds are for a value that is not a number: it must reach the target and not fall off the grid.
    lower = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, z.shape[0] - 1)
    upper = jnp.minimum(lower + 1, z.shape[0] - 1)
    share = position - lower
    empty = jnp.zeros_like(probabilities)
    return empty.at[..., lower].add(probabilities * (1.0 - share)).at[..., upper].add(probabilities * share)


def project_by_product(
    probabilities: Float[Array, "*twins atoms"], values: Atoms, z: Atoms
) -> Float[Array, "*twins atoms"]:
    """``project`` as a product with the triangular kernel: deterministic, atoms^2 numbers per sample."""
    share = jax.nn.relu(1.0 - jnp.abs(_position(values, z)[:, None] - jnp.arange(z.shape[0], dtype=z.dtype)))
    return probabilities @ share


def _position(values: Atoms, z: Atoms) -> Atoms:
    """In units of the grid's spacing from its lower end."""
    return (jnp.clip(values, z[0], z[-1]) - z[0]) / (z[1] - z[0])


def saturated_share(
    probabilities: Float[Array, "*twins atoms"], values: Atoms, z: Atoms
) -> Float[Array, "*twins"]:
    """Probability mass whose value lies outside the grid and is cut: if not near 0, widen the support."""
    return jnp.sum(probabilities * ((values < z[0]) | (values > z[-1])), axis=-1)


def combine_targets(
    members: Float[Array, "members atoms"], z: Atoms, reduce: Literal["min", "mean"]
) -> Atoms:
    """One target distribution from an ensemble's.

    ``min``: the whole distribution whose mean is lowest (of equal ones the last). ``mean``: their equal
    mixture.
    """
    if reduce == "mean":
        return fold(jnp.add, list(members)) * (1.0 / len(members))
    return fold(lambda a, b: jnp.where(a @ z < b @ z, a, b), list(members))


def cross_entropy(target: Atoms, logits: Atoms) -> Scalar:
    """-sum_j target_j log softmax(logits)_j, nats."""
    return -jnp.sum(target * jax.nn.log_softmax(logits))
