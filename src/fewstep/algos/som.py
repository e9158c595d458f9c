"""SOM: score-based one-step MeanFlow policy optimisation (Kim et al. 2026, arXiv 2605.23365).

Time 0 is the action, 1 the noise. At replay actions noised by the variance preserving SDE (``flows.vp``) the
velocity is that of its probability-flow ODE by the score of exp(alpha Q / std),

    v(s, x_t, t) = -beta(t) / 2 (x_t + g),     g = grad_x log sum_k exp(alpha Q(s, a_k) / std),

the a_k being actions that x_t may have been made of, which move with x_t (iDEM), and std the spread of all
their values in the batch. The paper has w g / |g| in the place of g (``score.length``).
The policy learns the average velocity u over [r, t] by MeanFlow's identity, du/dt along v,

    L = E [|u(s, x_t, r, t) - (v - (t - r) du/dt)|^2 / c],

c the error itself + 1e-3, a constant. One evaluation draws an action: e - u(s, e, 0, 1).
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import flow_regression
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.flow_actor import FlowActorConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, Positive, Range, Section, Share, Whole
from fewstep.critics.ensemble import CriticConfig, Critics, Ensemble
from fewstep.flows import diffusion, meanflow, vp
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.trained import Trained, descend
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]

EARLIEST = 1e-3
"""t is drawn between this and 1 minus this: at 0 there is no noise to estimate a score from."""
SMALLEST_ERROR = 1e-3
"""Added to the error that a row's weight is the inverse of."""


@dataclass(frozen=True)
class ActorConfig(FlowActorConfig):
    """The MeanFlow, Adam on it, and how it is used.

    Attributes:
        equal_share: share of the rows with r = t, where the network learns the velocity itself.
        delay: one policy update per this many critic updates.
        batch_size: most states of the batch that a policy update uses; 0 means all. At least 0.
        evaluation_candidates: N of the native best-of-N evaluation. From 1 to 1024.
    """

    equal_share: Share = 0.25
    delay: Count = 1
    batch_size: Whole = 0
    evaluation_candidates: Annotated[int, Range(1, 1024)] = 10


@dataclass(frozen=True)
class ScoreConfig(Section):
    """The score that the critic's gradients give, and what the velocity makes of it.

    Attributes:
        candidates: K, actions that a noised action may have been made of, drawn per row.
        proposals: where they are drawn: in the ``box``, outside of which the target is 0; or ``unbounded``
            (literal), up to hundreds of boxes away, where Q is whatever the critics extrapolate to.
        inverse_temperature: alpha, of values divided by their spread in the batch.
        length: ``own``, the score itself, whose flow ends at the density exp(alpha Q / std); ``fixed``
            (literal), its direction times w, which near the action is too short to end at narrow maxima.
        size: w / sqrt(act_size) of a fixed length; that of the score of N(0, I) is about 1.
    """

    candidates: Count = 100
    proposals: Literal["box", "unbounded"] = "box"
    inverse_temperature: Positive = 1.0
    length: Literal["own", "fixed"] = "own"
    size: Positive = 2.0

    def velocities(
        self, q: QFunction, obs: ObsRows, at: "Noised", key: PRNGKeyArray
    ) -> tuple[ActRows, Scalar]:
        """v of each row, and the mean effective sample size of the weights, from 1 to K."""
        score, ess = self.scores(q, obs, at, key)
        if self.length == "fixed":
            score = self.size * jnp.sqrt(score.shape[1]) * jax.vmap(unit)(score)
        return jax.vmap(vp.velocity)(at.t, at.x, score), ess

    def scores(self, q: QFunction, obs: ObsRows, at: "Noised", key: PRNGKeyArray) -> tuple[ActRows, Scalar]:
        """The score of each row by iDEM, and the same size of the weights."""
        ab, shape = vp.alpha_bar(at.t), (at.x.shape[0], self.candidates, at.x.shape[1])
        uniform = jax.random.uniform(key, shape, minval=jnp.finfo(jnp.float32).tiny)
        if self.proposals == "box":
            z = jax.vmap(diffusion.noise_in_box)(ab, at.x, uniform)
            actions = jnp.clip(jax.vmap(diffusion.proposals)(ab, at.x, z), -1.0, 1.0)  # of rounding
        else:
            z = jax.random.normal(key, shape)
            actions = jax.vmap(diffusion.proposals)(ab, at.x, z)
        each = jax.vmap(jax.value_and_grad(q, argnums=1), (None, 0))
        values, gradients = jax.vmap(each)(obs, actions)
        scale = self.inverse_temperature / jnp.maximum(values.std(), jnp.finfo(values.dtype).tiny)
        values, gradients = scale * values, scale * gradients
        if self.proposals == "box":
            score = jax.vmap(diffusion.score_in_box)(ab, at.x, uniform, z, values, gradients)
        else:
            noise = jax.vmap(diffusion.noise_by_weighted_gradients)(ab, values, gradients)
            score = jax.vmap(diffusion.score_of)(ab, noise)
        return score, jnp.mean(1.0 / jnp.sum(jax.nn.softmax(values) ** 2, axis=1))


