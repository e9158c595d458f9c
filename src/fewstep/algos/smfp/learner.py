"""SMFP's training state and its update."""

from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos import temperature, twins
from fewstep.algos.contract import Metrics, every, use_key
from fewstep.algos.optim import Adam, SoftOptimisers
from fewstep.algos.smfp import losses, targets
from fewstep.algos.smfp.config import SMFPConfig
from fewstep.algos.smfp.network import PolicyNet, Scalar
from fewstep.algos.smfp.policy import Policy
from fewstep.algos.smfp.proposal import Proposal
from fewstep.algos.twins import Critics, QFunction, Slow, q_value
from fewstep.flows import residual, semi_implicit
from fewstep.types import Spec, Transition

Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]
Trained = tuple[PolicyNet, Proposal | tuple[()]]

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


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``critics`` hold their networks and, with ``crossq``, the running statistics; ``target_critics`` are
    Polyak averages with ``layernorm`` and empty with ``crossq``. ``held`` are the metrics of the last policy
    update, repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts calls of
    ``update``. ``proposal`` and its moments are empty unless ``entropy.proposal`` is learned.
    """

    actor: PolicyNet
    critics: Critics
    target_critics: Slow
    log_alpha: Scalar
    optimisers: SoftOptimisers
    held: Metrics
    key: PRNGKeyArray
    updates: Int[Array, ""]
    proposal: Proposal | tuple[()] = ()
    proposal_moments: Any = ()

    @property
    def judges(self) -> Critics:
        """The critics that choose among candidates: the slow copies where there are any."""
        return self.target_critics if self.target_critics else self.critics


def init(cfg: SMFPConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target critics start as copies."""
    k_actor, k_q1, k_q2 = jax.random.split(jax.random.fold_in(key, Use.INIT), 3)
    a, c = cfg.actor, cfg.critic
    actor = PolicyNet.create(k_actor, spec, a.backbone, a.hidden, a.head_scale)
    critics, slow = twins.create(c, spec, k_q1, k_q2)
    log_alpha = jnp.log(jnp.float32(cfg.temperature.initial))
    proposal: Proposal | tuple[()] = ()
    if cfg.entropy.proposal == "learned":
        proposal = Proposal.create(jax.random.fold_in(key, Use.PROPOSAL), spec, a.hidden)
    return State(
        actor=actor,
        critics=critics,
        target_critics=slow,
        log_alpha=log_alpha,
        optimisers=SoftOptimisers(
            actor=Adam(a.learning_rate).init(actor),
            critics=twins.moments(c, critics),
            temperature=Adam(cfg.temperature.learning_rate).init(log_alpha),
        ),
        held={name: jnp.float32(0.0) for name in policy_metrics(cfg)},
        key=jnp.copy(key),
        updates=jnp.int32(0),
        proposal=proposal,
        proposal_moments=Adam(a.learning_rate).init(proposal) if proposal else (),
    )


def policy(state: State) -> Policy:
    """The part of the state that acts."""
    return Policy(state.actor, state.judges)


def policy_metrics(cfg: SMFPConfig) -> list[str]:
    """Names of the scalars that ``improve_policy`` returns under this config."""
    names = ["actor/loss", "actor/q", "actor/bound", "policy/log_std", "policy/mean_spread", "policy/entropy"]
    names += ["policy/conditional_entropy", "policy/excess", "policy/clipped_share", "policy/candidate_q_gap"]
    names += ["policy/candidate_q_std", "temperature/alpha"]
    names += ["actor/hinge"] if cfg.entropy.kind == "hinge" else []
    names += ["mirror/loss", "mirror/weight_mean", "mirror/weight_share"] if cfg.mirror.weight > 0 else []
    return names + (["temperature/loss"] if cfg.adjusts_temperature else [])


def alpha_of(cfg: SMFPConfig, state: State) -> Scalar:
    """The entropy's weight at this update, in reward units per nat."""
    alpha = jnp.exp(state.log_alpha)
    if not cfg.temperature.anneal_updates:
        return alpha
    left = jnp.maximum(0.0, 1.0 - state.updates / cfg.temperature.anneal_updates)
    return alpha * cfg.temperature.anneal_factor**left


