"""SAC's training state, its update, and how it acts."""

from dataclasses import replace
from enum import IntEnum

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos import tanh_gaussian, temperature, twins
from fewstep.algos.contract import ActionMode, Metrics, every, use_key
from fewstep.algos.optim import Adam, SoftOptimisers
from fewstep.algos.sac.config import SACConfig
from fewstep.algos.tanh_gaussian import TanhGaussian
from fewstep.algos.twins import Critics, QFunction, Slow
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
ObsRows = Float[Array, "batch obs"]


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ACTION = 2


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_critics`` are Polyak averages, empty with the critic ``crossq``; ``held`` are the metrics of the
    last policy update, repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the
    calls of ``update``.
    """

    actor: TanhGaussian
    critics: Critics
    target_critics: Slow
    log_alpha: Scalar
    optimisers: SoftOptimisers
    held: Metrics
    key: PRNGKeyArray
    updates: Int[Array, ""]


class Policy(eqx.Module):
    """What acts: the policy network, and the critics that choose among candidates."""

    actor: TanhGaussian
    critics: Critics


def init(cfg: SACConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target critics start as copies."""
    k_actor, k_q1, k_q2 = jax.random.split(jax.random.fold_in(key, Use.INIT), 3)
    actor = TanhGaussian.create(k_actor, spec, cfg.actor.hidden, cfg.actor.activation)
    critics, slow = twins.create(cfg.critic, spec, k_q1, k_q2)
    log_alpha = jnp.log(jnp.float32(cfg.temperature.initial))
    return State(
        actor=actor,
        critics=critics,
        target_critics=slow,
        log_alpha=log_alpha,
        optimisers=SoftOptimisers(
            actor=Adam(cfg.actor.learning_rate, cfg.actor.b1).init(actor),
            critics=twins.moments(cfg.critic, critics),
            temperature=Adam(cfg.temperature.learning_rate).init(log_alpha),
        ),
        held={name: jnp.float32(0.0) for name in policy_metrics(cfg)},
        key=jnp.copy(key),
        updates=jnp.int32(0),
    )


def policy_metrics(cfg: SACConfig) -> list[str]:
    """Names of the scalars that ``improve_policy`` returns under this config."""
    names = ["actor/loss", "actor/q", "policy/entropy", "temperature/alpha"]
    return names + (["temperature/loss"] if cfg.temperature.automatic else [])


def policy(state: State) -> Policy:
    """The part of the state that acts."""
    return Policy(state.actor, state.target_critics or state.critics)


def act(
    cfg: SACConfig, policy: Policy, obs: ObsRows, key: PRNGKeyArray, mode: ActionMode
) -> Float[Array, "batch act"]:
    """Actions in [-1, 1] for a batch: one draw, the best of K draws, or tanh of the mean."""
    q = twins.q_value(cfg.critic.twin, policy.critics)
    return tanh_gaussian.act(policy.actor, policy.actor.act_size, q, obs, key, mode)


def update_critics(cfg: SACConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One Adam step of both critics on r + gamma (Q(s', a') - alpha log pi(a'|s')), a' ~ pi."""
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), batch.action.shape)
    nxt = jax.vmap(lambda s, e: tanh_gaussian.draw(state.actor, s, e))(batch.next_obs, noise)
    bonus = -jnp.exp(state.log_alpha) * nxt.log_prob
    moments = state.optimisers.critics
    slow = state.target_critics
    fitted = twins.fit(cfg.critic, cfg.discount, state.critics, slow, moments, batch, nxt.action, bonus)
    state = replace(
        state,
        critics=fitted.critics,
        target_critics=fitted.slow,
        optimisers=replace(state.optimisers, critics=fitted.moments),
    )
    return state, fitted.metrics


def actor_loss(
    actor: TanhGaussian, q: QFunction, alpha: Scalar, obs: ObsRows, noise: Float[Array, "batch act"]
) -> tuple[Scalar, tuple[Scalar, Scalar]]:
    """E[alpha log pi(a|s) - Q(s, a)] with a = a(s, noise). Differentiates: actor, pathwise.

    Returns the loss, and the mean of Q and the entropy estimate -E log pi in nats.
    """
    found = jax.vmap(lambda s, e: tanh_gaussian.draw(actor, s, e))(obs, noise)
    value, log_prob = jax.vmap(q)(obs, found.action).mean(), found.log_prob.mean()
    return alpha * log_prob - value, (value, -log_prob)


def improve_policy(cfg: SACConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """Actor, then temperature with the old actor's entropy.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    alpha, act_size = jnp.exp(state.log_alpha), state.actor.act_size
    noise = jax.random.normal(use_key(state, Use.ACTION), (obs.shape[0], act_size))
    gradient = jax.value_and_grad(actor_loss, has_aux=True)
    (loss, (value, entropy)), grads = gradient(state.actor, q, alpha, obs, noise)
    actor, moments = Adam(cfg.actor.learning_rate, cfg.actor.b1).step(
        state.actor, grads, state.optimisers.actor
    )
    state = replace(state, actor=actor, optimisers=replace(state.optimisers, actor=moments))
    metrics = {"actor/loss": loss, "actor/q": value, "policy/entropy": entropy, "temperature/alpha": alpha}
    if cfg.temperature.automatic:
        target = cfg.temperature.target_entropy_per_dim * act_size
        log_alpha, moments, metrics["temperature/loss"] = temperature.step(
            cfg.temperature, state.log_alpha, state.optimisers.temperature, entropy, target
        )
        optimisers = replace(state.optimisers, temperature=moments)
        state = replace(state, log_alpha=log_alpha, optimisers=optimisers)
    return state, metrics


def update(cfg: SACConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One update on a batch: the critics, then the policy side with the new critics."""
    state, critic_metrics = update_critics(cfg, state, batch)

    def improve(st: State) -> State:
        st, metrics = improve_policy(cfg, st, twins.q_value(cfg.critic.twin, st.critics), batch.obs)
        return replace(st, held=metrics)

    state = every(cfg.actor.delay, state, improve)
    return replace(state, updates=state.updates + 1), critic_metrics | state.held
