"""Running mean and variance, and what PPO scales by them: observations and rewards."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

EPSILON = 1e-8
"""Added to a variance inside the root."""

Scalar = Float[Array, ""]
Steps = Float[Array, "T"]


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


def scale_obs(moments: Moments, obs: Float[Array, "obs"], clip: float) -> Float[Array, "obs"]:
    """``(obs - mean) / std``, clipped to [-clip, clip]."""
    return jnp.clip((obs - moments.mean) / moments.std, -clip, clip)


def scale_reward(moments: Moments, reward: Float[Array, "*any"], clip: float) -> Float[Array, "*any"]:
    """``reward / std``, clipped to [-clip, clip]; not shifted, for that would change what is optimal."""
    return jnp.clip(reward / moments.std, -clip, clip)


def running_returns(reward: Steps, ended: Bool[Array, "T"], discount: float) -> Steps:
    """``g_t = r_t + discount g_(t-1)`` of one environment, from 0 at each start of an episode and of the
    rollout.

    It looks backwards: it is no return of any state, but its spread is that of the returns, and it is known
    at once.
    """

    def step(before: Scalar, now: tuple[Scalar, Array]) -> tuple[Scalar, Scalar]:
        r, end = now
        g = r + discount * before
        return jnp.where(end, 0.0, g), g

    return lax.scan(step, jnp.zeros(()), (reward, ended))[1]
