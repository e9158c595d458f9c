"""CrossQ's training state, its update, and how it acts."""

from dataclasses import replace
from enum import IntEnum
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos import tanh_gaussian, temperature, twins
from fewstep.algos.contract import ActionMode, Metrics, every, use_key
from fewstep.algos.crossq.actor import RenormGaussian
from fewstep.algos.crossq.config import CrossQConfig
from fewstep.algos.optim import Adam, SoftOptimisers
from fewstep.algos.twins import Critics, QFunction
from fewstep.nets.renorm import RenormMLP, Stats
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ACTION = 2


class State(eqx.Module):
    """Everything training changes; every leaf an array. There are no target networks.

    ``actor`` and ``critics`` hold their networks and their running statistics; ``held`` are the metrics of
    the last policy update, repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts
    the calls of ``update``.
    """

    actor: RenormGaussian
    critics: Critics
    log_alpha: Scalar
    optimisers: SoftOptimisers
    held: Metrics
    key: PRNGKeyArray
    updates: Int[Array, ""]


class Policy(eqx.Module):
    """What acts: the policy network, and the critics that choose among candidates."""

    actor: RenormGaussian
    critics: Critics


def init(cfg: CrossQConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters and empty statistics for an environment of these sizes."""
    k_actor, k_q1, k_q2 = jax.random.split(jax.random.fold_in(key, Use.INIT), 3)
    actor = RenormGaussian.create(k_actor, spec, cfg.actor)
    critics, _ = twins.create(cfg.critic, spec, k_q1, k_q2)
    log_alpha = jnp.log(jnp.float32(cfg.temperature.initial))
    return State(
        actor=actor,
        critics=critics,
        log_alpha=log_alpha,
        optimisers=SoftOptimisers(
            actor=Adam(cfg.actor.learning_rate, cfg.actor.b1).init(actor.net),
            critics=twins.moments(cfg.critic, critics),
            temperature=Adam(cfg.temperature.learning_rate).init(log_alpha),
        ),
        held={name: jnp.float32(0.0) for name in policy_metrics(cfg)},
        key=jnp.copy(key),
        updates=jnp.int32(0),
    )


def policy_metrics(cfg: CrossQConfig) -> list[str]:
    """Names of the scalars that ``improve_policy`` returns under this config."""
    names = ["actor/loss", "actor/q", "policy/entropy", "temperature/alpha"]
    return names + (["temperature/loss"] if cfg.temperature.automatic else [])


def policy(state: State) -> Policy:
    """The part of the state that acts."""
    return Policy(state.actor, state.critics)


def act(cfg: CrossQConfig, policy: Policy, obs: ObsRows, key: PRNGKeyArray, mode: ActionMode) -> ActRows:
    """Actions in [-1, 1] for a batch, by the running statistics: one draw, the best of K, or tanh(mean)."""
    q = twins.q_value(cfg.critic.twin, policy.critics)
    return tanh_gaussian.act(policy.actor, policy.actor.act_size, q, obs, key, mode)


def update_critics(cfg: CrossQConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One Adam step of both critics on r + gamma (Q(s', a') - alpha log pi(a'|s')).

    a' ~ pi comes from the actor in evaluation mode: the batch of successors leaves no trace in its
    statistics. The critics see (s, a) and (s', a') in one joint forward, and their statistics move.
    """
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), batch.action.shape)
    nxt = jax.vmap(lambda s, e: tanh_gaussian.draw(state.actor, s, e))(batch.next_obs, noise)
    fitted = twins.fit(
        cfg.critic,
        cfg.discount,
        state.critics,
        (),
        state.optimisers.critics,
        batch,
        nxt.action,
        -jnp.exp(state.log_alpha) * nxt.log_prob,
    )
    optimisers = replace(state.optimisers, critics=fitted.moments)
    return replace(state, critics=fitted.critics, optimisers=optimisers), fitted.metrics


class Improvement(NamedTuple):
    """What the actor's loss found on the way: mean Q, entropy in nats, and the new statistics."""

    q: Scalar
    entropy: Scalar
    stats: tuple[Stats, ...]


def actor_loss(
    net: RenormMLP, actor: RenormGaussian, q: QFunction, alpha: Scalar, obs: ObsRows, noise: ActRows
) -> tuple[Scalar, Improvement]:
    """E[alpha log pi(a|s) - Q(s, a)] with a = a(s, noise). Differentiates: net, pathwise.

    ``net`` stands in for the network of ``actor``, in training mode: gradients pass through the batch's
    statistics. ``q`` judges in evaluation mode.
    """
    mean, log_std, stats = replace(actor, net=net).train(obs)
    found = jax.vmap(tanh_gaussian.squash)(mean, log_std, noise)
    value, log_prob = jax.vmap(q)(obs, found.action).mean(), found.log_prob.mean()
    return alpha * log_prob - value, Improvement(value, -log_prob, stats)


def improve_policy(cfg: CrossQConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """Actor and its statistics, then temperature with the old actor's entropy.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    alpha, actor, act_size = jnp.exp(state.log_alpha), state.actor, state.actor.act_size
    noise = jax.random.normal(use_key(state, Use.ACTION), (obs.shape[0], act_size))
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss, found), grads = gradient(actor.net, actor, q, alpha, obs, noise)
    adam = Adam(cfg.actor.learning_rate, cfg.actor.b1)
    net, moments = adam.step(actor.net, grads, state.optimisers.actor)
    optimisers = replace(state.optimisers, actor=moments)
    state = replace(state, actor=RenormGaussian(net, found.stats), optimisers=optimisers)
    metrics = {
        "actor/loss": loss,
        "actor/q": found.q,
        "policy/entropy": found.entropy,
        "temperature/alpha": alpha,
    }
    if cfg.temperature.automatic:
        target = cfg.temperature.target_entropy_per_dim * act_size
        log_alpha, moments, metrics["temperature/loss"] = temperature.step(
            cfg.temperature, state.log_alpha, state.optimisers.temperature, found.entropy, target
        )
        optimisers = replace(state.optimisers, temperature=moments)
        state = replace(state, log_alpha=log_alpha, optimisers=optimisers)
    return state, metrics


def update(cfg: CrossQConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One update on a batch: the critics; at every ``actor.delay``-th call then the policy side."""
    state, critic_metrics = update_critics(cfg, state, batch)

    def improve(st: State) -> State:
        st, metrics = improve_policy(cfg, st, twins.q_value(cfg.critic.twin, st.critics), batch.obs)
        return replace(st, held=metrics)

    state = every(cfg.actor.delay, state, improve)
    return replace(state, updates=state.updates + 1), critic_metrics | state.held
