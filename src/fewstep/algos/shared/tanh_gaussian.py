"""The tanh-Gaussian policy of SAC and its kin: a = tanh(mean + sigma eps), one mode per state."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.critics.ensemble import Ensemble
from fewstep.flows import bounds
from fewstep.nets.activations import Activation
from fewstep.nets.mlp import MLP
from fewstep.types import Spec

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Actor = TypeVar("Actor")
Gaussian = Callable[[Obs], tuple[Vector, Vector]]
"""State to mean and log sigma before the squashing: a network in evaluation mode."""

LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0
"""Range of log sigma before the squashing; no gradient flows beyond its ends."""


class TanhGaussian(eqx.Module):
    """An MLP from the state to mean and log sigma of the Gaussian before the squashing."""

    net: MLP

    @staticmethod
    def create(
        key: PRNGKeyArray, spec: Spec, hidden: Sequence[int], activation: Activation = "relu"
    ) -> "TanhGaussian":
        """Fresh parameters; no normalisation layers."""
        sizes = (spec.obs_size, hidden, 2 * spec.act_size)
        return TanhGaussian(
            MLP.create(
                key, *sizes, init="lecun_normal", head_init="lecun_normal", activation=activation, norm=False
            )
        )

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.net.head.bias.shape[0] // 2

    def __call__(self, s: Obs) -> tuple[Vector, Vector]:
        """``(mean, log_std)`` at the state ``s``."""
        mean, log_std = jnp.split(self.net(s), 2)
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


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


def draw(actor: Gaussian, s: Obs, eps: Vector) -> Draw:
    """``squash`` of the actor's Gaussian at the state ``s``."""
    return squash(*actor(s), eps)


class GaussianPolicy(eqx.Module, Generic[Actor]):
    """What acts: the policy network, and the critics that choose among candidates."""

    actor: Actor
    critics: Ensemble


def noise_shape(cfg: Any, policy: GaussianPolicy[Any]) -> tuple[int, ...]:
    """One standard normal number per action dimension."""
    return (policy.actor.act_size,)


def draw_action(cfg: Any, policy: GaussianPolicy[Any], s: Obs, eps: Vector) -> Vector:
    """The action of the noise ``eps``; of none, tanh of the mean."""
    return draw(policy.actor, s, eps).action
