"""How SMFP acts: the mixture component of a noise, a draw from it, the best of several draws."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fewstep.algos.contract import QFunction
from fewstep.algos.smfp.config import SMFPConfig
from fewstep.algos.smfp.network import Obs, PolicyNet, Scalar, Vector
from fewstep.critics.ensemble import Ensemble
from fewstep.flows import bounds

NoisePair = Float[Array, "2 act"]
"""The two noises of one action: e, which chooses the component, and eps, which draws from it."""


class Policy(eqx.Module):
    """What acts: the policy network, and the critics that choose among candidates."""

    actor: PolicyNet
    critics: Ensemble


class Component(NamedTuple):
    """A Gaussian of the mixture (or of the path, at another time): mean and log standard deviation."""

    mean: Vector
    log_std: Vector


class Draw(NamedTuple):
    """A sample ``z`` of the ``component`` of the noise ``e``, and the ``action`` in [-1, 1] it becomes."""

    z: Vector
    action: Vector
    component: Component
    e: Vector


def gaussian(cfg: SMFPConfig, actor: PolicyNet, s: Obs, x: Vector, b: Scalar, t: Scalar) -> Component:
    """The Gaussian around g(x, b, t), which on the whole interval is one of actions."""
    g, rho = actor(s, x, b, t)
    mean = g if cfg.actor.output == "direct" else x - g
    log_std = jnp.clip(rho + cfg.actor.log_std_initial, cfg.actor.log_std_min, cfg.actor.log_std_max)
    return Component(mean, log_std)


def component(cfg: SMFPConfig, actor: PolicyNet, s: Obs, e: Vector) -> Component:
    """The mixture component of the noise ``e``: the network at x = e, b = 0, t = 1."""
    return gaussian(cfg, actor, s, e, jnp.float32(0.0), jnp.float32(1.0))


def sample(part: Component, eps: Vector) -> Vector:
    """mu + sigma eps, before it is brought into [-1, 1]."""
    return part.mean + jnp.exp(part.log_std) * eps


def draw(cfg: SMFPConfig, actor: PolicyNet, s: Obs, noise: NoisePair) -> Draw:
    """One action: one network evaluation."""
    part = component(cfg, actor, s, noise[0])
    z = sample(part, noise[1])
    return Draw(z, bounds.to_action(cfg.actor.bound, z), part, noise[0])


def draws(cfg: SMFPConfig, actor: PolicyNet, s: Obs, noises: Float[Array, "K 2 act"]) -> Draw:
    """Several actions of one state (every field has a leading axis K)."""
    return jax.vmap(lambda noise: draw(cfg, actor, s, noise))(noises)


def best(q: QFunction, s: Obs, found: Draw) -> Draw:
    """The candidate with the highest value; a single one is not even looked at."""
    if found.action.shape[0] == 1:
        return jax.tree.map(lambda field: field[0], found)
    chosen = jnp.argmax(jax.vmap(lambda a: q(s, a))(found.action))
    return jax.tree.map(lambda field: field[chosen], found)
