"""MDPO: Mirror Descent Policy Optimization (Tomar et al. 2020, arXiv 2005.09814), off-policy.

SAC whose policy steps stay near an older policy: with k = 1 / t_k, the inverse step size of mirror descent,

    L = E[k log pi(a|s) + (lambda - k) log pi_old(a|s) - Q(s, a)],    a ~ pi,

which for lambda = 0 is k KL(pi || pi_old) - E[Q]. docs/algorithms/mdpo.md holds the mathematics and the
sources of the presets.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import tanh_gaussian
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.tanh_gaussian import GaussianPolicy, TanhGaussian
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Positive, Section, Share
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets import trunks
from fewstep.nets.trained import Trained, copied, descend, periodic
from fewstep.nets.trunks import NetStats
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class ActorConfig(tanh_gaussian.ActorConfig):
    """The policy network, Adam on it, what it climbs, and how it collects.

    Attributes:
        value: the Q of its loss: ``critics``, that of all critics together (``critic.reduce``); ``first``,
            that of the first alone, as in the authors' code.
        penalty: weight in its loss of mean(mean^2) + mean(log sigma^2), of the Gaussian before the squashing.
        collects: ``samples`` of the policy; ``means``, which is what the authors' code does: nothing explores
            after the random steps.
    """

    value: Literal["critics", "first"] = "critics"
    penalty: NonNegative = 0.0
    collects: Literal["samples", "means"] = "samples"


@dataclass(frozen=True)
class MirrorConfig(Section):
    """A step of mirror descent.

    Attributes:
        kl: k = 1 / t_k, weight of the KL from the old policy, reward units per nat.
        entropy: lambda, weight of the policy's entropy, in the critics' target, too; reward units per nat.
        period: policy updates from one old policy: a step of mirror descent is this many gradient steps.
    """

    kl: Positive = 1.0
    entropy: NonNegative = 0.2
    period: Count = 1000


@dataclass(frozen=True)
class MDPOConfig(Section):
    """All of MDPO.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    mirror: MirrorConfig = field(default_factory=MirrorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ACTION = 2


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``old`` is the policy that the KL is from, with its statistics: a copy of the actor's, taken at every
    ``mirror.period``-th policy update. ``stats`` are the actor's running statistics, empty without batch
    normalisation. ``held`` are the metrics of the last policy update, repeated while ``actor.delay`` skips
    one; ``key`` is constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[TanhGaussian]
    stats: NetStats
    old: tuple[TanhGaussian, NetStats]
    critics: Critics
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: MDPOConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; the old policy starts as a copy."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = TanhGaussian.create(k_actor, spec, cfg.actor, cfg.actor.log_std_min)
    stats = trunks.empty_stats(actor.net)
    return State(
        actor=Trained.start(cfg.actor, actor),
        stats=stats,
        old=copied((actor, stats)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: MDPOConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma (Q(s', a') - lambda log pi(a'|s')), a' ~ pi; then the policy."""
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), batch.action.shape)
    actor, stats = state.actor.params, state.stats
    nxt = jax.vmap(lambda s, e: tanh_gaussian.draw(actor, s, e, stats))(batch.next_obs, noise)
    bonus = -cfg.mirror.entropy * nxt.log_prob
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt.action, bonus)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, climbed(cfg, critics), batch.obs),
    )
    return state, metrics | held


def climbed(cfg: MDPOConfig, critics: Critics) -> QFunction:
    """The value that the policy's loss has: ``actor.value``."""
    return critics.q(cfg.critic) if cfg.actor.value == "critics" else critics.first_q(cfg.critic)


def improve(cfg: MDPOConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """Actor and its statistics down the loss; the old policy becomes the new one when its time is over.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    noise = jax.random.normal(use_key(state, Use.ACTION), (obs.shape[0], state.actor.params.act_size))
    actor, loss, seen = descend(
        cfg.actor, state.actor, actor_loss, cfg, state.stats, state.old, q, obs, noise
    )
    actor = replace(actor, params=replace(actor.params, net=trunks.projected(actor.params.net)))
    done = state.updates // cfg.actor.delay + 1
    old = periodic(state.old, (actor.params, seen.stats), done, cfg.mirror.period)
    metrics = {"actor/loss": loss, "actor/q": seen.q, "actor/kl_old": seen.kl, "policy/entropy": seen.entropy}
    return replace(state, actor=actor, stats=seen.stats, old=old), metrics


class Improvement(NamedTuple):
    """What the actor's loss gives beside its value: mean Q, in nats the KL from the old policy and the
    entropy, both by the loss's samples, and the new statistics."""

    q: Scalar
    kl: Scalar
    entropy: Scalar
    stats: NetStats


def actor_loss(
    actor: TanhGaussian,
    cfg: MDPOConfig,
    stats: NetStats,
    old: tuple[TanhGaussian, NetStats],
    q: QFunction,
    obs: ObsRows,
    noise: ActRows,
) -> tuple[Scalar, Improvement]:
    """E[k log pi(a|s) + (lambda - k) log pi_old(a|s) - Q(s, a)] with a = a(s, noise).

    Differentiates: actor, pathwise. It is in training mode, the old policy and ``q`` in evaluation mode.
    """
    (mean, log_std), stats = actor.train(stats, obs)
    old_mean, old_log_std = jax.vmap(lambda s: old[0](s, old[1]))(obs)
    drawn = jax.vmap(tanh_gaussian.squash)(mean, log_std, noise)
    z = mean + jnp.exp(log_std) * noise
    log_prob = drawn.log_prob.mean()
    log_old = jax.vmap(tanh_gaussian.log_density)(z, old_mean, old_log_std).mean()
    value = jax.vmap(q)(obs, drawn.action).mean()
    k, weight = cfg.mirror.kl, cfg.mirror.entropy
    loss = k * log_prob + (weight - k) * log_old - value
    loss += cfg.actor.penalty * (jnp.mean(mean**2) + jnp.mean(log_std**2))
    return loss, Improvement(value, log_prob - log_old, -log_prob, stats)


ALGORITHM = Algorithm(
    name="mdpo",
    title="Mirror Descent Policy Optimization: a tanh-Gaussian in steps near an old policy",
    config=MDPOConfig,
    init=init,
    update=update,
    policy=lambda state: GaussianPolicy(state.actor.params, state.critics.target_ensemble, state.stats),
    noise=tanh_gaussian.noise_shape,
    draw=tanh_gaussian.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(noise_free=True),
    behaviour=lambda cfg: ActionMode(noise_free=cfg.actor.collects == "means"),
    tiny={"actor.hidden": (16, 16), "critic.hidden": (16, 16)},
    citation="""@inproceedings{tomar2022mdpo,
  title     = {Mirror Descent Policy Optimization},
  author    = {Tomar, Manan and Shani, Lior and Efroni, Yonathan and Ghavamzadeh, Mohammad},
  booktitle = {International Conference on Learning Representations},
  year      = {2022}
}""",
)
