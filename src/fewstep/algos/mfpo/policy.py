"""How MFPO acts: the sampler, and the log-density of its actions."""

from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float

from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.critics.ensemble import Ensemble
from fewstep.flows import bounds, divergence, meanflow
from fewstep.nets.flow_net import FlowNet

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]


class Policy(eqx.Module):
    """What acts: the flow, and the critics that choose among candidates."""

    actor: FlowNet
    critics: Ensemble


class Draw(NamedTuple):
    """A flow's end point ``z``, the ``action`` it becomes, and the action's log-density in nats."""

    z: Vector
    action: Vector
    log_prob: Scalar


def average_velocity(actor: FlowNet, s: Obs) -> meanflow.AverageVelocity:
    """u(x, r, t) at the state ``s``."""
    return lambda x, r, t: actor(s, x, r, t)


def average_divergence(div: FlowNet, s: Obs) -> meanflow.AverageDivergence:
    """d(x, r, t) at the state ``s``."""
    return lambda x, r, t: div(s, x, r, t)[0]


def draw(cfg: MFPOConfig, actor: FlowNet, div: FlowNet, s: Obs, noise: Vector) -> Draw:
    """Run the T-step sampler from ``noise`` and account for the density on the way."""
    u = average_velocity(actor, s)
    if cfg.divergence.log_prob == "exact":
        z, log_prob = meanflow.exact_log_prob(u, noise, cfg.actor.steps)
    else:
        averaged = cfg.divergence.log_prob == "averaged"
        d = average_divergence(div, s) if averaged else divergence.instantaneous_divergence(u)
        z, log_prob = meanflow.sample_with_log_prob(u, d, noise, cfg.actor.steps)
    action = bounds.to_action(cfg.actor.bound, z)
    return Draw(z, action, log_prob - bounds.log_det(cfg.actor.bound, z))


def log_prob_oracle(cfg: MFPOConfig, actor: FlowNet, s: Obs, noise: Vector) -> Draw:
    """``draw`` with the exact log-density of the T-step map, whatever the config trains with."""
    z, log_prob = meanflow.exact_log_prob(average_velocity(actor, s), noise, cfg.actor.steps)
    action = bounds.to_action(cfg.actor.bound, z)
    return Draw(z, action, log_prob - bounds.log_det(cfg.actor.bound, z))


def draw_action(cfg: MFPOConfig, policy: Policy, s: Obs, noise: Vector) -> Vector:
    """The action of the T-step sampler from ``noise``; its density is not asked for."""
    return bounds.to_action(
        cfg.actor.bound, meanflow.sample(average_velocity(policy.actor, s), noise, cfg.actor.steps)
    )
