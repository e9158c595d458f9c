"""FlowRL: a flow policy held to what is better in the replay buffer (Lv et al. 2025, arXiv 2506.12811).

The actor climbs the critics through its ODE. Beside that it regresses on replayed actions, the more the
better they are than its own,

    L = E[-Q(s, pi(s)) + w |v(s, x_t, t) - (e - z)|^2 / d],      w = clip(lam exp(D - mean D), 1e-3, 1),

z being the replayed action before the squashing, and D = (Q_b(s, a) - Q(s, pi(s)))_+ by a second pair of
critics Q_b, of the best behaviour in the buffer: learned as in IQL (arXiv 2110.06169) from an expectile V_b.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from typing import Annotated, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import flow_regression
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.flow_policy import FlowConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, Positive, Range, Section, Share, Sizes
from fewstep.critics.ensemble import CriticConfig, Critics, Ensemble
from fewstep.critics.heads import td_target
from fewstep.errors import require
from fewstep.nets.activations import Activation
from fewstep.nets.mlp import MLP
from fewstep.nets.trained import AdamConfig, Trained, copied, descend, polyak
from fewstep.nets.velocity_nets import VelocityNet
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Rows = Float[Array, "batch"]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]
LARGEST = 0.999
"""Replayed actions are clipped to it before the squashing is undone: arctanh(0.999) = 3.8."""


@dataclass(frozen=True)
class BehaviourConfig(AdamConfig):
    """The critics of the best behaviour in the buffer, and Adam on them.

    Attributes:
        hidden: sizes of the hidden layers, which are normalised by LayerNorm.
        activation: between them.
        expectile: level of V_b among the values of replayed actions, in (0.5, 1).
        tau: Polyak rate of the target networks of Q_b.
        target_delay: updates per step of them.
    """

    hidden: Sizes = (512, 512)
    activation: Activation = "gelu"
    expectile: Annotated[float, Range(0.5, 1, low_open=True, high_open=True)] = 0.9
    tau: Share = 0.005
    target_delay: Count = 2


@dataclass(frozen=True)
class RegressionConfig(Section):
    """The regression on replayed actions.

    Attributes:
        weight: lam.
        smallest: of the weights, at most ``largest``.
        largest: of the weights.
        average: ``rows``, each row's error is multiplied by its own weight; ``batch``, the mean error by the
            mean weight, which is what the authors' code does: no row counts more than another.
        target: ``latent``, the replayed action before the squashing; ``action``, the action itself, as in the
            authors' code: a flow that meets it gives tanh(a).
    """

    weight: Positive = 0.1
    smallest: Positive = 1e-3
    largest: Positive = 1.0
    average: Literal["rows", "batch"] = "rows"
    target: Literal["latent", "action"] = "latent"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.smallest <= self.largest,
            "regression.smallest must be at most regression.largest, got "
            f"{self.smallest:g} and {self.largest:g}",
        )

    def weights(self, better: Rows) -> Rows:
        """Of the rows, from D >= 0."""
        return jnp.clip(self.weight * jnp.exp(better - better.mean()), self.smallest, self.largest)


@dataclass(frozen=True)
class FlowRLConfig(Section):
    """All of FlowRL.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: FlowConfig = field(default_factory=FlowConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    critic: CriticConfig = field(
        default_factory=lambda: CriticConfig(
            trunk="layernorm", hidden=(512, 512), activation="gelu", target_delay=2
        )
    )


def expectile_loss(error: Array, level: float) -> Array:
    """|level - 1(error < 0)| error^2, minimised over a constant by the expectile (Newey and Powell 1987)."""
    return jnp.where(error < 0, 1.0 - level, level) * error**2


class Behaviour(eqx.Module):
    """Q_b, two networks with their Polyak averages, and V_b."""

    q: Trained[tuple[MLP, MLP]]
    target: tuple[MLP, MLP]
    v: Trained[MLP]

    @staticmethod
    def create(cfg: BehaviourConfig, spec: Spec, key: PRNGKeyArray) -> "Behaviour":
        """Fresh networks."""
        one, two, value = jax.random.split(key, 3)

        def net(key: PRNGKeyArray, inputs: int) -> MLP:
            return MLP.create(key, inputs, cfg.hidden, 1, activation=cfg.activation)

        inputs = spec.obs_size + spec.act_size
        nets = (net(one, inputs), net(two, inputs))
        return Behaviour(
            Trained.start(cfg, nets), copied(nets), Trained.start(cfg, net(value, spec.obs_size))
        )

    def values(self, batch: Transition) -> Rows:
        """Q_b of the batch's own actions, the minimum of the two."""
        return jax.vmap(partial(_lower, self.q.params))(batch.obs, batch.action)

    def fit(
        self, cfg: BehaviourConfig, discount: float, updates: Int[Array, ""], batch: Transition
    ) -> tuple["Behaviour", Metrics]:
        """Q_b towards r + gamma V_b(s'), V_b towards the expectile of the target networks' Q_b(s, a)."""
        ahead = jax.vmap(self.v.params)(batch.next_obs)[:, 0]
        gamma = discount if batch.discount is None else batch.discount
        wanted = td_target(batch.reward, batch.terminated, gamma, ahead)
        held = jax.vmap(partial(_lower, self.target))(batch.obs, batch.action)
        q, q_loss, _ = descend(cfg, self.q, _q_loss, batch, wanted)
        v, v_loss, _ = descend(cfg, self.v, _v_loss, cfg.expectile, batch.obs, held)
        due = updates % cfg.target_delay == 0
        target = lax.cond(due, lambda old: polyak(old, q.params, cfg.tau), lambda old: old, self.target)
        return Behaviour(q, target, v), {"behaviour/q_loss": q_loss, "behaviour/v_loss": v_loss}


def _lower(nets: tuple[MLP, MLP], s: Obs, a: Vector) -> Scalar:
    return jnp.minimum(*(net(s, a)[0] for net in nets))


def _q_loss(nets: tuple[MLP, MLP], batch: Transition, wanted: Rows) -> tuple[Scalar, None]:
    """Sum over the two of half the mean squared error. Differentiates: nets."""
    found = jnp.stack([jax.vmap(net)(batch.obs, batch.action)[:, 0] for net in nets])
    return 0.5 * jnp.sum(jnp.mean((found - wanted) ** 2, axis=1)), None


def _v_loss(net: MLP, level: float, obs: ObsRows, held: Rows) -> tuple[Scalar, None]:
    """Mean expectile loss of Q_b - V_b. Differentiates: net."""
    return jnp.mean(expectile_loss(held - jax.vmap(net)(obs)[:, 0], level)), None


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
    behaviour: Behaviour
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: FlowRLConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes."""
    k_actor, k_behaviour, *k_critics = jax.random.split(
        jax.random.fold_in(key, Use.INIT), 2 + cfg.critic.ensemble
    )
    return State(
        actor=Trained.start(cfg.actor, cfg.actor.create(k_actor, spec)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        behaviour=Behaviour.create(cfg.behaviour, spec, k_behaviour),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: FlowRLConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' ~ pi; those of the behaviour; then the policy."""
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), batch.action.shape)
    nxt = jax.vmap(partial(draw, cfg.actor, state.actor.params))(batch.next_obs, noise)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    same_units = cfg.critic.scaled(batch)  # its values are compared with those of the critics
    behaviour, found = state.behaviour.fit(cfg.behaviour, cfg.discount, state.updates, same_units)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics, behaviour=behaviour),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs, batch.action, behaviour.values(batch)),
    )
    return state, metrics | found | held


