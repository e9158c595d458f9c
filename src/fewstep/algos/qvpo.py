"""QVPO: Q-weighted variational policy optimisation (Ding et al. 2024, arXiv 2405.16173).

A diffusion policy learns to denoise the best of its own actions, weighted by how much better than their mean
it is:

    L = E_s [w(s) |e - eps(s, x_t, t)|^2],    w = Q(s, a*) - mean_k Q(s, a_k),    a* = argmax_k Q(s, a_k),

and beside them uniform actions at a small share of that weight, which stand for an entropy bonus.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.diffusion_policy import DiffusionConfig, DiffusionPolicy, Noised
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Positive, Range, Section, Share, Whole
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets.noise_net import NoiseNet
from fewstep.nets.trained import Trained, copied, descend, polyak
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
ObsRows = Float[Array, "batch obs"]


@dataclass(frozen=True)
class ActorConfig(DiffusionConfig):
    """The diffusion policy, Adam on it, and how it is used.

    Attributes:
        tau: Polyak rate of the target policy, which draws the successor's action.
        candidates: K of the best-of-K behaviour. From 1 to 1024.
        target_candidates: K of the successor's action. From 1 to 1024.
        evaluation_candidates: K of the native evaluation. From 1 to 1024.
    """

    learning_rate: Positive = 1e-4
    eps: Positive = 1e-5
    max_grad_norm: NonNegative = 2.0
    tau: Share = 0.005
    candidates: Annotated[int, Range(1, 1024)] = 4
    target_candidates: Annotated[int, Range(1, 1024)] = 4
    evaluation_candidates: Annotated[int, Range(1, 1024)] = 32


@dataclass(frozen=True)
class RegressionConfig(Section):
    """What the policy learns to denoise.

    Attributes:
        candidates: own actions drawn per state, two or more; the best is learned from, their mean value is
            the baseline.
        uniform: uniform actions per state beside it; 0: no entropy term.
        uniform_share: of the best action's weight that each of them has, at first.
        uniform_final_share: the same after ``uniform_updates``; it changes linearly in between.
        uniform_updates: updates over which it changes.
    """

    candidates: Annotated[int, Range(2)] = 64
    uniform: Whole = 10
    uniform_share: NonNegative = 0.02
    uniform_final_share: NonNegative = 0.002
    uniform_updates: Count = 1_000_000

    def share(self, updates: Int[Array, ""]) -> Scalar:
        """The share of a uniform action's weight after so many updates."""
        passed = jnp.minimum(1.0, updates / self.uniform_updates)
        return self.uniform_share + (self.uniform_final_share - self.uniform_share) * passed


@dataclass(frozen=True)
class QVPOConfig(Section):
    """All of QVPO.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    CANDIDATES = 2
    UNIFORM = 3
    NOISE = 4


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_actor`` is the Polyak average of the policy; ``held`` are the metrics of the last policy update,
    repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[NoiseNet]
    target_actor: NoiseNet
    critics: Critics
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: QVPOConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target networks start as copies."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = cfg.actor.create(k_actor, spec)
    return State(
        actor=Trained.start(cfg.actor, actor),
        target_actor=copied(actor),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: QVPOConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' the target policy's best of K; then the policy."""
    count, key = cfg.actor.target_candidates, use_key(state, Use.NEXT_ACTION)
    drawn = dp.draw_candidates(cfg.actor, state.target_actor, batch.next_obs, count, key)
    nxt, _ = dp.best(state.critics.target_q(cfg.critic), batch.next_obs, drawn)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs[: cfg.actor.batch_size or None]),
    )
    return state, metrics | held


def improve(cfg: QVPOConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """Denoise the best of the policy's own actions and uniform ones; the target policy follows.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    learned, act_size = cfg.regression, state.actor.params.act_size
    drawn = dp.draw_candidates(
        cfg.actor, state.actor.params, obs, learned.candidates, use_key(state, Use.CANDIDATES)
    )
    top, values = dp.best(q, obs, drawn)
    advantage = values.max(axis=1) - values.mean(axis=1)

    count = learned.uniform
    shape = (obs.shape[0], count, act_size)
    uniform = jax.random.uniform(use_key(state, Use.UNIFORM), shape, minval=-1.0, maxval=1.0)
    share = learned.share(state.updates)
    actions = jnp.concatenate([top[:, None], uniform], axis=1).reshape(-1, act_size)
    weight = (advantage[:, None] * jnp.concatenate([jnp.ones(1), jnp.full(count, share)])).reshape(-1)
    at = Noised.of(cfg.actor, use_key(state, Use.NOISE), actions)
    rows = jnp.repeat(obs, 1 + count, axis=0)
    actor, loss, error = descend(cfg.actor, state.actor, dp.regression, rows, at, at.e, weight)

    target_actor = polyak(state.target_actor, actor.params, cfg.actor.tau)
    metrics = {
        "actor/loss": loss,
        "actor/noise_error": error,
        "policy/candidate_q_gap": advantage.mean(),
        "policy/candidate_q_std": values.std(axis=1).mean(),
        "policy/uniform_share": share,
    }
    return replace(state, actor=actor, target_actor=target_actor), metrics


ALGORITHM = Algorithm(
    name="qvpo",
    title="Q-weighted variational policy optimisation: a diffusion policy denoises its own best actions",
    config=QVPOConfig,
    init=init,
    update=update,
    policy=lambda state: DiffusionPolicy(state.actor.params, state.critics.online_ensemble),
    noise=dp.noise_shape,
    draw=dp.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(candidates=cfg.actor.evaluation_candidates),
    behaviour=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    tiny={
        "actor.hidden": (16, 16),
        "actor.time_features": 4,
        "actor.steps": 3,
        "regression.candidates": 3,
        "regression.uniform": 2,
        "critic.hidden": (16, 16),
    },
    citation="""@inproceedings{ding2024qvpo,
  title     = {Diffusion-based Reinforcement Learning via Q-weighted Variational Policy Optimization},
  author    = {Ding, Shutong and Hu, Ke and Zhang, Zhenhao and Ren, Kan and Zhang, Weinan and Yu, Jingyi and
               Wang, Jingya and Shi, Ye},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024}
}""",
)