@dataclass(frozen=True)
class SOMConfig(Section):
    """All of SOM.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    NOISE = 2
    CANDIDATES = 3


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``held`` are the metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is
    constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[FlowNet]
    critics: Critics
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


class Policy(eqx.Module):
    """What acts: the MeanFlow, and the critics that choose among candidates."""

    actor: FlowNet
    critics: Ensemble


class Noised(eqx.Module):
    """Rows to learn the flow at: points ``x`` of time ``t``, and r <= t."""

    x: ActRows
    r: Rows
    t: Rows

    @staticmethod
    def of(key: PRNGKeyArray, actions: ActRows, equal: int) -> "Noised":
        """Each action noised to a uniform time t, r uniform below it; in the first ``equal`` rows r = t."""
        k_t, k_r, k_e = jax.random.split(key, 3)
        rows = actions.shape[0]
        t = jax.random.uniform(k_t, (rows,), minval=EARLIEST, maxval=1.0 - EARLIEST)
        r = jnp.where(jnp.arange(rows) < equal, t, t * jax.random.uniform(k_r, (rows,)))
        e = jax.random.normal(k_e, actions.shape)
        return Noised(jax.vmap(diffusion.noised)(vp.alpha_bar(t), actions, e), r, t)


def unit(g: Vector) -> Vector:
    """g / |g|, also where the squares of g underflow; 0 of 0."""
    tiny = jnp.finfo(g.dtype).tiny
    g = g / jnp.maximum(jnp.abs(g).max(), tiny)
    return g / jnp.maximum(jnp.linalg.norm(g), tiny)


def draw(actor: FlowNet, s: Obs, noise: Vector) -> Vector:
    """The action of the noise, in [-1, 1], by one evaluation."""
    return jnp.clip(meanflow.sample(partial(actor, s), noise, 1), -1.0, 1.0)


def init(cfg: SOMConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target critics start as copies."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    return State(
        actor=Trained.start(cfg.actor, cfg.actor.create(k_actor, spec)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: SOMConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' ~ pi; then the policy."""
    noise = jax.random.normal(use_key(state, Use.NEXT_ACTION), batch.action.shape)
    nxt = jax.vmap(partial(draw, state.actor.params))(batch.next_obs, noise)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    part = slice(cfg.actor.batch_size or None)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs[part], batch.action[part]),
    )
    return state, metrics | held


def improve(
    cfg: SOMConfig, state: State, q: QFunction, obs: ObsRows, action: ActRows
) -> tuple[State, Metrics]:
    """Learn the flow along the score of ``q``, at replay actions that are noised to a random time.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    equal = int(cfg.actor.equal_share * action.shape[0])
    at = Noised.of(use_key(state, Use.NOISE), action, equal)
    v, ess = cfg.score.velocities(q, obs, at, use_key(state, Use.CANDIDATES))
    actor, loss, error = descend(cfg.actor, state.actor, regression, equal, obs, at, v)
    metrics = {"actor/loss": loss, "actor/velocity_error": error, "snis/ess": ess}
    return replace(state, actor=actor), metrics


def regression(actor: FlowNet, equal: int, obs: ObsRows, at: Noised, v: ActRows) -> tuple[Scalar, Scalar]:
    """E[error / (error + 1e-3)], the divisor a constant, and the mean error. Differentiates: actor.

    The error is the MeanFlow residual; in the first ``equal`` rows r = t.
    """
    error = flow_regression.errors(actor, equal, obs, at.x, at.r, at.t, v)
    return jnp.mean(error / lax.stop_gradient(error + SMALLEST_ERROR)), jnp.mean(error)


ALGORITHM = Algorithm(
    name="som",
    title="Score-based one-step MeanFlow: a flow policy along the critic's score",
    config=SOMConfig,
    init=init,
    update=update,
    policy=lambda state: Policy(state.actor.params, state.critics.target_ensemble),
    noise=lambda cfg, policy: (policy.actor.outputs,),
    draw=lambda cfg, policy, s, noise: draw(policy.actor, s, noise),
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(candidates=cfg.actor.evaluation_candidates),
    tiny={
        "actor.hidden": (16, 16),
        "actor.time_features": 4,
        "actor.time_embed": 4,
        "score.candidates": 5,
        "critic.hidden": (16, 16),
    },
    citation="""@article{kim2026som,
  title   = {Score-Based One-step MeanFlow Policy Optimization},
  author  = {Kim, Kyungyoon and Ki, Donghyeon and Ahn, Hee-Jun and Lee, Byung-Jun},
  journal = {arXiv preprint arXiv:2605.23365},
  year    = {2026}
}""",
)
