"""SMFP's training state and its update."""

from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import Metrics, QFunction, use_key
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.temperature import Temperature
from fewstep.algos.smfp import losses, targets
from fewstep.algos.smfp.config import SMFPConfig
from fewstep.algos.smfp.network import PolicyNet, Scalar
from fewstep.algos.smfp.policy import Policy
from fewstep.algos.smfp.proposal import Proposal
from fewstep.critics.ensemble import Critics
from fewstep.flows import residual, semi_implicit
from fewstep.nets.trained import Averaged, Trained, descend
from fewstep.types import Spec, Transition

Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]

DIAGNOSED = 32
"""States whose candidates are looked at for the metrics when mirror descent is off."""


class Use(IntEnum):
    """What a random key is used for. Keys are addressed by (use, update); append only, the order is part of a
    run."""

    INIT = 0
    NEXT_ACTION = 1
    NEXT_COMPONENTS = 2
    COMPONENTS = 3
    SAMPLES = 4
    CANDIDATES = 5
    MIRROR_TIMES = 6
    MIRROR_NOISE = 7
    PROPOSAL = 8
    GUESSES = 9


class Nets(eqx.Module):
    """What the policy's loss trains: the policy network, and the proposal if there is a learned one."""

    actor: PolicyNet
    proposal: Proposal | tuple[()]


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``averaged`` is the policy network's average over policy updates (``actor.average``). ``held`` are the
    metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is constant,
    ``updates`` counts calls of ``update``.
    """

    nets: Trained[Nets]
    averaged: Averaged[PolicyNet]
    critics: Critics
    temperature: Temperature
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held

    @property
    def actor(self) -> PolicyNet:
        """The policy network."""
        return self.nets.params.actor


def init(cfg: SMFPConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    a = cfg.actor
    proposal: Proposal | tuple[()] = ()
    if cfg.entropy.proposal == "learned":
        proposal = Proposal.create(jax.random.fold_in(key, Use.PROPOSAL), spec, a.hidden)
    actor = PolicyNet.create(k_actor, spec, a.backbone, a.hidden, a.head_scale, a.sigma, a.network)
    nets = Nets(actor, proposal)
    return State(
        nets=Trained.start(a, nets),
        averaged=Averaged.start(a.average, actor),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def policy(state: State) -> Policy:
    """What is evaluated and saved: with the averaged network, if ``actor.average`` asks for one."""
    return Policy(state.averaged.of(state.actor), state.critics.target_ensemble)


def collector(state: State) -> Policy:
    """What collects experience: with the network as it was last updated."""
    return Policy(state.actor, state.critics.target_ensemble)


def update(cfg: SMFPConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma (Q(s', a') + bonus), a' the best of K; then the policy with them."""
    next_action, bonus = successor(cfg, state, batch)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, next_action, bonus)
    rows = slice(0, cfg.actor.batch_size or None)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs[rows], batch.action[rows]),
    )
    return state, metrics | held


def successor(cfg: SMFPConfig, state: State, batch: Transition) -> tuple[ActRows, Rows]:
    """The successors' actions, and their entropy bonus: -alpha log q_K, or 0 without a soft backup."""
    count, act_size = batch.action.shape
    q = state.critics.target_q(cfg.critic)
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), (count, cfg.target_candidates, 2, act_size))
    nxt = jax.vmap(lambda s, e: targets.next_action(cfg, state.actor, q, s, e))(batch.next_obs, noise)
    if not cfg.entropy.soft_backup:
        return nxt.action, jnp.zeros(count)
    keys = jax.random.split(use_key(state, Use.NEXT_COMPONENTS), count)
    proposal = state.nets.params.proposal
    log_q = jax.vmap(lambda s, n, k: targets.log_density(cfg, state.actor, proposal, s, n, k))
    return nxt.action, -alpha_of(cfg, state) * log_q(batch.next_obs, nxt, keys)


def alpha_of(cfg: SMFPConfig, state: State) -> Scalar:
    """The entropy's weight at this update, in reward units per nat."""
    alpha = state.temperature.alpha
    if not cfg.temperature.anneal_updates:
        return alpha
    left = jnp.maximum(0.0, 1.0 - state.updates / cfg.temperature.anneal_updates)
    return alpha * cfg.temperature.anneal_factor**left


def improve(
    cfg: SMFPConfig, state: State, q: QFunction, obs: ObsRows, replayed: ActRows
) -> tuple[State, Metrics]:
    """Actor down L_SAC + lambda L_MD + L_bound; then the temperature with the old actor's entropy.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics. ``replayed``
    are the actions of the batch, of which ``mirror.source = "replay"`` learns.
    """
    alpha = alpha_of(cfg, state)
    drawn, metrics = candidates(cfg, state, q, obs)
    regress, more = mirror_loss(cfg, state, q, obs, replayed, drawn)
    nets, value, (parts, regression) = descend(
        cfg.actor, state.nets, loss, cfg, q, alpha, obs, samples(cfg, state, *replayed.shape), regress
    )
    averaged = state.averaged.moved(cfg.actor.average, nets.params.actor, nets.steps)
    state = replace(state, nets=nets, averaged=averaged)
    metrics |= (
        more
        | regression
        | {
            "actor/loss": value,
            "actor/q": parts.q,
            "policy/log_std": parts.log_std,
            "policy/entropy": parts.entropy,
            "policy/conditional_entropy": parts.conditional_entropy,
            "policy/clipped_share": parts.clipped,
            "temperature/alpha": alpha,
        }
    )
    if cfg.actor.bound == "clip":
        metrics |= {"actor/bound": parts.bound, "policy/excess": parts.excess}
    if cfg.entropy.kind == "hinge":
        metrics["actor/hinge"] = parts.hinge
    if cfg.adjusts_temperature:
        target = target_entropy(cfg, replayed.shape[-1])
        temperature, more = state.temperature.step(cfg.temperature, parts.entropy, target)
        state, metrics = replace(state, temperature=temperature), metrics | more
    return state, metrics


