"""What MFPO's average velocity regresses on: the velocity of the flow towards the Boltzmann policy.

Nothing in this file is differentiated.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.contract import QFunction
from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.algos.mfpo.policy import Obs, Scalar, Vector, draw
from fewstep.flows import bounds, meanflow, noises, velocity
from fewstep.nets.flow_net import FlowNet


class Estimate(NamedTuple):
    """Velocity estimates ``v`` at points (x, t) of a state and their making.

    ``sample`` is the policy sample that was noised to x; what has no axis of points belongs to the state.
    """

    x: Float[Array, "points act"]
    v: Float[Array, "points act"]
    sample: Float[Array, "points act"]
    ess_policy: Float[Array, "points"]
    ess_gaussian: Float[Array, "points"]
    rho: Float[Array, "points"]
    log_prob: Float[Array, "K1"]
    clipped: Scalar
    q_gap: Scalar


def gaussian_candidates(
    cfg: MFPOConfig, x: Float[Array, "points act"], t: Float[Array, "points"], key: PRNGKeyArray
) -> tuple[Float[Array, "points K2 act"], Float[Array, "points K2"]]:
    """K2 candidates around each point, and their log-weights but for Q / alpha."""
    shape = (x.shape[0], cfg.proposals.gaussian, x.shape[1])
    if cfg.actor.bound == "clip":
        uniform = noises.uniforms(key, cfg.proposals.noise, shape)
        return jax.vmap(velocity.gaussian_in_box)(uniform, x, t), jnp.zeros(shape[:2])
    normal = noises.normals(key, cfg.proposals.noise, shape)
    found, log_prior = jax.vmap(velocity.gaussian_with_prior)(normal, x, t)
    return found, bounds.log_det(cfg.actor.bound, found) - log_prior


def estimate_velocity(
    cfg: MFPOConfig,
    actor: FlowNet,
    div: FlowNet,
    q: QFunction,
    alpha: Scalar,
    s: Obs,
    t: Float[Array, "points"],
    key: PRNGKeyArray,
) -> Estimate:
    """Velocity at the times ``t`` of the flow towards exp(Q(s, .) / alpha) / Z, at noised policy samples.

    K1 policy samples, the same for all points, and K2 Gaussian proposals each give a self-normalised
    estimate; the two are mixed by effective sample size. The noised sample stays among the K1: without it
    the policy's estimate is far worse at small t. Nothing here is differentiated.
    """
    k_policy, k_noise, k_gauss = jax.random.split(key, 3)
    act_size = actor.outputs
    noise = noises.normals(k_policy, cfg.proposals.noise, (cfg.proposals.policy, act_size))
    drawn = jax.vmap(lambda e: draw(cfg, actor, div, s, e))(noise)
    # In the space that the flow lives in: the box itself when clipping, the whole space below tanh.
    candidates = drawn.action if cfg.actor.bound == "clip" else drawn.z
    sample = candidates[: t.shape[0]]
    x = jax.vmap(meanflow.interpolate)(sample, jax.random.normal(k_noise, sample.shape), t)
    t_in = jnp.clip(t, cfg.times.clamp, 1.0 - cfg.times.clamp)
    proposals, base = gaussian_candidates(cfg, x, t_in, k_gauss)
    # One evaluation over all candidates of all points: the critics see a plain batch.
    gaussian = bounds.to_action(cfg.actor.bound, proposals).reshape(-1, act_size)
    values = jax.vmap(lambda a: q(s, a))(jnp.concatenate([drawn.action, gaussian]))
    q_policy, q_gauss = values[: len(noise)], values[len(noise) :].reshape(base.shape)

    per_candidate = cfg.proposals.mixing == "ess_per_candidate"
    sizes = (cfg.proposals.policy, cfg.proposals.gaussian) if per_candidate else (1, 1)

    def mixed(x: Vector, t: Scalar, proposals: Array, log_w_g: Array) -> tuple[Array, ...]:
        log_w = velocity.policy_log_weights(q_policy / alpha, drawn.log_prob, candidates, x, t)
        v_p, ess_p = velocity.snis_velocity(log_w, candidates, x, t)
        v_g, ess_g = velocity.snis_velocity(log_w_g, proposals, x, t)
        v, rho = velocity.mix_by_ess(v_p, ess_p / sizes[0], v_g, ess_g / sizes[1])
        if cfg.proposals.mixing == "policy":
            v, rho = v_p, jnp.ones_like(rho)
        elif cfg.proposals.mixing == "gaussian":
            v, rho = v_g, jnp.zeros_like(rho)
        return v, ess_p, ess_g, rho

    v, ess_p, ess_g, rho = jax.vmap(mixed)(x, t_in, proposals, q_gauss / alpha + base)
    return Estimate(
        x=x,
        v=v,
        sample=sample,
        ess_policy=ess_p,
        ess_gaussian=ess_g,
        rho=rho,
        log_prob=drawn.log_prob,
        clipped=jnp.mean(bounds.at_the_edge(cfg.actor.bound, drawn.z)),
        q_gap=q_policy.max() - q_policy.mean(),
    )
