"""MFPO's training state and its update."""

from dataclasses import replace
from enum import IntEnum

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos import temperature
from fewstep.algos.contract import Metrics, every, use_key
from fewstep.algos.mfpo import losses
from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.algos.mfpo.policy import Critics, Policy, QFunction, Scalar, Vector, draw, q_value
from fewstep.algos.mfpo.targets import Estimate, critic_target, estimate_velocity
from fewstep.algos.optim import Adam, polyak
from fewstep.critics import categorical
from fewstep.errors import require
from fewstep.flows import meanflow
from fewstep.flows.times import TimeRows, sample_times
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.frozen import frozen
from fewstep.nets.mlp import MLP
from fewstep.types import Spec, Transition

Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]

EXACT_LOG_PROB_LIMIT = 8
"""Largest action size for ``divergence.log_prob = "exact"``: its cost grows with the action size."""


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    CRITIC_ACTION = 1
    ACTOR_TIMES = 2
    CANDIDATES = 3
    DIVERGENCE_TIMES = 4
    DIVERGENCE_NOISE = 5
    PROBES = 6


class Optimisers(eqx.Module):
    """Adam states of the four groups of parameters."""

    actor: optax.OptState
    divergence: optax.OptState
    critics: optax.OptState
    temperature: optax.OptState


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``actor`` and ``divergence`` are u and d of the paper; ``target_critics`` are Polyak averages of
    ``critics`` (there is no target actor); ``held`` are the metrics of the last policy update, repeated while
    ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts calls of ``update``.
    """

    actor: FlowNet
    divergence: FlowNet
    critics: Critics
    target_critics: Critics
    log_alpha: Scalar
    optimisers: Optimisers
    held: Metrics
    key: PRNGKeyArray
    updates: Int[Array, ""]


def init(cfg: MFPOConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target critics start as copies."""
    require(
        cfg.divergence.log_prob == "averaged" or spec.act_size <= EXACT_LOG_PROB_LIMIT,
        f"divergence.log_prob = 'exact' is for at most {EXACT_LOG_PROB_LIMIT} action dimensions, "
        f"this environment has {spec.act_size}; use 'averaged'",
    )
    k_actor, k_div, k_q1, k_q2 = jax.random.split(jax.random.fold_in(key, Use.INIT), 4)

    def flow_net(k: PRNGKeyArray, outputs: int) -> FlowNet:
        a = cfg.actor
        return FlowNet.create(
            k, spec.obs_size, spec.act_size, outputs, a.hidden, a.time_features, a.time_embed
        )

    def critic(k: PRNGKeyArray) -> MLP:
        c = cfg.critic
        head = "xavier_uniform" if c.head_init == "xavier_uniform" else "zeros"
        net = MLP.create(k, spec.obs_size + spec.act_size, c.hidden, c.atoms, head_init=head)
        if c.head_init == "origin":
            bias = categorical.logits_around_zero(categorical.support(c.v_min, c.v_max, c.atoms))
            net = eqx.tree_at(lambda m: m.head.bias, net, bias)
        return net

    actor, div, critics = flow_net(k_actor, spec.act_size), flow_net(k_div, 1), (critic(k_q1), critic(k_q2))
    log_alpha = jnp.log(jnp.float32(cfg.temperature.initial))
    return State(
        actor=actor,
        divergence=div,
        critics=critics,
        # Copies, not aliases: the update donates its input and may not be given one buffer twice.
        target_critics=jax.tree.map(jnp.copy, critics),
        log_alpha=log_alpha,
        optimisers=Optimisers(
            actor=Adam(cfg.actor.learning_rate).init(actor),
            divergence=Adam(cfg.divergence.learning_rate).init(div),
            critics=Adam(cfg.critic.learning_rate).init(critics),
            temperature=Adam(cfg.temperature.learning_rate).init(log_alpha),
        ),
        held={name: jnp.float32(0.0) for name in policy_metrics(cfg)},
        key=jnp.copy(key),
        updates=jnp.int32(0),
    )


