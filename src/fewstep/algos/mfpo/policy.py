"""How MFPO acts: the sampler, the log-density of its actions, the critics' opinion of them."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.contract import ActionMode
from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.critics import categorical
from fewstep.flows import bounds, meanflow
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.mlp import MLP

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Critics = tuple[MLP, MLP]
QFunction = Callable[[Obs, Vector], Scalar]


class Policy(eqx.Module):
    """What acts: the flow, and the critics that choose among candidates."""

    actor: FlowNet
    critics: Critics


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
        z, log_prob = meanflow.sample_with_log_prob(u, average_divergence(div, s), noise, cfg.actor.steps)
    action = bounds.to_action(cfg.actor.bound, z)
    return Draw(z, action, log_prob - bounds.log_det(cfg.actor.bound, z))


def log_prob_oracle(cfg: MFPOConfig, actor: FlowNet, s: Obs, noise: Vector) -> Draw:
    """``draw`` with the exact log-density of the T-step map, whatever the config trains with."""
    z, log_prob = meanflow.exact_log_prob(average_velocity(actor, s), noise, cfg.actor.steps)
    action = bounds.to_action(cfg.actor.bound, z)
    return Draw(z, action, log_prob - bounds.log_det(cfg.actor.bound, z))


def q_value(cfg: MFPOConfig, critics: Critics) -> QFunction:
    """The value candidates are judged by: twin expectations combined by ``critic.twin``."""
    z = categorical.support(cfg.critic.v_min, cfg.critic.v_max, cfg.critic.atoms)

    def q(s: Obs, a: Vector) -> Scalar:
        first, second = (categorical.expected_value(critic(s, a), z) for critic in critics)
        return categorical.combine_values(first, second, cfg.critic.twin)

    return q


def act(
    cfg: MFPOConfig, policy: Policy, obs: Float[Array, "batch obs"], key: PRNGKeyArray, mode: ActionMode
) -> Float[Array, "batch act"]:
    """Actions in [-1, 1] for a batch: one draw, the best of N draws, or the flow of the zero noise."""
    act_size = policy.actor.body.head.bias.shape[0]
    q = q_value(cfg, policy.critics)
    shape = (obs.shape[0], mode.candidates, act_size)
    noise = jnp.zeros(shape) if mode.noise_free else jax.random.normal(key, shape)

    def one(s: Obs, noises: Float[Array, "N act"]) -> Vector:
        ends = jax.vmap(lambda e: meanflow.sample(average_velocity(policy.actor, s), e, cfg.actor.steps))(
            noises
        )
        actions = bounds.to_action(cfg.actor.bound, ends)
        if mode.candidates == 1:
            return actions[0]
        return actions[jnp.argmax(jax.vmap(lambda a: q(s, a))(actions))]

    return jax.vmap(one)(obs, noise)
