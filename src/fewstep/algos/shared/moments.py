"""Running mean and variance, and observations scaled by them."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

EPSILON = 1e-8
"""Added to a variance inside the root."""

Scalar = Float[Array, ""]


class Moments(eqx.Module):
    """Mean and (population) variance of all rows seen so far, entry by entry.

    Before the first row they are 0 and 1; ``count`` is then 0, and the first rows replace them entirely.
    """

    count: Scalar
    mean: Float[Array, "*size"]
    var: Float[Array, "*size"]

    @staticmethod
    def create(*shape: int) -> "Moments":
        """Nothing seen yet."""
        return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))

    @property
    def std(self) -> Float[Array, "*size"]:
        """Standard deviation, at least 1e-4."""
        return jnp.sqrt(self.var + EPSILON)


def observe(moments: Moments, rows: Float[Array, "rows *size"]) -> Moments:
    """The moments of what was seen and of ``rows`` (at least one), together.

    The pairwise combination of Chan, Golub and LeVeque (1979): exact, however the rows are cut into batches.
    """
    count = jnp.float32(rows.shape[0])
    total = moments.count + count
    shift = rows.mean(0) - moments.mean
    squares = moments.var * moments.count + rows.var(0) * count
    squares = squares + shift**2 * (moments.count * count / total)
    return Moments(total, moments.mean + shift * (count / total), squares / total)


def scale_obs(moments: Moments, obs: Float[Array, "*rows obs"], clip: float) -> Float[Array, "*rows obs"]:
    """``(obs - mean) / std``, clipped to [-clip, clip]."""
    return jnp.clip((obs - moments.mean) / moments.std, -clip, clip)
