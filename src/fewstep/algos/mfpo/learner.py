"""MFPO's training state and its update."""

from dataclasses import replace
from enum import IntEnum
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import Metrics, QFunction, use_key
from fewstep.algos.mfpo import losses
from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.algos.mfpo.policy import Policy, draw
from fewstep.algos.mfpo.targets import Estimate, estimate_velocity
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.temperature import Temperature
from fewstep.critics.ensemble import Critics
from fewstep.errors import require
from fewstep.flows import meanflow
from fewstep.flows.times import TimeRows, sample_times
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.frozen import frozen
from fewstep.nets.trained import Averaged, Trained, descend
from fewstep.types import Spec, Transition

Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]

EXACT_LOG_PROB_LIMIT = 8
"""Largest action size for log-densities without the divergence network: their cost grows with it."""


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    CRITIC_ACTION = 1
    ACTOR_TIMES = 2
    CANDIDATES = 3
    DIVERGENCE_TIMES = 4
    DIVERGENCE_NOISE = 5
    PROBES = 6


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``actor`` and ``divergence`` are u and d of the paper (there is no target actor); ``averaged`` is u's
    average over policy updates (``actor.average``). ``held`` are the metrics of the last policy update,
    repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts calls of ``update``.
    """

    actor: Trained[FlowNet]
    averaged: Averaged[FlowNet]
    divergence: Trained[FlowNet]
    critics: Critics
    temperature: Temperature
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: MFPOConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes."""
    require(
        cfg.divergence.log_prob == "averaged" or spec.act_size <= EXACT_LOG_PROB_LIMIT,
        f"divergence.log_prob = {cfg.divergence.log_prob!r} is for at most {EXACT_LOG_PROB_LIMIT} action "
        f"dimensions, this environment has {spec.act_size}; use 'averaged'",
    )
    k_actor, k_div, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 2 + cfg.critic.ensemble)
    a = cfg.actor
    sizes = (a.hidden, a.time_features, a.time_embed)
    made = partial(FlowNet.create, network=a.network)
    actor = made(k_actor, spec.obs_size, spec.act_size, spec.act_size, *sizes)
    divergence = made(k_div, spec.obs_size, spec.act_size, 1, *sizes)
    return State(
        actor=Trained.start(a, actor),
        averaged=Averaged.start(a.average, actor),
        divergence=Trained.start(cfg.divergence, divergence),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def policy(state: State) -> Policy:
    """What is evaluated and saved: the averaged flow, if ``actor.average`` asks for one.

    Candidates are ranked by the target critics.
    """
    return Policy(state.averaged.of(state.actor.params), state.critics.target_ensemble)


def collector(state: State) -> Policy:
    """What collects experience: the flow as it was last updated."""
    return Policy(state.actor.params, state.critics.target_ensemble)


def update(cfg: MFPOConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards the soft target r + gamma (z - alpha log pi(a'|s')), a' ~ pi; then the policy."""
    noise = jax.random.normal(use_key(state, Use.CRITIC_ACTION), batch.action.shape)
    nxt = jax.vmap(lambda s, e: draw(cfg, state.actor.params, state.divergence.params, s, e))(
        batch.next_obs, noise
    )
    bonus = -state.temperature.alpha * nxt.log_prob if cfg.soft_backup else None
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt.action, bonus)

    def with_new_critics(st: State) -> tuple[State, Metrics]:
        q = frozen(critics.online_ensemble, cfg.proposals.precision).q(cfg.critic)
        return improve(cfg, st, q, batch.obs[: cfg.actor.batch_size or None])

    state, held = delayed(cfg.actor.delay, replace(state, critics=critics), with_new_critics)
    return state, metrics | held


def improve(cfg: MFPOConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """Actor, then divergence with the new actor, then temperature with the old actor's entropy.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    state, estimate, metrics = update_actor(cfg, state, q, obs)
    if cfg.divergence.log_prob == "averaged":
        state, more = update_divergence(cfg, state, estimate, obs)
        metrics |= more
    temperature, more = state.temperature.adjusted(
        cfg.temperature, metrics["policy/entropy"], estimate.x.shape[-1]
    )
    return replace(state, temperature=temperature), metrics | more


def update_actor(
    cfg: MFPOConfig, state: State, q: QFunction, obs: ObsRows
) -> tuple[State, Estimate, Metrics]:
    """Regress the average velocity on the Boltzmann velocity of ``q``; hand on what was sampled."""
    count, points, alpha = obs.shape[0], cfg.proposals.points, state.temperature.alpha
    rows, r, t = _times(cfg, use_key(state, Use.ACTOR_TIMES), count * points)
    # Outside of the blocks: the networks are prepared once per update, not once per block.
    drawing = frozen((state.actor.params, state.divergence.params), cfg.proposals.precision)
    estimate = lax.map(
        lambda row: estimate_velocity(cfg, *drawing, q, alpha, *row),
        (obs, t.reshape(points, count).T, jax.random.split(use_key(state, Use.CANDIDATES), count)),
        batch_size=cfg.proposals.block or count,
    )
    x, v = _rows(estimate.x), _rows(estimate.v)
    actor, loss, _ = descend(
        cfg.actor, state.actor, losses.actor_regression, rows.equal, _repeat(obs, points), x, v, r, t
    )
    averaged = state.averaged.moved(cfg.actor.average, actor.params, actor.steps)
    return (
        replace(state, actor=actor, averaged=averaged),
        estimate,
        {
            "actor/loss": loss,
            "actor/velocity_norm": jnp.linalg.norm(v, axis=-1).mean(),
            "policy/entropy": -estimate.log_prob.mean(),
            "policy/clipped_share": estimate.clipped.mean(),
            "policy/candidate_q_gap": estimate.q_gap.mean(),
            "snis/ess_policy": estimate.ess_policy.mean(),
            "snis/ess_gaussian": estimate.ess_gaussian.mean(),
            "snis/rho": estimate.rho.mean(),
        },
    )


def update_divergence(
    cfg: MFPOConfig, state: State, estimate: Estimate, obs: ObsRows
) -> tuple[State, Metrics]:
    """Regress the average divergence on that of the (new) actor, at fresh times and noise."""
    sample, obs = _rows(estimate.sample), _repeat(obs, cfg.proposals.points)
    rows, r, t = _times(cfg, use_key(state, Use.DIVERGENCE_TIMES), obs.shape[0])
    noise = jax.random.normal(use_key(state, Use.DIVERGENCE_NOISE), sample.shape)
    x = jax.vmap(meanflow.interpolate)(sample, noise, t)
    draw_probes = jax.random.rademacher if cfg.divergence.probe == "rademacher" else jax.random.normal
    shape = (obs.shape[0], cfg.divergence.probes, x.shape[-1])
    probes = draw_probes(use_key(state, Use.PROBES), shape, jnp.float32)
    divergence, loss, trace = descend(
        cfg.divergence,
        state.divergence,
        losses.divergence_regression,
        state.actor.params,
        rows.equal,
        obs,
        x,
        probes,
        r,
        t,
    )
    metrics = {"divergence/loss": loss, "divergence/target_mean": trace}
    return replace(state, divergence=divergence), metrics


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
