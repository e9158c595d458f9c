"""CrossQ's policy network: a tanh-Gaussian whose inputs and hidden layers are batch renormalised."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.crossq.config import ActorConfig
from fewstep.nets.renorm import RenormConfig, RenormMLP, Stats
from fewstep.types import Spec

Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
ActRows = Float[Array, "batch act"]

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Range of log sigma before the squashing; no gradient flows beyond its ends."""


class RenormGaussian(eqx.Module):
    """One policy: ``net`` is trained, ``stats`` are what it remembers of its batches of states."""

    net: RenormMLP
    stats: tuple[Stats, ...]

    @staticmethod
    def create(key: PRNGKeyArray, spec: Spec, cfg: ActorConfig) -> "RenormGaussian":
        """Fresh parameters and empty statistics."""
        net = RenormMLP.create(
            key,
            spec.obs_size,
            cfg.hidden,
            2 * spec.act_size,
            cfg=RenormConfig(momentum=cfg.momentum, warm_up=cfg.warm_up, form=cfg.renorm),
            activation=cfg.activation,
        )
        return RenormGaussian(net, net.empty_stats())

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.net.head.bias.shape[0] // 2

    def __call__(self, s: Obs) -> tuple[Vector, Vector]:
        """``(mean, log_std)`` at one state by the running statistics, which stay as they are."""
        mean, log_std = jnp.split(self.net(self.stats, s), 2)
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)

    def train(self, obs: Float[Array, "batch obs"]) -> tuple[ActRows, ActRows, tuple[Stats, ...]]:
        """``(mean, log_std)`` of a batch by its own statistics, and the running ones that have seen it."""
        out, stats = self.net.train(self.stats, obs)
        mean, log_std = jnp.split(out, 2, axis=1)
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX), stats
