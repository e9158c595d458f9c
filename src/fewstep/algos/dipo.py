"""DIPO: policy representation via diffusion probability model (Yang et al. 2023, arXiv 2305.13122).

The actions in the replay buffer are moved up the critic's gradient and written back, and a diffusion policy
learns to denoise them: it never sees the critic itself.

    a <- a + eta grad_a Q(s, a),  repeatedly;      L = E |e - eps(s, x_t, t)|^2,  x_t from the moved actions.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.action_memory import ActionMemory
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.diffusion_policy import DiffusionConfig, DiffusionPolicy, Noised
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Positive, Range, Section, Share
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets.noise_net import NoiseNet
from fewstep.nets.trained import AdamConfig, Trained, copied, descend, polyak
from fewstep.types import Spec, Transition

ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class ActorConfig(DiffusionConfig):
    """The diffusion policy and Adam on it.

    Attributes:
        tau: Polyak rate of the target policy, which draws the successor's action.
    """

    eps: Positive = 1e-5
    max_grad_norm: NonNegative = 2.0
    steps: Annotated[int, Range(1, 1000)] = 100
    tau: Share = 0.005


@dataclass(frozen=True)
class RelabelConfig(AdamConfig):
    """How the kept actions are improved each time they are drawn: Adam up Q, from fresh moments.

    Attributes:
        learning_rate: at the first step, in units of the action.
        max_grad_norm: the gradient of the whole batch is clipped to it, as in the authors' code; 0: never.
            What Adam leaves of the clip are the ratios between the steps.
        steps: of Adam, per policy update.
    """

    learning_rate: Positive = 0.03
    max_grad_norm: NonNegative = 0.5
    steps: Count = 20


@dataclass(frozen=True)
class DIPOConfig(Section):
    """All of DIPO.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    relabel: RelabelConfig = field(default_factory=RelabelConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    NOISE = 2


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_actor`` is the Polyak average of the policy, ``memory`` the improved actions; ``held`` are the
    metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is constant,
    ``updates`` counts the calls of ``update``.
    """

    actor: Trained[NoiseNet]
    target_actor: NoiseNet
    critics: Critics
    memory: ActionMemory
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: DIPOConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target networks start as copies."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = cfg.actor.create(k_actor, spec)
    return State(
        actor=Trained.start(cfg.actor, actor),
        target_actor=copied(actor),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        memory=ActionMemory.create(cfg.replay.capacity, spec.act_size),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: DIPOConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' ~ the target policy; then kept actions and policy."""
    nxt = dp.draw_rows(cfg.actor, state.target_actor, batch.next_obs, use_key(state, Use.NEXT_ACTION))
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    part = slice(cfg.actor.batch_size or None)
    rows = batch.obs[part], batch.action[part], batch.number[part]
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.q(cfg.critic), *rows),
    )
    return state, metrics | held


def improve(
    cfg: DIPOConfig,
    state: State,
    q: QFunction,
    obs: ObsRows,
    taken: ActRows,
    number: Int[Array, "batch"],
) -> tuple[State, Metrics]:
    """Move the kept actions up ``q``, write them back, and denoise them; the target policy follows.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    kept = state.memory.read(number, taken)
    moved, values = climbed(cfg.relabel, q, obs, kept)
    at = Noised.of(cfg.actor, use_key(state, Use.NOISE), moved)
    ones = jnp.ones(obs.shape[0])
    actor, loss, _ = descend(cfg.actor, state.actor, dp.regression, obs, at, at.e, ones)
    target_actor = polyak(state.target_actor, actor.params, cfg.actor.tau)
    metrics = {
        "actor/loss": loss,
        "policy/relabel_gain": values[-1] - values[0],
        "policy/relabel_distance": jnp.linalg.norm(moved - taken, axis=-1).mean(),
    }
    memory = state.memory.write(number, moved)
    return replace(state, actor=actor, target_actor=target_actor, memory=memory), metrics


def climbed(
    cfg: RelabelConfig, q: QFunction, obs: ObsRows, actions: ActRows
) -> tuple[ActRows, Float[Array, "steps"]]:
    """The actions after Adam's steps up ``q``, each cut to [-1, 1], and their mean value before every step.

    Algorithm 2 of the paper.
    """

    def climb(now: Trained[ActRows], _: None) -> tuple[Trained[ActRows], Array]:
        values, up = jax.vmap(jax.value_and_grad(q, argnums=1))(obs, now.params)
        moved = now.step(cfg, -up)
        return replace(moved, params=jnp.clip(moved.params, -1.0, 1.0)), values.mean()

    moved, values = lax.scan(climb, Trained.start(cfg, actions), None, cfg.steps)
    return moved.params, values


ALGORITHM = Algorithm(
    name="dipo",
    title="DIPO: a diffusion policy denoises replay actions that were moved up the critic's gradient",
    config=DIPOConfig,
    init=init,
    update=update,
    policy=lambda state: DiffusionPolicy(state.actor.params, state.critics.target_ensemble),
    noise=dp.noise_shape,
    draw=dp.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(noise_free=True),
    numbered=True,
    tiny={
        "replay.capacity": 1000,
        "actor.hidden": (16, 16),
        "actor.time_features": 4,
        "actor.steps": 3,
        "relabel.steps": 2,
        "critic.hidden": (16, 16),
    },
    citation="""@article{yang2023dipo,
  title   = {Policy Representation via Diffusion Probability Model for Reinforcement Learning},
  author  = {Yang, Long and Huang, Zhixiong and Lei, Fenghao and Zhong, Yucun and Yang, Yiming and
             Fang, Cong and Wen, Shiting and Zhou, Binbin and Lin, Zhouchen},
  journal = {arXiv preprint arXiv:2305.13122},
  year    = {2023}
}""",
)
