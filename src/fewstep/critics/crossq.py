"""CrossQ's critic (Bhatt et al. 2024): batch renormalisation in place of target networks.

(s, a) and (s', a') go through the network as one batch, so that both are normalised by the statistics of
their mixture. Without that the two halves, which come from different distributions of actions, would be
normalised differently and bootstrapping would not be consistent.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.nets.renorm import RenormConfig, RenormMLP, Stats

Scalar = Float[Array, ""]
Rows = Float[Array, "batch"]


class CrossQ(eqx.Module):
    """One critic: ``net`` is trained, ``stats`` are what it remembers of its batches."""

    net: RenormMLP
    stats: tuple[Stats, ...]

    @staticmethod
    def create(
        key: PRNGKeyArray, obs_size: int, act_size: int, hidden: Sequence[int], cfg: RenormConfig
    ) -> "CrossQ":
        """Fresh parameters and empty statistics for these sizes."""
        net = RenormMLP.create(key, obs_size + act_size, hidden, 1, cfg=cfg)
        return CrossQ(net, net.empty_stats())

    def __call__(self, s: Float[Array, "obs"], a: Float[Array, "act"]) -> Scalar:
        """Value of one action by the running statistics, which stay as they are; in reward units."""
        return self.net(self.stats, s, a)[0]


def joint_values(
    critic: CrossQ,
    obs: Float[Array, "batch obs"],
    action: Float[Array, "batch act"],
    next_obs: Float[Array, "batch obs"],
    next_action: Float[Array, "batch act"],
) -> tuple[Rows, Rows, tuple[Stats, ...]]:
    """Q(s, a) and Q(s', a') from one training-mode forward of both, and the statistics that have seen it."""
    rows = jnp.concatenate(
        [jnp.concatenate([obs, action], axis=1), jnp.concatenate([next_obs, next_action], axis=1)]
    )
    values, stats = critic.net.train(critic.stats, rows)
    count = obs.shape[0]
    return values[:count, 0], values[count:, 0], stats
