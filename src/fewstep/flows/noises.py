"""Random numbers in sets: independent, or spread evenly over their law.

A set has ``count`` members along the second last axis. Stratified, each member alone has the law it would
have if independent, but in every dimension one member falls into each of ``count`` equally likely intervals
(a Latin hypercube; McKay, Beckman and Conover 1979), so that averages over a set vary less.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Spread = Literal["independent", "stratified"]
Sets = Float[Array, "*sets count size"]


def uniforms(key: PRNGKeyArray, spread: Spread, shape: tuple[int, ...]) -> Sets:
    """Numbers from (0, 1), never 0; ``shape`` ends in (count, size), sets are independent of each other."""
    tiny = jnp.finfo(jnp.float32).tiny
    if spread == "independent":
        return jax.random.uniform(key, shape, minval=tiny)
    return jnp.maximum(latin_hypercube(key, shape), tiny)


def normals(key: PRNGKeyArray, spread: Spread, shape: tuple[int, ...]) -> Sets:
    """Standard normal numbers; ``shape`` as in ``uniforms``."""
    if spread == "independent":
        return jax.random.normal(key, shape)
    eps = jnp.finfo(jnp.float32).eps
    return jax.scipy.special.ndtri(jnp.clip(latin_hypercube(key, shape), eps, 1.0 - eps))


def latin_hypercube(key: PRNGKeyArray, shape: tuple[int, ...]) -> Sets:
    """Stratified numbers from [0, 1]: one of each set's in each of its ``count`` intervals, per dimension."""
    k_order, k_place = jax.random.split(key)
    # Ranks of independent uniforms: one random order of the intervals per dimension.
    order = jnp.argsort(jax.random.uniform(k_order, shape), axis=-2)
    return (order + jax.random.uniform(k_place, shape)) / shape[-2]
