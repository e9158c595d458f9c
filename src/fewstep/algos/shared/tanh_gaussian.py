"""The tanh-Gaussian policy of SAC and its kin: a = tanh(mean + sigma eps), one mode per state."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.config.settings import Count, Range, Whole
from fewstep.critics.ensemble import Ensemble
from fewstep.flows import bounds
from fewstep.nets import trunks
from fewstep.nets.trunks import Net, NetStats, TrunkConfig
from fewstep.types import Spec

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Moments = tuple[Float[Array, "batch act"], Float[Array, "batch act"]]

LOG_STD_MAX = 2.0
"""Upper end of the range of log sigma before the squashing; no gradient flows beyond its ends."""


@dataclass(frozen=True)
class ActorConfig(TrunkConfig):
    """The policy network, Adam on it, and how often it is updated.

    Attributes:
        delay: one policy update per this many critic updates.
        log_std_min: lower end of the range of log sigma before the squashing, whose upper end is 2.
        average: the policy that is evaluated and saved has the average of the network's parameters over
            about this many of its last updates (``nets.trained.Averaged``); 0: the last parameters.
    """

    delay: Count = 1
    average: Whole = 0
    log_std_min: Annotated[float, Range(high=LOG_STD_MAX, high_open=True)] = -10.0


class TanhGaussian(eqx.Module):
    """A network from the state to mean and log sigma of the Gaussian before the squashing."""

    net: Net
    log_std_min: float = eqx.field(static=True, default=ActorConfig.log_std_min)

    @staticmethod
    def create(
        key: PRNGKeyArray, spec: Spec, cfg: TrunkConfig, log_std_min: float = ActorConfig.log_std_min
    ) -> "TanhGaussian":
        """Fresh parameters; the last layer is initialised as the others."""
        sizes = (spec.obs_size, 2 * spec.act_size)
        net = cfg.create(key, *sizes, head_init=cfg.init, image=spec.image)
        return TanhGaussian(net, log_std_min)

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.net.head.bias.shape[0] // 2

    def __call__(self, s: Obs, stats: NetStats = ()) -> tuple[Vector, Vector]:
        """``(mean, log_std)`` at the state ``s``, by the running statistics of a trunk that has them."""
        return self._split(trunks.evaluate(self.net, stats, s))

    def train(self, stats: NetStats, obs: Float[Array, "batch obs"]) -> tuple[Moments, NetStats]:
        """``(mean, log_std)`` of a batch by its own statistics, and the statistics that have seen it."""
        out, stats = trunks.train(self.net, stats, obs)
        return self._split(out), stats

    def _split(self, out: Float[Array, "*batch outputs"]) -> tuple[Array, Array]:
        mean, log_std = jnp.split(out, 2, axis=-1)
        return mean, jnp.clip(log_std, self.log_std_min, LOG_STD_MAX)


class Draw(NamedTuple):
    """An action in (-1, 1) and its log-density in nats."""

    action: Vector
    log_prob: Scalar


def log_density(z: Vector, mean: Vector, log_std: Vector) -> Scalar:
    """Log-density, in nats, of tanh(z) for z ~ N(mean, exp(log_std)^2)."""
    normal = jax.scipy.stats.norm.logpdf(z, mean, jnp.exp(log_std)).sum()
    return normal - bounds.log_det("tanh", z)


def squash(mean: Vector, log_std: Vector, eps: Vector) -> Draw:
    """The action of the noise ``eps`` ~ N(0, I); gradients flow through it (reparametrisation).

    In terms of ``eps`` the normal's log-density is that of ``eps`` less the sum of log sigma, which needs no
    division by a small sigma.
    """
    z = mean + jnp.exp(log_std) * eps
    normal = jax.scipy.stats.norm.logpdf(eps).sum() - log_std.sum()
    return Draw(jnp.tanh(z), normal - bounds.log_det("tanh", z))


def draw(actor: TanhGaussian, s: Obs, eps: Vector, stats: NetStats = ()) -> Draw:
    """``squash`` of the actor's Gaussian at the state ``s``, by its running statistics."""
    return squash(*actor(s, stats), eps)


class GaussianPolicy(eqx.Module):
    """What acts: the policy network with its running statistics, and the critics that choose among
    candidates."""

    actor: TanhGaussian
    critics: Ensemble
    stats: NetStats = ()


def noise_shape(cfg: Any, policy: GaussianPolicy) -> tuple[int, ...]:
    """One standard normal number per action dimension."""
    return (policy.actor.act_size,)


def draw_action(cfg: Any, policy: GaussianPolicy, s: Obs, eps: Vector) -> Vector:
    """The action of the noise ``eps``; of none, tanh of the mean."""
    return draw(policy.actor, s, eps, policy.stats).action
