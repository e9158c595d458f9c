"""PPO's policy: a Gaussian over all of space, of which the environment sees the part clipped to the box."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.ppo.config import ActorConfig, PPOConfig
from fewstep.algos.shared.moments import Moments, scale_obs
from fewstep.nets.mlp import MLP
from fewstep.types import Spec

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]


class Actor(eqx.Module):
    """``a ~ N(mean(s), exp(log_std)^2)``; the spread is a parameter of its own, the same in every state."""

    net: MLP
    log_std: Vector

    @staticmethod
    def create(key: PRNGKeyArray, spec: Spec, cfg: ActorConfig) -> "Actor":
        """Orthogonal kernels, sqrt 2 in the hidden layers and 0.01 in the head, so that all means start near
        0; log_std is 0."""
        net = MLP.create(
            key,
            spec.obs_size,
            cfg.hidden,
            spec.act_size,
            init="orthogonal_sqrt2",
            head_init="orthogonal_hundredth",
            activation=cfg.activation,
            norm=False,
        )
        return Actor(net, jnp.zeros(spec.act_size))

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.log_std.shape[0]

    def log_prob(self, s: Obs, a: Vector) -> Scalar:
        """Log-density, in nats, of the unclipped action ``a`` at the normalised observation ``s``."""
        return log_density(a, self.net(s), self.log_std)


class Policy(eqx.Module):
    """What acts: the network, and the statistics that its observations are normalised by."""

    actor: Actor
    obs_moments: Moments


def log_density(a: Vector, mean: Vector, log_std: Vector) -> Scalar:
    """Log-density, in nats, of a diagonal Gaussian at ``a``."""
    return jax.scipy.stats.norm.logpdf(a, mean, jnp.exp(log_std)).sum()


def entropy(log_std: Vector) -> Scalar:
    """Entropy of a diagonal Gaussian, in nats: of what is drawn, before the clipping to the box."""
    return jnp.sum(log_std + 0.5 * math.log(2.0 * math.pi * math.e))


def normalised(cfg: PPOConfig, moments: Moments, obs: Obs) -> Obs:
    """The observation as the networks get it."""
    return scale_obs(moments, obs, cfg.normalise.obs_clip) if cfg.normalise.obs else obs


def draw(cfg: PPOConfig, policy: Policy, s: Obs, eps: Vector) -> Vector:
    """The action of the standard normal noise ``eps``, not clipped: its density is that of this number."""
    mean = policy.actor.net(normalised(cfg, policy.obs_moments, s))
    return mean + jnp.exp(policy.actor.log_std) * eps
