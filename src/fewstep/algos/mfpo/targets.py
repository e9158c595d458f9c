"""What MFPO's networks regress on: the critics' soft distribution and the velocity of the Boltzmann policy.

Nothing in this file is differentiated.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.algos.mfpo.policy import Critics, Draw, Obs, QFunction, Scalar, Vector, draw
from fewstep.critics import categorical
from fewstep.flows import bounds, meanflow, velocity
from fewstep.nets.flow_net import FlowNet
from fewstep.types import Transition


def critic_target(
    cfg: MFPOConfig, targets: Critics, alpha: Scalar, step: Transition, nxt: Draw
) -> tuple[Float[Array, "atoms"], Scalar]:
    """The distribution both critics regress on, and the share of its mass that fell off the support."""
    z = categorical.support(cfg.critic.v_min, cfg.critic.v_max, cfg.critic.atoms)
    log_prob = nxt.log_prob if cfg.critic.entropy_in_target else jnp.zeros(())
    values = categorical.soft_atoms(z, step.reward, step.terminated, cfg.discount, alpha, log_prob)
    first, second = (jax.nn.softmax(critic(step.next_obs, nxt.action)) for critic in targets)
    target = categorical.combine_targets(
        categorical.project(first, values, z), categorical.project(second, values, z), z, cfg.critic.twin
    )
    saturated = 0.5 * (
        categorical.saturated_share(first, values, z) + categorical.saturated_share(second, values, z)
    )
    return target, saturated


class Estimate(NamedTuple):
    """One state's velocity estimate ``v`` at (x, t) and its making; ``sample`` is a policy sample."""

    x: Vector
    v: Vector
    sample: Vector
    log_prob: Float[Array, "K1"]
    ess_policy: Scalar
    ess_gaussian: Scalar
    rho: Scalar
    clipped: Scalar
    q_gap: Scalar


def estimate_velocity(
    cfg: MFPOConfig,
    actor: FlowNet,
    div: FlowNet,
    q: QFunction,
    alpha: Scalar,
    s: Obs,
    t: Scalar,
    key: PRNGKeyArray,
) -> Estimate:
    """Velocity at time ``t`` of the flow towards exp(Q(s, .) / alpha) / Z, at a noised policy sample.

    K1 policy samples and K2 Gaussian proposals each give a self-normalised estimate; the two are mixed by
    effective sample size. The noised sample stays among the K1: without it the policy's
    estimate is far worse at small t. Nothing here is differentiated.
    """
    k_policy, k_noise, k_gauss = jax.random.split(key, 3)
    act_size = actor.body.head.bias.shape[0]
    noise = jax.random.normal(k_policy, (cfg.proposals.policy, act_size))
    draws = jax.vmap(lambda e: draw(cfg, actor, div, s, e))(noise)
    # The space the flow lives in: the box itself when clipping, the whole space below tanh.
    points = draws.action if cfg.actor.bound == "clip" else draws.z
    q_policy = jax.vmap(lambda a: q(s, a))(draws.action)
    x = meanflow.interpolate(points[0], jax.random.normal(k_noise, (act_size,)), t)

    t_in = jnp.clip(t, cfg.times.clamp, 1.0 - cfg.times.clamp)
    log_w = velocity.policy_log_weights(q_policy / alpha, draws.log_prob, points, x, t_in)
    v_p, ess_p = velocity.snis_velocity(log_w, points, x, t_in)

    if cfg.actor.bound == "clip":
        proposals = velocity.gaussian_in_box(k_gauss, x, t_in, cfg.proposals.gaussian)
        base = jnp.zeros(cfg.proposals.gaussian)
    else:
        proposals, log_prior = velocity.gaussian_with_prior(k_gauss, x, t_in, cfg.proposals.gaussian)
        base = bounds.log_det(cfg.actor.bound, proposals) - log_prior
    q_gauss = jax.vmap(lambda a: q(s, a))(bounds.to_action(cfg.actor.bound, proposals))
    v_g, ess_g = velocity.snis_velocity(q_gauss / alpha + base, proposals, x, t_in)

    v, rho = velocity.mix_by_ess(v_p, ess_p, v_g, ess_g)
    return Estimate(
        x=x,
        v=v,
        sample=points[0],
        log_prob=draws.log_prob,
        ess_policy=ess_p,
        ess_gaussian=ess_g,
        rho=rho,
        clipped=jnp.mean(jnp.abs(draws.z) > 1.0),
        q_gap=q_policy.max() - q_policy.mean(),
    )
