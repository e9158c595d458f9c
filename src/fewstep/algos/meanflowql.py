"""MeanFlowQL: a one-step policy up the critic, held to recorded actions (Wang et al. 2026, arXiv 2511.13035).

The network g(s, x, t) = x - u(s, x, 0, t) is the residual form of a MeanFlow whose average velocity u is over
[0, t] alone, so an action is clip(g(s, e, 1)) of a noise e. On the straight path x_t = (1 - t) a + t e from a
replayed action to a noise, of velocity v = e - a, the actor descends

    E[-mean_i Q_i(s, clip(g(s, e, 1))) + |relu(|g| - 1)|_1 / d + alpha w |g(s, x_t, t) - target|^2 / d],

    target = clip(x_t + (t - 1) v - t dg/dt, -5, 5),      w = (error + 1e-4)^-0.2.

The regression is what keeps the policy near the data, so it is the system to start from recorded episodes
with (docs/data.md). Behaviour, evaluation and the critics' target take the best of five draws.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from typing import Annotated, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Positive, Range, Section, Share, Sizes, Whole
from fewstep.critics.ensemble import CriticConfig, Critics, Ensemble
from fewstep.errors import require
from fewstep.flows import meanflow, residual
from fewstep.nets import velocity_nets
from fewstep.nets.activations import Activation
from fewstep.nets.trained import AdamConfig, Trained, descend
from fewstep.nets.velocity_nets import VelocityNet
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Rows = Float[Array, "batch"]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class ActorConfig(AdamConfig):
    """The network g, Adam on it, and how it is used.

    Attributes:
        net: ``mlp``, or ``decoder``, whose one token is the point with its time (``nets.velocity_nets``).
        hidden: sizes of its hidden layers; of ``decoder`` one equal width for each block.
        activation: between them.
        delay: one policy update per this many critic updates.
        candidates: N of the best-of-N behaviour, evaluation and successor's action. From 1 to 1024.
        bound_weight: weight of the penalty on what lies outside [-1, 1], a mean over action dimensions.
    """

    learning_rate: Positive = 1e-4
    max_grad_norm: NonNegative = 1.0
    net: Literal["mlp", "decoder"] = "mlp"
    hidden: Sizes = (256, 256, 256)
    activation: Activation = "gelu"
    delay: Count = 1
    candidates: Annotated[int, Range(1, 1024)] = 5
    bound_weight: NonNegative = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.net == "mlp" or len(set(self.hidden)) == 1,
            f"actor.hidden must name one size for every block of a decoder, got {list(self.hidden)}",
        )

    def create(self, key: PRNGKeyArray, spec: Spec) -> VelocityNet:
        """A fresh network."""
        sizes = (spec.obs_size, spec.act_size, self.hidden)
        return velocity_nets.create(self.net, key, *sizes, self.activation)


@dataclass(frozen=True)
class RegressionConfig(Section):
    """The MeanFlow regression on replayed actions.

    Attributes:
        gamma: of the adaptive weight (error + 1e-4)^-(1 - gamma); 1 switches it off.
        limit: the target is clipped to [-limit, limit].
    """

    gamma: Share = 0.8
    limit: Positive = 5.0


@dataclass(frozen=True)
class AlphaConfig(Section):
    """alpha, the weight of the regression beside Q, in units of Q.

    ``adaptive`` compares the regression's loss with the mean of those it has kept: every ``period`` policy
    updates one is kept, the last ``window`` of them count.

    Attributes:
        initial: alpha at first. It depends on the scale of Q, and is the setting to tune for a task.
        rule: ``fixed``; ``adaptive``, alpha is multiplied by ``up`` where the loss is more than ``threshold``
            times that mean, and by ``down`` where it is less than the mean divided by ``threshold``.
        start: policy updates before alpha may change.
        period: policy updates between one loss that is kept and the next.
        window: losses whose mean counts; two must be known. At least 2.
        threshold: at least 1.
        up: at least 1.
        down: in (0, 1].
        span: alpha stays between ``initial / span`` and ``span * initial``; at least 1.
    """

    initial: NonNegative = 10.0
    rule: Literal["fixed", "adaptive"] = "fixed"
    start: Whole = 100_000
    period: Count = 2_000
    window: Annotated[int, Range(2)] = 20
    threshold: Annotated[float, Range(1)] = 5.0
    up: Annotated[float, Range(1)] = 1.2
    down: Annotated[float, Range(0, 1, low_open=True)] = 0.8
    span: Annotated[float, Range(1)] = 10.0


@dataclass(frozen=True)
class MeanFlowQLConfig(Section):
    """All of MeanFlowQL.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    alpha: AlphaConfig = field(default_factory=AlphaConfig)
    critic: CriticConfig = field(
        default_factory=lambda: CriticConfig(
            trunk="layernorm", hidden=(512,) * 4, activation="gelu", reduce="mean", max_grad_norm=1.0
        )
    )


