"""Generalised advantage estimation."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

Scalar = Float[Array, ""]
Steps = Float[Array, "T"]
Flags = Bool[Array, "T"]


def gae(
    reward: Steps,
    value: Steps,
    next_value: Steps,
    terminated: Flags,
    truncated: Flags,
    discount: float,
    gae_lambda: float,
) -> Steps:
    """Advantages of T consecutive steps of one environment (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    ``delta_t = r_t + discount V(s'_t) - V(s_t)`` and ``A_t = delta_t + discount gae_lambda A_(t+1)``, with
    two different cuts:

    - a terminal state is worth nothing: V(s'_t) does not count;
    - behind either end of an episode row t + 1 is another episode: A_(t+1) does not count. A time limit
      cuts here alone, and so does the last row, which has no successor in the rollout.

    Args:
        reward: ``r_t``.
        value: ``V(s_t)``.
        next_value: ``V(s'_t)`` of the true successors; at an end of an episode that is not ``V(s_(t+1))``.
        terminated, truncated: how the step ended its episode, if it did.
        discount: gamma in [0, 1].
        gae_lambda: lambda in [0, 1].
    """
    delta = reward + discount * jnp.where(terminated, 0.0, next_value) - value

    def back(later: Scalar, now: tuple[Scalar, Array]) -> tuple[Scalar, Scalar]:
        d, end = now
        advantage = d + jnp.where(end, 0.0, discount * gae_lambda * later)
        return advantage, advantage

    return lax.scan(back, jnp.zeros(()), (delta, terminated | truncated), reverse=True)[1]
