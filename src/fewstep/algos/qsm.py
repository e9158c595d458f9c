"""QSM: Q-score matching (Psenka et al. 2024, arXiv 2312.11752).

The score of the Boltzmann policy exp(M Q) is M grad_a Q, so a diffusion policy can be fitted to the critic's
gradient without drawing actions and without differentiating the sampler:

    L = E |eps(s, x_t, t) - e_Q|^2,      e_Q = -sqrt(1 - ab_t) M grad_x Q(s, x_t),

on replay actions noised to x_t. The gradient is taken at the noised action: right for little noise.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.diffusion_policy import DiffusionConfig, DiffusionPolicy, Noised
from fewstep.config import ReplayConfig
from fewstep.config.settings import NonNegative, Positive, Range, Section, Share
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.critics.heads import combine
from fewstep.flows import diffusion
from fewstep.nets.noise_net import NoiseNet
from fewstep.nets.trained import Trained, descend
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]
Factor = Literal["noise", "one"]


@dataclass(frozen=True)
class ActorConfig(DiffusionConfig):
    """The diffusion policy, Adam on it, and the target of its noise.

    Attributes:
        inverse_temperature: M, per reward unit: the policy is to be proportional to exp(M Q).
        factor: what makes a noise of the gradient of M Q: ``noise``, the factor sqrt(1 - ab_t) that makes it
            the score; or ``one`` (authors), with which the policy is narrower than exp(M Q) at small noise.
        exploration_noise: standard deviation of the Gaussian added to actions while experience is collected,
            and to the successor's action, which is then clipped.
    """

    steps: Annotated[int, Range(1, 1000)] = 5
    schedule: diffusion.Schedule = "vp"
    inverse_temperature: Positive = 50.0
    factor: Factor = "noise"
    exploration_noise: NonNegative = 0.1


@dataclass(frozen=True)
class QSMConfig(Section):
    """All of QSM.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    EXPLORATION = 2
    NOISE = 3


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``held`` are the metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is
    constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[NoiseNet]
    critics: Critics
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: QSMConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    return State(
        actor=Trained.start(cfg.actor, cfg.actor.create(k_actor, spec)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: QSMConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' as it would be collected; then the policy."""
    drawn = dp.draw_rows(cfg.actor, state.actor.params, batch.next_obs, use_key(state, Use.NEXT_ACTION))
    noise = cfg.actor.exploration_noise * jax.random.normal(use_key(state, Use.EXPLORATION), drawn.shape)
    nxt = jnp.clip(drawn + noise, -1.0, 1.0)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    part = slice(cfg.actor.batch_size or None)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, mean_q(cfg, critics), batch.obs[part], batch.action[part]),
    )
    return state, metrics | held


def mean_q(cfg: QSMConfig, critics: Critics) -> QFunction:
    """The mean of the critics, whose gradient is the mean of theirs."""
    return lambda s, a: combine(critics.online_ensemble.values(cfg.critic, s, a), "mean")


def improve(
    cfg: QSMConfig, state: State, q: QFunction, obs: ObsRows, action: ActRows
) -> tuple[State, Metrics]:
    """Fit the noise to the gradient of ``q`` at replay actions that are noised to a random step.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    at = Noised.of(cfg.actor, use_key(state, Use.NOISE), action)
    target = jax.vmap(lambda s, x, ab: noise_target(cfg.actor, q, s, x, ab))(obs, at.x, at.ab)
    actor, loss, _ = descend(cfg.actor, state.actor, dp.regression, obs, at, target, jnp.ones(obs.shape[0]))
    size = jnp.linalg.norm(target, axis=-1).mean()
    return replace(state, actor=actor), {"actor/loss": loss, "actor/target_norm": size}


def noise_target(cfg: ActorConfig, q: QFunction, s: Obs, x: Vector, ab: Scalar) -> Vector:
    """The noise at ``x`` that stands for the gradient  of M Q there."""
    gradient = cfg.inverse_temperature * jax.grad(q, argnums=1)(s, x)
    return diffusion.noise_by_gradient(ab, gradient) if cfg.factor == "noise" else -gradient


def explore(cfg: QSMConfig, policy: DiffusionPolicy, action: Vector, noise: Vector) -> Vector:
    """The action plus Gaussian noise; collecting clips it to the action bounds."""
    return action + cfg.actor.exploration_noise * noise


ALGORITHM = Algorithm(
    name="qsm",
    title="Q-score matching: a diffusion policy whose score is the critic's gradient",
    config=QSMConfig,
    init=init,
    update=update,
    policy=lambda state: DiffusionPolicy(state.actor.params, state.critics.target_ensemble),
    noise=dp.noise_shape,
    draw=dp.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    explore=explore,
    native=lambda cfg: ActionMode(),
    tiny={"actor.hidden": (16, 16), "actor.time_features": 4, "actor.steps": 3, "critic.hidden": (16, 16)},
    citation="""@inproceedings{psenka2024qsm,
  title     = {Learning a Diffusion Model Policy from Rewards via Q-Score Matching},
  author    = {Psenka, Michael and Escontrela, Alejandro and Abbeel, Pieter and Ma, Yi},
  booktitle = {International Conference on Machine Learning},
  year      = {2024}
}""",
)