def start(noise: Array) -> Array:
    """What the flow starts from: normal noise clipped to the box."""
    return jnp.clip(noise, -1.0, 1.0)


def draw(cfg: FlowConfig, actor: VelocityNet, s: Obs, noise: Vector) -> Vector:
    """The action of the noise; gradients flow through the solver."""
    return cfg.draw(actor, s, start(noise)).action


class FlowPolicy(eqx.Module):
    """What acts: the velocity network, and the critics that choose among candidates."""

    actor: VelocityNet
    critics: Ensemble


def improve(
    cfg: FlowRLConfig, state: State, q: QFunction, obs: ObsRows, action: ActRows, held: Rows
) -> tuple[State, Metrics]:
    """The policy up Q, and towards replayed actions by how much better they are.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics, and as
    ``held`` the values Q_b of the replayed actions.
    """
    noises = Noises(
        jax.random.normal(use_key(state, Use.ACTION), action.shape),
        start(jax.random.normal(use_key(state, Use.NOISE), action.shape)),
        jax.random.uniform(use_key(state, Use.TIME), action.shape[:1]),
    )
    actor, loss, metrics = descend(cfg.actor, state.actor, actor_loss, cfg, q, obs, action, held, noises)
    return replace(state, actor=actor), {"actor/loss": loss} | metrics


class Noises(NamedTuple):
    """Of one policy update: the actions', and the regression's start and time."""

    action: ActRows
    start: ActRows
    time: Rows


def actor_loss(
    actor: VelocityNet,
    cfg: FlowRLConfig,
    q: QFunction,
    obs: ObsRows,
    action: ActRows,
    held: Rows,
    noises: Noises,
) -> tuple[Scalar, Metrics]:
    """E[-Q(s, pi(s)) + w error], and metrics. Differentiates: actor, pathwise; not through w."""
    values = jax.vmap(q)(obs, jax.vmap(partial(draw, cfg.actor, actor))(obs, noises.action))
    weight = lax.stop_gradient(cfg.regression.weights(jax.nn.relu(held - values)))
    error = regression(actor, cfg.regression.target, obs, action, noises)
    pulled = jnp.mean(weight * error) if cfg.regression.average == "rows" else weight.mean() * error.mean()
    metrics = {
        "actor/q": values.mean(),
        "actor/velocity_error": error.mean(),
        "actor/weight_mean": weight.mean(),
        "actor/weight_std": weight.std(),
        "behaviour/better_share": jnp.mean(held > values),
    }
    return pulled - values.mean(), metrics


def regression(
    actor: VelocityNet,
    target: Literal["latent", "action"],
    obs: ObsRows,
    action: ActRows,
    noises: Noises,
) -> Rows:
    """Squared error of the velocity on the straight path to each replayed action, mean over dimensions."""
    z = jnp.arctanh(jnp.clip(action, -LARGEST, LARGEST)) if target == "latent" else action
    return flow_regression.straight(actor, obs, z, noises.start, noises.time)


ALGORITHM = Algorithm(
    name="flowrl",
    title="FlowRL: a flow policy up the critic, held to what is better in the replay buffer",
    config=FlowRLConfig,
    init=init,
    update=update,
    policy=lambda state: FlowPolicy(state.actor.params, state.critics.target_ensemble),
    noise=lambda cfg, policy: (policy.actor.act_size,),
    draw=lambda cfg, policy, s, noise: draw(cfg.actor, policy.actor, s, noise),
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(),
    tiny={"actor.hidden": (16, 16), "behaviour.hidden": (16, 16), "critic.hidden": (16, 16)},
    citation="""@article{lv2025flowrl,
  title   = {Flow-Based Policy for Online Reinforcement Learning},
  author  = {Lv, Lei and Li, Yunfei and Luo, Yu and Sun, Fuchun and Kong, Tao and Xu, Jiafeng and Ma, Xiao},
  journal = {arXiv preprint arXiv:2506.12811},
  year    = {2025}
}""",
)
