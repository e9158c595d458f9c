"""The scale of PPO's rewards; that of its observations is in ``shared.moments``."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from fewstep.algos.shared.moments import Moments

Scalar = Float[Array, ""]
Steps = Float[Array, "T"]


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
