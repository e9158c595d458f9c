"""SAC: Soft Actor-Critic (arXiv 1812.05905), the Gaussian control of the expressive policies.

A tanh-Gaussian policy (``shared.tanh_gaussian``) on any critic (``critics.ensemble``), both on any trunk
(``nets.trunks``). docs/algorithms/sac.md holds the mathematics and the sources of the presets.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import tanh_gaussian
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.tanh_gaussian import ActorConfig, GaussianPolicy, TanhGaussian
from fewstep.algos.shared.temperature import Temperature, TemperatureConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Section, Share
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets import trunks
from fewstep.nets.trained import Averaged, Trained, descend
from fewstep.nets.trunks import NetStats
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class SACConfig(Section):
    """All of SAC.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    temperature: TemperatureConfig = field(
        default_factory=lambda: TemperatureConfig(initial=1.0, target_entropy_per_dim=-1.0)
    )


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ACTION = 2


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``stats`` are the actor's running statistics, empty without batch normalisation; they move on policy
    updates alone. ``averaged`` are averages of actor and statistics over policy updates (``actor.average``).
    ``held`` are the metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is
    constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[TanhGaussian]
    stats: NetStats
    averaged: Averaged[tuple[TanhGaussian, NetStats]]
    critics: Critics
    temperature: Temperature
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: SACConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = TanhGaussian.create(k_actor, spec, cfg.actor, cfg.actor.log_std_min)
    stats = trunks.empty_stats(actor.net)
    return State(
        actor=Trained.start(cfg.actor, actor),
        stats=stats,
        averaged=Averaged.start(cfg.actor.average, (actor, stats)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def policy(state: State) -> GaussianPolicy:
    """What is evaluated and saved: the averaged policy, if ``actor.average`` asks for one."""
    actor, stats = state.averaged.of((state.actor.params, state.stats))
    return GaussianPolicy(actor, state.critics.target_ensemble, stats)


def collector(state: State) -> GaussianPolicy:
    """What collects experience: the policy as it was last updated."""
    return GaussianPolicy(state.actor.params, state.critics.target_ensemble, state.stats)


def update(cfg: SACConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma (Q(s', a') - alpha log pi(a'|s')), a' ~ pi; then the policy with them.

    a' comes from the actor in evaluation mode: the batch of successors leaves no trace in its statistics.
    """
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), batch.action.shape)
    actor, stats = state.actor.params, state.stats
    nxt = jax.vmap(lambda s, e: tanh_gaussian.draw(actor, s, e, stats))(batch.next_obs, noise)
    bonus = -state.temperature.alpha * nxt.log_prob
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt.action, bonus)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs),
    )
    return state, metrics | held


def improve(cfg: SACConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """Actor and its statistics up Q - alpha log pi; then the temperature, by the old actor's entropy.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    act_size = state.actor.params.act_size
    noise = jax.random.normal(use_key(state, Use.ACTION), (obs.shape[0], act_size))
    actor, loss, seen = descend(
        cfg.actor, state.actor, actor_loss, state.stats, q, state.temperature.alpha, obs, noise
    )
    actor = replace(actor, params=replace(actor.params, net=trunks.projected(actor.params.net)))
    averaged = state.averaged.moved(cfg.actor.average, (actor.params, seen.stats), actor.steps)
    temperature, metrics = state.temperature.adjusted(cfg.temperature, seen.entropy, act_size)
    metrics |= {"actor/loss": loss, "actor/q": seen.q, "policy/entropy": seen.entropy}
    state = replace(state, actor=actor, averaged=averaged, stats=seen.stats, temperature=temperature)
    return state, metrics


class Improvement(NamedTuple):
    """What the actor's loss gives beside its value: mean Q, entropy in nats, and the new statistics."""

    q: Scalar
    entropy: Scalar
    stats: NetStats


def actor_loss(
    actor: TanhGaussian, stats: NetStats, q: QFunction, alpha: Scalar, obs: ObsRows, noise: ActRows
) -> tuple[Scalar, Improvement]:
    """E[alpha log pi(a|s) - Q(s, a)] with a = a(s, noise). Differentiates: actor, pathwise.

    The actor is in training mode: gradients pass through the statistics of the batch, where it has any.
    ``q`` is in evaluation mode.
    """
    (mean, log_std), stats = actor.train(stats, obs)
    drawn = jax.vmap(tanh_gaussian.squash)(mean, log_std, noise)
    value, log_prob = jax.vmap(q)(obs, drawn.action).mean(), drawn.log_prob.mean()
    return alpha * log_prob - value, Improvement(value, -log_prob, stats)


ALGORITHM = Algorithm(
    name="sac",
    title="Soft Actor-Critic: a tanh-Gaussian policy under maximum-entropy RL",
    config=SACConfig,
    init=init,
    update=update,
    policy=policy,
    collector=collector,
    noise=tanh_gaussian.noise_shape,
    draw=tanh_gaussian.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(noise_free=True),
    images=True,
    tiny={"actor.hidden": (16, 16), "critic.hidden": (16, 16)},
    citation="""@article{haarnoja2018sac,
  title   = {Soft Actor-Critic Algorithms and Applications},
  author  = {Haarnoja, Tuomas and Zhou, Aurick and Hartikainen, Kristian and Tucker, George and Ha, Sehoon and
             Tan, Jie and Kumar, Vikash and Zhu, Henry and Gupta, Abhishek and Abbeel, Pieter and
             Levine, Sergey},
  journal = {arXiv preprint arXiv:1812.05905},
  year    = {2018}
}""",
)
