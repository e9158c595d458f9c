"""Soft actor-critic for a policy that is a path of steps, trained through all of them: FLAC, SAC-Flow, DIME.

Such a policy has no density that could be had cheaply. Something that its path costs stands where SAC has the
log-density (kinetic energy, the density of the path, a bound of that of the action):

    critics towards  r + gamma (Q(s', a') - alpha cost(s', a')),
    actor down       E[alpha cost(s, a) - Q(s, a)],

and alpha rises while the mean cost is above its target. An algorithm gives the networks and ``draw``.
"""

from dataclasses import replace
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import Metrics, QFunction, use_key
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.temperature import Temperature, TemperatureConfig
from fewstep.critics.ensemble import CriticConfig, Critics, Ensemble
from fewstep.nets.trained import Trained, descend
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
ObsRows = Float[Array, "batch obs"]
NoiseRows = Float[Array, "batch *noise"]


class Drawn(NamedTuple):
    """An action in (-1, 1), and what the path to it costs: in nats, or as an energy."""

    action: Vector
    cost: Scalar


class Config(Protocol):
    """The settings of an algorithm of this kind."""

    @property
    def discount(self) -> float:
        """gamma."""
        ...

    @property
    def actor(self) -> Any:
        """Adam's settings with ``delay`` and three functions: ``create(key, spec)``, fresh networks with
        ``act_size``; ``noise_shape(act_size)``, of the standard normal noise of one action; and
        ``draw(networks, s, noise) -> Drawn``, through which gradients flow."""
        ...

    @property
    def critic(self) -> CriticConfig:
        """Of the critics."""
        ...

    @property
    def temperature(self) -> TemperatureConfig:
        """Of alpha."""
        ...


class PathPolicy(eqx.Module):
    """What acts: the networks of the path, and the critics that choose among candidates."""

    actor: Any
    critics: Ensemble


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ACTION = 2


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``held`` are the metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is
    constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[Any]
    critics: Critics
    temperature: Temperature
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: Config, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    return State(
        actor=Trained.start(cfg.actor, cfg.actor.create(k_actor, spec)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: Config, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma (Q(s', a') - alpha cost(s', a')), a' ~ pi; then policy and alpha."""
    actor = state.actor.params
    noise = _noise(cfg, actor, batch.next_obs, use_key(state, Use.NEXT_ACTION))
    nxt = jax.vmap(partial(cfg.actor.draw, actor))(batch.next_obs, noise)
    bonus = -state.temperature.alpha * nxt.cost
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt.action, bonus)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs),
    )
    return state, metrics | held


def improve(cfg: Config, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """The policy up Q - alpha cost; then alpha, by the old policy's mean cost.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    noise = _noise(cfg, state.actor.params, obs, use_key(state, Use.ACTION))
    actor, loss, (value, cost) = descend(
        cfg.actor, state.actor, actor_loss, cfg, q, state.temperature.alpha, obs, noise
    )
    temperature, metrics = state.temperature.adjusted(cfg.temperature, -cost, state.actor.params.act_size)
    metrics |= {"actor/loss": loss, "actor/q": value, "policy/path_cost": cost}
    return replace(state, actor=actor, temperature=temperature), metrics


def actor_loss(
    actor: Any, cfg: Config, q: QFunction, alpha: Scalar, obs: ObsRows, noise: NoiseRows
) -> tuple[Scalar, tuple[Scalar, Scalar]]:
    """E[alpha cost - Q(s, a)], and the means of Q and of the cost. Differentiates: actor, pathwise."""
    drawn = jax.vmap(partial(cfg.actor.draw, actor))(obs, noise)
    value, cost = jax.vmap(q)(obs, drawn.action).mean(), drawn.cost.mean()
    return alpha * cost - value, (value, cost)


def policy(state: State) -> PathPolicy:
    """What acts."""
    return PathPolicy(state.actor.params, state.critics.target_ensemble)


def noise_shape(cfg: Config, policy: PathPolicy) -> tuple[int, ...]:
    """Of the noise of one action."""
    return cfg.actor.noise_shape(policy.actor.act_size)


def draw_action(cfg: Config, policy: PathPolicy, s: Obs, noise: Float[Array, "*noise"]) -> Vector:
    """The action of the policy's noise."""
    return cfg.actor.draw(policy.actor, s, noise).action


def _noise(cfg: Config, actor: Any, obs: ObsRows, key: PRNGKeyArray) -> NoiseRows:
    return jax.random.normal(key, (obs.shape[0], *cfg.actor.noise_shape(actor.act_size)))