def update_critics(cfg: SMFPConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One Adam step of both critics; then their statistics, or their slow copies, follow at once."""
    count, act_size = batch.action.shape
    q = q_value(cfg.critic.twin, state.judges)
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), (count, cfg.target_candidates, 2, act_size))
    nxt = jax.vmap(lambda s, e: targets.next_action(cfg, state.actor, q, s, e))(batch.next_obs, noise)
    bonus = jnp.zeros(count)
    if cfg.entropy.soft_backup:
        keys = jax.random.split(use_key(state, Use.NEXT_COMPONENTS), count)
        log_q = jax.vmap(lambda s, n, k: targets.log_density(cfg, state.actor, state.proposal, s, n, k))
        bonus = -alpha_of(cfg, state) * log_q(batch.next_obs, nxt, keys)

    fitted = twins.fit(
        cfg.critic,
        cfg.discount,
        state.critics,
        state.target_critics,
        state.optimisers.critics,
        batch,
        nxt.action,
        bonus,
    )
    state = replace(
        state,
        critics=fitted.critics,
        target_critics=fitted.slow,
        optimisers=replace(state.optimisers, critics=fitted.moments),
    )
    return state, fitted.metrics


def update_actor(
    cfg: SMFPConfig, state: State, q: QFunction, obs: ObsRows, replayed: ActRows
) -> tuple[State, Metrics]:
    """One Adam step on L_SAC + lambda L_MD + L_bound.

    ``replayed`` are the actions of the batch, of which ``mirror.source = "replay"`` learns.
    """
    count, act_size = replayed.shape
    wanted = cfg.mirror.batch_size or count
    rows = slice(0, wanted if cfg.mirror.weight > 0 else DIAGNOSED)
    shape = (obs[rows].shape[0], cfg.mirror.candidates, 2, act_size)
    found = targets.candidates(
        cfg, state.actor, q, obs[rows], jax.random.normal(use_key(state, Use.CANDIDATES), shape)
    )
    q_scale = 1.0 / (jnp.abs(found.q).mean() + 1e-6) if cfg.actor.scale_q else jnp.float32(1.0)
    alpha = alpha_of(cfg, state)
    e = jax.vmap(lambda k: semi_implicit.draw_noises(k, cfg.entropy.noise, cfg.actor_components, act_size))(
        jax.random.split(use_key(state, Use.COMPONENTS), count)
    )
    eps = jax.random.normal(use_key(state, Use.SAMPLES), (count, cfg.actor.samples, act_size))
    metrics: Metrics = {
        "policy/mean_spread": found.mean.std(axis=1).mean(),
        "policy/candidate_q_gap": (found.q.max(axis=1) - found.q.mean(axis=1)).mean(),
        "policy/candidate_q_std": found.q.std(axis=1).mean(),
        "temperature/alpha": alpha,
    }

    regress: Callable[[PolicyNet], Scalar] | None = None
    if cfg.mirror.weight > 0:
        pairs = targets.mirror_pairs(cfg.mirror, q, obs[rows], replayed[rows], found)
        weight = targets.mirror_weights(cfg.mirror, q_scale * pairs.advantage)
        metrics["mirror/weight_mean"] = weight.mean()
        metrics["mirror/weight_share"] = jnp.mean(pairs.advantage > 0.0)
        b, t = residual.sample_interval(
            use_key(state, Use.MIRROR_TIMES),
            weight.shape,
            general=cfg.mirror.interval == "general",
            end_share=cfg.mirror.end_share,
        )
        noise = jax.random.normal(use_key(state, Use.MIRROR_NOISE), pairs.action.shape)
        regress = partial(
            losses.mirror, cfg=cfg, obs=obs[rows], action=pairs.action, weight=weight, e=noise, b=b, t=t
        )

    guesses = (*eps.shape[:2], cfg.entropy.components, act_size)
    draws = jax.random.normal(use_key(state, Use.GUESSES), guesses) if state.proposal else None

    def loss(trained: Trained) -> tuple[Scalar, tuple[losses.Improvement, Metrics]]:
        actor, proposal = trained
        guess = None
        if isinstance(proposal, Proposal) and draws is not None:
            guess = losses.Guess(proposal, draws)
        total, parts = losses.improvement(actor, cfg, q, alpha, q_scale, obs, e, eps, guess)
        if regress is None:
            return total, (parts, {})
        regression = regress(actor)
        return total + cfg.mirror.weight * regression, (parts, {"mirror/loss": regression})

    trained = (state.actor, state.proposal)
    (value, (parts, more)), (grads, of_proposal) = jax.value_and_grad(loss, has_aux=True)(trained)
    if cfg.actor.max_grad_norm:
        shrink = jnp.minimum(1.0, cfg.actor.max_grad_norm / (optax.tree.norm(grads) + 1e-12))
        grads = jax.tree.map(lambda g: shrink * g, grads)
    actor, moments = Adam(cfg.actor.learning_rate).step(state.actor, grads, state.optimisers.actor)
    metrics |= more | {
        "actor/loss": value,
        "actor/q": parts.q,
        "actor/bound": parts.bound,
        "policy/log_std": parts.log_std,
        "policy/entropy": parts.entropy,
        "policy/conditional_entropy": parts.conditional_entropy,
        "policy/excess": parts.excess,
        "policy/clipped_share": parts.clipped,
    }
    if cfg.entropy.kind == "hinge":
        metrics["actor/hinge"] = parts.hinge
    state = replace(state, actor=actor, optimisers=replace(state.optimisers, actor=moments))
    if state.proposal:
        proposal, moments = Adam(cfg.actor.learning_rate).step(
            state.proposal, of_proposal, state.proposal_moments
        )
        state = replace(state, proposal=proposal, proposal_moments=moments)
    return state, metrics


def target_entropy(cfg: SMFPConfig, act_size: int) -> Array:
    """What an adjusted temperature steers the recorded entropy to, in nats."""
    if cfg.entropy.kind == "dual":
        return semi_implicit.conditional_entropy(jnp.full(act_size, jnp.log(cfg.entropy.target_std)))
    return jnp.float32(cfg.temperature.target_entropy_per_dim * act_size)


def update_temperature(
    cfg: SMFPConfig, state: State, entropy: Scalar, act_size: int
) -> tuple[State, Metrics]:
    """Move alpha towards the target entropy, inside its bounds."""
    log_alpha, moments, loss = temperature.step(
        cfg.temperature, state.log_alpha, state.optimisers.temperature, entropy, target_entropy(cfg, act_size)
    )
    state = replace(state, log_alpha=log_alpha, optimisers=replace(state.optimisers, temperature=moments))
    return state, {"temperature/loss": loss}


def improve_policy(
    cfg: SMFPConfig, state: State, q: QFunction, obs: ObsRows, replayed: ActRows
) -> tuple[State, Metrics]:
    """Actor, then temperature with the old actor's entropy.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    state, metrics = update_actor(cfg, state, q, obs, replayed)
    if cfg.adjusts_temperature:
        state, more = update_temperature(cfg, state, metrics["policy/entropy"], replayed.shape[-1])
        metrics |= more
    return state, metrics


def update(cfg: SMFPConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One update on a batch: the critics, then the policy side with the new critics."""
    state, critic_metrics = update_critics(cfg, state, batch)
    rows = slice(0, cfg.actor.batch_size or None)

    def improve(st: State) -> State:
        q = q_value(cfg.critic.twin, st.critics)
        st, metrics = improve_policy(cfg, st, q, batch.obs[rows], batch.action[rows])
        return replace(st, held=metrics)

    state = every(cfg.actor.delay, state, improve)
    return replace(state, updates=state.updates + 1), critic_metrics | state.held