class Samples(eqx.Module):
    """Random numbers of the improvement loss: noises of the components, of the samples, of the guesses."""

    e: Float[Array, "batch N act"]
    eps: Float[Array, "batch M act"]
    guesses: Float[Array, "batch M K act"] | None


def samples(cfg: SMFPConfig, state: State, count: int, act_size: int) -> Samples:
    """Drawn for ``count`` states."""
    keys = jax.random.split(use_key(state, Use.COMPONENTS), count)

    def draw(key: PRNGKeyArray) -> Float[Array, "N act"]:
        return semi_implicit.draw_noises(key, cfg.entropy.noise, cfg.actor_components, act_size)

    eps = jax.random.normal(use_key(state, Use.SAMPLES), (count, cfg.actor.samples, act_size))
    guesses = None
    if cfg.entropy.proposal == "learned":
        shape = (count, cfg.actor.samples, cfg.entropy.components, act_size)
        guesses = jax.random.normal(use_key(state, Use.GUESSES), shape)
    return Samples(jax.vmap(draw)(keys), eps, guesses)


def candidates(
    cfg: SMFPConfig, state: State, q: QFunction, obs: ObsRows
) -> tuple[targets.Candidates, Metrics]:
    """Actions of the present policy at the states regressed on, their values, and what these tell."""
    rows = slice(0, (cfg.mirror.batch_size or None) if cfg.mirror.weight > 0 else DIAGNOSED)
    shape = (obs[rows].shape[0], cfg.mirror.candidates, 2, state.actor.act_size)
    noise = jax.random.normal(use_key(state, Use.CANDIDATES), shape)
    drawn = targets.candidates(cfg, state.actor, q, obs[rows], noise)
    return drawn, {
        "policy/mean_spread": drawn.mean.std(axis=1).mean(),
        "policy/candidate_q_gap": (drawn.q.max(axis=1) - drawn.q.mean(axis=1)).mean(),
        "policy/candidate_q_std": drawn.q.std(axis=1).mean(),
    }


def mirror_loss(
    cfg: SMFPConfig, state: State, q: QFunction, obs: ObsRows, replayed: ActRows, drawn: targets.Candidates
) -> tuple[Callable[[PolicyNet], Scalar] | None, Metrics]:
    """L_MD as a function of the actor, None without mirror descent; its weights' metrics."""
    if cfg.mirror.weight == 0:
        return None, {}
    rows = slice(0, drawn.q.shape[0])
    pairs = targets.mirror_pairs(cfg.mirror, q, obs[rows], replayed[rows], drawn)
    weight = targets.mirror_weights(cfg.mirror, pairs.advantage)
    t = residual.sample_times(use_key(state, Use.MIRROR_TIMES), weight.shape)
    noise = jax.random.normal(use_key(state, Use.MIRROR_NOISE), pairs.action.shape)
    regress = partial(losses.mirror, cfg=cfg, obs=obs[rows], action=pairs.action, weight=weight, e=noise, t=t)
    metrics = {"mirror/weight_mean": weight.mean(), "mirror/weight_share": jnp.mean(pairs.advantage > 0.0)}
    return regress, metrics


def loss(
    nets: Nets,
    cfg: SMFPConfig,
    q: QFunction,
    alpha: Scalar,
    obs: ObsRows,
    drawn: Samples,
    regress: Callable[[PolicyNet], Scalar] | None,
) -> tuple[Scalar, tuple[losses.Improvement, Metrics]]:
    """L_SAC + L_bound + lambda L_MD. Differentiates: nets."""
    guess = None
    if isinstance(nets.proposal, Proposal) and drawn.guesses is not None:
        guess = losses.Guess(nets.proposal, drawn.guesses)
    total, parts = losses.improvement(nets.actor, cfg, q, alpha, obs, drawn.e, drawn.eps, guess)
    if regress is None:
        return total, (parts, {})
    regression = regress(nets.actor)
    return total + cfg.mirror.weight * regression, (parts, {"mirror/loss": regression})


def target_entropy(cfg: SMFPConfig, act_size: int) -> Array:
    """What an adjusted temperature steers the recorded entropy to, in nats."""
    if cfg.entropy.kind == "dual":
        return semi_implicit.conditional_entropy(jnp.full(act_size, jnp.log(cfg.entropy.target_std)))
    return jnp.float32(cfg.temperature.target_entropy_per_dim * act_size)
