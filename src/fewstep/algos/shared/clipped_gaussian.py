"""The Gaussian policy a = mean + sigma eps over all of space, clipped to the box [-1, 1] when it acts.

Densities and KL are those of the draws before the clipping: right for an algorithm that learns from draws of
its own. What environment and critics get is clipped.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.config.settings import Range, Sizes
from fewstep.critics.ensemble import Ensemble
from fewstep.nets.activations import Activation
from fewstep.nets.mlp import MLP
from fewstep.nets.trained import AdamConfig
from fewstep.types import Spec

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Moments = tuple[Vector, Vector]
"""Mean and log sigma of a Gaussian."""

LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0
"""Range of log sigma; no gradient flows beyond its ends."""


@dataclass(frozen=True)
class GaussianConfig(AdamConfig):
    """The policy network and Adam on it.

    Attributes:
        hidden: sizes of the hidden layers.
        activation: between them.
        layernorm: whether every hidden layer is normalised before its activation.
        initial_std: standard deviation of actions at the start, in units of the action's range [-1, 1].
    """

    hidden: Sizes = (256, 256, 256)
    activation: Activation = "silu"
    layernorm: bool = True
    initial_std: Annotated[float, Range(math.exp(LOG_STD_MIN), math.exp(LOG_STD_MAX))] = 0.5


class Gaussian(eqx.Module):
    """A network from the state to mean and log sigma."""

    net: MLP

    @staticmethod
    def create(key: PRNGKeyArray, spec: Spec, cfg: GaussianConfig) -> "Gaussian":
        """Fresh parameters; in all states means near 0 and standard deviations near ``cfg.initial_std``."""
        net = MLP.create(
            key,
            spec.obs_size,
            cfg.hidden,
            2 * spec.act_size,
            init="lecun_normal",
            head_init="orthogonal_hundredth",
            activation=cfg.activation,
            norm=cfg.layernorm,
        )
        start = jnp.repeat(jnp.array([0.0, jnp.log(cfg.initial_std)]), spec.act_size)
        return Gaussian(replace(net, head=replace(net.head, bias=start)))

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.net.head.bias.shape[0] // 2

    def __call__(self, s: Obs) -> Moments:
        """``(mean, log_std)`` at the state ``s``."""
        mean, log_std = jnp.split(self.net(s), 2)
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


def draw_rows(
    moments: tuple[Float[Array, "batch act"], Float[Array, "batch act"]], count: int, key: PRNGKeyArray
) -> Float[Array, "batch count act"]:
    """``count`` actions of every row, not clipped."""
    mean, log_std = (each[:, None] for each in moments)
    return mean + jnp.exp(log_std) * jax.random.normal(key, (mean.shape[0], count, mean.shape[2]))


def log_density(a: Vector, mean: Vector, log_std: Vector) -> Scalar:
    """Log-density of the unclipped action ``a``, nats."""
    return norm.logpdf(a, mean, jnp.exp(log_std)).sum()


class KL(NamedTuple):
    """KL divergences by action dimension, nats: of Gaussians that differ in means, in standard deviations."""

    mean: Vector
    std: Vector


def decoupled_kl(p: Moments, q: Moments) -> KL:
    """KL(N(m_p, s_p) || N(m_q, s_p)) and KL(N(m_p, s_p) || N(m_p, s_q))."""
    wider = q[1] - p[1]
    mean = 0.5 * ((q[0] - p[0]) * jnp.exp(-p[1])) ** 2
    return KL(mean, wider + 0.5 * jnp.expm1(-2.0 * wider))


class ClippedPolicy(eqx.Module):
    """What acts: the policy network, and the critics that choose among candidates."""

    actor: Gaussian
    critics: Ensemble


def noise_shape(cfg: Any, policy: ClippedPolicy) -> tuple[int, ...]:
    """One standard normal number per action dimension."""
    return (policy.actor.act_size,)


def draw_action(cfg: Any, policy: ClippedPolicy, s: Obs, eps: Vector) -> Vector:
    """The action of the noise ``eps``, not clipped; of none, the mean."""
    mean, log_std = policy.actor(s)
    return mean + jnp.exp(log_std) * eps