def policy(state: State) -> Policy:
    """The part of the state that acts: candidates are ranked by the target critics."""
    return Policy(state.actor, state.target_critics)


def policy_metrics(cfg: MFPOConfig) -> list[str]:
    """Names of the scalars that ``improve_policy`` returns under this config."""
    names = [
        "actor/loss",
        "actor/velocity_norm",
        "policy/entropy",
        "policy/clipped_share",
        "policy/candidate_q_gap",
    ]
    names += ["temperature/alpha", "snis/ess_policy", "snis/ess_gaussian", "snis/rho"]
    names += ["divergence/loss", "divergence/target_mean"] if cfg.divergence.log_prob == "averaged" else []
    return names + (["temperature/loss"] if cfg.temperature.automatic else [])


def update_critics(cfg: MFPOConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One Adam step of both critics on the soft target, then the targets follow at once."""
    alpha = jnp.exp(state.log_alpha)
    noise = jax.random.normal(use_key(state, Use.CRITIC_ACTION), batch.action.shape)

    def target(step: Transition, e: Vector) -> tuple[Array, Scalar]:
        nxt = draw(cfg, state.actor, state.divergence, step.next_obs, e)
        return critic_target(cfg, state.target_critics, alpha, step, nxt)

    targets, saturated = jax.vmap(target)(batch, noise)
    loss, grads = jax.value_and_grad(losses.critic)(state.critics, batch, targets)
    critics, moments = Adam(cfg.critic.learning_rate).step(state.critics, grads, state.optimisers.critics)
    z = categorical.support(cfg.critic.v_min, cfg.critic.v_max, cfg.critic.atoms)
    values = targets @ z
    state = replace(
        state,
        critics=critics,
        target_critics=polyak(state.target_critics, critics, cfg.critic.tau),
        optimisers=replace(state.optimisers, critics=moments),
    )
    return state, {
        "critic/loss": loss,
        "critic/q_mean": values.mean(),
        "critic/q_std": values.std(),
        "critic/target_saturated_share": saturated.mean(),
    }


def _times(cfg: MFPOConfig, key: PRNGKeyArray, count: int) -> tuple[TimeRows, Rows, Rows]:
    rows = TimeRows.split(count, cfg.times.equal_share, cfg.times.grid_share)
    r, t = sample_times(
        key, rows, mean=cfg.times.mean, std=cfg.times.std, clamp=cfg.times.clamp, steps=cfg.actor.steps
    )
    return rows, r, t


def _rows(of_states: Float[Array, "states points act"]) -> Float[Array, "batch act"]:
    """One row per point, all states' first points first: each kind of times falls on every state."""
    return of_states.swapaxes(0, 1).reshape(-1, of_states.shape[-1])


def _repeat(obs: ObsRows, points: int) -> ObsRows:
    """The states of ``_rows``."""
    return jnp.tile(obs, (points, 1))


def update_actor(
    cfg: MFPOConfig, state: State, q: QFunction, obs: ObsRows
) -> tuple[State, Estimate, Metrics]:
    """Regress the average velocity on the Boltzmann velocity of ``q``; hand on what was sampled."""
    count, points, alpha = obs.shape[0], cfg.proposals.points, jnp.exp(state.log_alpha)
    rows, r, t = _times(cfg, use_key(state, Use.ACTOR_TIMES), count * points)
    # Outside of the blocks: the networks are prepared once per update, not once per block.
    drawing = frozen((state.actor, state.divergence), cfg.proposals.precision)
    found = lax.map(
        lambda row: estimate_velocity(cfg, *drawing, q, alpha, *row),
        (obs, t.reshape(points, count).T, jax.random.split(use_key(state, Use.CANDIDATES), count)),
        batch_size=cfg.proposals.block or count,
    )
    regression = jax.value_and_grad(losses.actor_regression)
    x, v = _rows(found.x), _rows(found.v)
    loss, grads = regression(state.actor, rows.equal, _repeat(obs, points), x, v, r, t)
    actor, moments = Adam(cfg.actor.learning_rate).step(state.actor, grads, state.optimisers.actor)
    state = replace(state, actor=actor, optimisers=replace(state.optimisers, actor=moments))
    return (
        state,
        found,
        {
            "actor/loss": loss,
            "actor/velocity_norm": jnp.linalg.norm(v, axis=-1).mean(),
            "policy/entropy": -found.log_prob.mean(),
            "policy/clipped_share": found.clipped.mean(),
            "policy/candidate_q_gap": found.q_gap.mean(),
            "snis/ess_policy": found.ess_policy.mean(),
            "snis/ess_gaussian": found.ess_gaussian.mean(),
            "snis/rho": found.rho.mean(),
        },
    )


def update_divergence(cfg: MFPOConfig, state: State, found: Estimate, obs: ObsRows) -> tuple[State, Metrics]:
    """Regress the average divergence on that of the (new) actor, at fresh times and noise."""
    sample, obs = _rows(found.sample), _repeat(obs, cfg.proposals.points)
    rows, r, t = _times(cfg, use_key(state, Use.DIVERGENCE_TIMES), obs.shape[0])
    noise = jax.random.normal(use_key(state, Use.DIVERGENCE_NOISE), sample.shape)
    x = jax.vmap(meanflow.interpolate)(sample, noise, t)
    draw_probes = jax.random.rademacher if cfg.divergence.probe == "rademacher" else jax.random.normal
    shape = (obs.shape[0], cfg.divergence.probes, x.shape[-1])
    probes = draw_probes(use_key(state, Use.PROBES), shape, jnp.float32)
    regression = jax.value_and_grad(losses.divergence_regression, has_aux=True)
    (loss, trace), grads = regression(state.divergence, state.actor, rows.equal, obs, x, probes, r, t)
    net, moments = Adam(cfg.divergence.learning_rate).step(
        state.divergence, grads, state.optimisers.divergence
    )
    state = replace(state, divergence=net, optimisers=replace(state.optimisers, divergence=moments))
    return state, {"divergence/loss": loss, "divergence/target_mean": trace}


def update_temperature(
    cfg: MFPOConfig, state: State, entropy: Scalar, act_size: int
) -> tuple[State, Metrics]:
    """Move alpha towards the target entropy, inside its bounds."""
    target = cfg.temperature.target_entropy_per_dim * act_size
    log_alpha, moments, loss = temperature.step(
        cfg.temperature, state.log_alpha, state.optimisers.temperature, entropy, target
    )
    state = replace(state, log_alpha=log_alpha, optimisers=replace(state.optimisers, temperature=moments))
    return state, {"temperature/loss": loss}


def improve_policy(cfg: MFPOConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """Actor, then divergence with the new actor, then temperature with the old actor's entropy.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    alpha = jnp.exp(state.log_alpha)
    state, found, metrics = update_actor(cfg, state, q, obs)
    metrics["temperature/alpha"] = alpha
    if cfg.divergence.log_prob == "averaged":
        state, more = update_divergence(cfg, state, found, obs)
        metrics |= more
    if cfg.temperature.automatic:
        state, more = update_temperature(cfg, state, metrics["policy/entropy"], found.x.shape[-1])
        metrics |= more
    return state, metrics


def update(cfg: MFPOConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One update on a batch: critics and their targets, then the policy side with the new critics."""
    state, critic_metrics = update_critics(cfg, state, batch)
    obs = batch.obs[: cfg.actor.batch_size] if cfg.actor.batch_size else batch.obs

    def improve(st: State) -> State:
        q = q_value(cfg, frozen(st.critics, cfg.proposals.precision))
        st, metrics = improve_policy(cfg, st, q, obs)
        return replace(st, held=metrics)

    state = every(cfg.actor.delay, state, improve)
    return replace(state, updates=state.updates + 1), critic_metrics | state.held
