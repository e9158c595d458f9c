"""TD3's policy, its training state, its update, and how it acts."""

from dataclasses import replace
from enum import IntEnum

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos import twins
from fewstep.algos.contract import ActionMode, Metrics, every, use_key
from fewstep.algos.optim import Adam, polyak
from fewstep.algos.td3.config import ActorConfig, SmoothingConfig, TD3Config
from fewstep.algos.twins import Critics, QFunction, Slow
from fewstep.nets.mlp import MLP
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
ObsRows = Float[Array, "batch obs"]

SATURATED = 0.99
"""Coordinates beyond +-this count as saturated: tanh passes under 2 % of the critic's gradient there."""
POLICY_METRICS = ("actor/loss", "actor/q", "policy/saturated_share")


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    SMOOTHING = 1


class Actor(eqx.Module):
    """The deterministic policy a = tanh(f(s))."""

    net: MLP

    @staticmethod
    def create(key: PRNGKeyArray, spec: Spec, cfg: ActorConfig) -> "Actor":
        """Fresh parameters; no normalisation layers."""
        net = MLP.create(
            key,
            spec.obs_size,
            cfg.hidden,
            spec.act_size,
            init="lecun_normal",
            head_init="lecun_normal",
            activation=cfg.activation,
            norm=False,
        )
        return Actor(net)

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.net.head.bias.shape[0]

    def __call__(self, s: Obs) -> Vector:
        """The action of the state ``s``, in (-1, 1)."""
        return jnp.tanh(self.net(s))


class Optimisers(eqx.Module):
    """Adam states of the two groups of parameters."""

    actor: optax.OptState
    critics: optax.OptState


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_actor`` and ``target_critics`` (empty with the critic ``crossq``) are Polyak averages that move
    on policy updates alone; ``held`` are the metrics of the last policy update, repeated while
    ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the calls of ``update``.
    """

    actor: Actor
    target_actor: Actor
    critics: Critics
    target_critics: Slow
    optimisers: Optimisers
    held: Metrics
    key: PRNGKeyArray
    updates: Int[Array, ""]


class Policy(eqx.Module):
    """What acts: the policy network, and the critics that choose among candidates."""

    actor: Actor
    critics: Critics


def init(cfg: TD3Config, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; the slow networks start as copies."""
    k_actor, k_q1, k_q2 = jax.random.split(jax.random.fold_in(key, Use.INIT), 3)
    actor = Actor.create(k_actor, spec, cfg.actor)
    critics, slow = twins.create(cfg.critic, spec, k_q1, k_q2)
    return State(
        actor=actor,
        # A copy, not an alias: the update donates its input and may not be given one buffer twice.
        target_actor=jax.tree.map(jnp.copy, actor),
        critics=critics,
        target_critics=slow,
        optimisers=Optimisers(
            actor=Adam(cfg.actor.learning_rate, cfg.actor.b1).init(actor),
            critics=twins.moments(cfg.critic, critics),
        ),
        held={name: jnp.float32(0.0) for name in POLICY_METRICS},
        key=jnp.copy(key),
        updates=jnp.int32(0),
    )


def policy(state: State) -> Policy:
    """The part of the state that acts."""
    return Policy(state.actor, state.target_critics or state.critics)


def act(
    cfg: TD3Config, policy: Policy, obs: ObsRows, key: PRNGKeyArray, mode: ActionMode
) -> Float[Array, "batch act"]:
    """Actions in [-1, 1] for a batch.

    A plain sample is tanh(f(s)) plus the exploration noise, clipped to the box; with more candidates it is
    the best of such draws; noise-free it is tanh(f(s)).
    """
    shape = (obs.shape[0], mode.candidates, policy.actor.act_size)
    noise = jnp.zeros(shape) if mode.noise_free else jax.random.normal(key, shape)
    q = twins.q_value(cfg.critic.twin, policy.critics)

    def one(s: Obs, eps: Float[Array, "K act"]) -> Vector:
        actions = policy.actor(s) + cfg.actor.exploration_noise * eps
        return twins.best(q, s, jnp.clip(actions, -1.0, 1.0))

    return jax.vmap(one)(obs, noise)


def target_action(cfg: SmoothingConfig, actor: Actor, s: Obs, eps: Vector) -> Vector:
    """The smoothed action of a successor: clip(pi(s) + clip(noise eps, -c, c), -1, 1), eps ~ N(0, I).

    Fujimoto et al. 2018 (arXiv 1802.09477), equation 14, with the clip to the box of their code.
    """
    return jnp.clip(actor(s) + jnp.clip(cfg.noise * eps, -cfg.clip, cfg.clip), -1.0, 1.0)


def update_critics(cfg: TD3Config, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One Adam step of both critics on r + gamma Q(s', a'), a' the slow actor's smoothed action.

    The slow copies stay: they move with the policy.
    """
    eps = jax.random.normal(use_key(state, Use.SMOOTHING), batch.action.shape)
    smoothed = jax.vmap(lambda s, e: target_action(cfg.smoothing, state.target_actor, s, e))
    fitted = twins.fit(
        cfg.critic,
        cfg.discount,
        state.critics,
        state.target_critics,
        state.optimisers.critics,
        batch,
        smoothed(batch.next_obs, eps),
        jnp.zeros(batch.reward.shape),
        slow_follow=False,
    )
    optimisers = replace(state.optimisers, critics=fitted.moments)
    return replace(state, critics=fitted.critics, optimisers=optimisers), fitted.metrics


def actor_loss(actor: Actor, q: QFunction, obs: ObsRows) -> tuple[Scalar, Float[Array, "batch act"]]:
    """-E[Q(s, pi(s))], batch mean, and the actions. Differentiates: actor, through the action.

    The deterministic policy gradient (Silver et al. 2014; equation 1 of arXiv 1802.09477).
    """
    actions = jax.vmap(actor)(obs)
    return -jax.vmap(q)(obs, actions).mean(), actions


def improve_policy(cfg: TD3Config, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """One Adam step of the actor up ``q``, then one Polyak step of the slow actor and the slow critics.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the first critic.
    """
    (loss, actions), grads = jax.value_and_grad(actor_loss, has_aux=True)(state.actor, q, obs)
    adam = Adam(cfg.actor.learning_rate, cfg.actor.b1)
    actor, moments = adam.step(state.actor, grads, state.optimisers.actor)
    saturated = jnp.mean(jnp.abs(actions) > SATURATED, dtype=jnp.float32)
    state = replace(
        state,
        actor=actor,
        target_actor=polyak(state.target_actor, actor, cfg.critic.tau),
        target_critics=twins.follow(cfg.critic, state.target_critics, state.critics),
        optimisers=replace(state.optimisers, actor=moments),
    )
    return state, dict(zip(POLICY_METRICS, (loss, -loss, saturated), strict=True))


def update(cfg: TD3Config, state: State, batch: Transition) -> tuple[State, Metrics]:
    """One update on a batch: the critics; at every ``actor.delay``-th call then policy and slow copies."""
    state, critic_metrics = update_critics(cfg, state, batch)

    def improve(st: State) -> State:
        st, metrics = improve_policy(cfg, st, st.critics[0], batch.obs)
        return replace(st, held=metrics)

    state = every(cfg.actor.delay, state, improve)
    return replace(state, updates=state.updates + 1), critic_metrics | state.held