class Alpha(eqx.Module):
    """alpha, the losses it is judged by (the newest last, 0 where none is known yet), and policy updates.

    With ``alpha.rule = "fixed"`` no losses are kept.
    """

    value: Scalar
    losses: Float[Array, "window"]
    updates: Int[Array, ""]

    @staticmethod
    def create(cfg: AlphaConfig) -> "Alpha":
        """Before the first update."""
        kept = cfg.window if cfg.rule == "adaptive" else 0
        return Alpha(jnp.float32(cfg.initial), jnp.zeros(kept), jnp.int32(0))

    def follow(self, cfg: AlphaConfig, loss: Scalar) -> "Alpha":
        """After a policy update whose regression had this loss."""
        updates = self.updates + 1
        if cfg.rule == "fixed":
            return replace(self, updates=updates)
        due, kept = updates % cfg.period == 0, jnp.minimum(self.updates // cfg.period, cfg.window)
        mean = self.losses.sum() / jnp.maximum(kept, 1)
        judged = due & (kept >= 2) & (updates >= cfg.start)
        raised = jnp.minimum(self.value * cfg.up, cfg.initial * cfg.span)
        lowered = jnp.maximum(self.value * cfg.down, cfg.initial / cfg.span)
        value = jnp.where(judged & (loss > mean * cfg.threshold), raised, self.value)
        value = jnp.where(judged & (loss < mean / cfg.threshold), lowered, value)
        losses = jnp.where(due, jnp.append(self.losses[1:], loss), self.losses)
        return Alpha(value, losses, updates)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ACTION = 2
    NOISE = 3
    TIME = 4


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``held`` are the metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is
    constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[VelocityNet]
    critics: Critics
    alpha: Alpha
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


class Policy(eqx.Module):
    """What acts: the network, and the critics that choose among candidates."""

    actor: VelocityNet
    critics: Ensemble


class Noises(NamedTuple):
    """Of one policy update: those of the actions that are valued, and the regression's with its times."""

    action: ActRows
    path: ActRows
    time: Rows


def init(cfg: MeanFlowQLConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target networks start as copies."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    return State(
        actor=Trained.start(cfg.actor, cfg.actor.create(k_actor, spec)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        alpha=Alpha.create(cfg.alpha),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: MeanFlowQLConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q'(s', a'), a' the best of N by Q'; then the policy."""
    nxt = successor(cfg, state, batch.next_obs)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs, batch.action),
    )
    return state, metrics | held


def successor(cfg: MeanFlowQLConfig, state: State, obs: ObsRows) -> ActRows:
    """Of each state the best of N draws by the target networks."""
    actor = state.actor.params
    shape = (obs.shape[0], cfg.actor.candidates, actor.act_size)
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), shape)
    drawn = jax.vmap(lambda s, each: jax.vmap(partial(draw, actor, s))(each))(obs, noise)
    return dp.best(state.critics.target_q(cfg.critic), obs, drawn)[0]


def at_end(actor: VelocityNet, s: Obs, noise: Vector) -> Vector:
    """g(s, e, 1): the end of the path that begins at the noise, in the box or not."""
    return actor(s, noise, jnp.ones((), noise.dtype))


def draw(actor: VelocityNet, s: Obs, noise: Vector) -> Vector:
    """The action of the noise: one network evaluation."""
    return jnp.clip(at_end(actor, s, noise), -1.0, 1.0)


def improve(
    cfg: MeanFlowQLConfig, state: State, q: QFunction, obs: ObsRows, action: ActRows
) -> tuple[State, Metrics]:
    """The policy up Q and towards replayed actions; then alpha.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    noises = Noises(
        jax.random.normal(use_key(state, Use.ACTION), action.shape),
        jax.random.normal(use_key(state, Use.NOISE), action.shape),
        residual.sample_times(use_key(state, Use.TIME), action.shape[:1]),
    )
    alpha = state.alpha
    actor, loss, metrics = descend(
        cfg.actor, state.actor, actor_loss, cfg, q, alpha.value, obs, action, noises
    )
    state = replace(state, actor=actor, alpha=alpha.follow(cfg.alpha, metrics["regression/loss"]))
    return state, {"actor/loss": loss, "regression/alpha": alpha.value} | metrics


def actor_loss(
    actor: VelocityNet,
    cfg: MeanFlowQLConfig,
    q: QFunction,
    alpha: Scalar,
    obs: ObsRows,
    action: ActRows,
    noises: Noises,
) -> tuple[Scalar, Metrics]:
    """-Q of the policy's actions, the penalty on leaving the box, alpha times the regression; and metrics.

    Differentiates: actor, pathwise; nothing of Q where an action is clipped.
    """
    drawn = jax.vmap(partial(at_end, actor))(obs, noises.action)
    value = jax.vmap(q)(obs, jnp.clip(drawn, -1.0, 1.0)).mean()
    outside = jnp.mean(jax.nn.relu(jnp.abs(drawn) - 1.0))
    pulled, error = regression(actor, cfg.regression, obs, action, noises.path, noises.time)
    metrics = {
        "actor/q": value,
        "actor/bound": outside,
        "regression/loss": pulled,
        "regression/error": error,
    }
    return alpha * pulled - value + cfg.actor.bound_weight * outside, metrics


def regression(
    actor: VelocityNet, cfg: RegressionConfig, obs: ObsRows, action: ActRows, noise: ActRows, time: Rows
) -> tuple[Scalar, Scalar]:
    """E[w |g - target|^2 / d] on the paths from actions to noises, and the same without weights.

    Differentiates: actor, not through the target or the weights.
    """

    def one(s: Obs, a: Vector, e: Vector, t: Scalar) -> tuple[Scalar, Scalar]:
        x, v = meanflow.interpolate(a, e, t), e - a
        g, _, target = residual.residual_target(
            lambda x, _, t: (actor(s, x, t), None), x, jnp.zeros_like(t), t, v, cfg.limit
        )
        error = jnp.mean((g - target) ** 2)
        return residual.adaptive_weight(error, cfg.gamma) * error, error

    weighted, error = jax.vmap(one)(obs, action, noise, time)
    return weighted.mean(), error.mean()


ALGORITHM = Algorithm(
    name="meanflowql",
    title="MeanFlowQL: a one-step policy up the critic, held to recorded or replayed actions",
    config=MeanFlowQLConfig,
    init=init,
    update=update,
    policy=lambda state: Policy(state.actor.params, state.critics.target_ensemble),
    noise=lambda cfg, policy: (policy.actor.act_size,),
    draw=lambda cfg, policy, s, noise: draw(policy.actor, s, noise),
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    behaviour=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    tiny={"actor.hidden": (16, 16), "actor.candidates": 3, "critic.hidden": (16, 16)},
    citation="""@inproceedings{wang2026meanflowql,
  title     = {One-Step Generative Policies with Q-Learning: A Reformulation of MeanFlow},
  author    = {Wang, Zeyuan and Li, Da and Chen, Yulin and Shi, Ye and Bai, Liang and Yu, Tianyuan
               and Fu, Yanwei},
  booktitle = {AAAI Conference on Artificial Intelligence},
  year      = {2026}
}""",
)
