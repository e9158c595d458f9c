"""FLAME: maximum-entropy RL with a one-step flow (Li et al. 2026, arXiv 2602.01606).

The flow is a MeanFlow (M) or, in more steps, rectified (R). Improvement, by Q-reweighted flow matching: at a
point x of time t on the way from one of the policy's own actions to a noise, with K actions a_k that x may
have been made of,

    L = E sum_k w_k |u(s, x, r, t) - (v_k - (t - r) du_k/dt)|^2,      w = softmax_k(Q(s, a_k) / alpha),

v_k = (x - a_k) / t and du_k/dt along it. As that target is linear in v_k, this has the gradient of a
regression on the one target of the mean velocity sum_k w_k v_k, which is what is computed. In R all r = t.
Evaluation: critics towards r + gamma (Q(s', a') + alpha H(s')), the entropy being that of the noise and the
log-determinant of the flow, to first order over some intervals that need not be the sampler's:

    H = d/2 log(2 pi e) - sum_j tr d/dx (t_j - r_j) u(s, x_j, r_j, t_j).
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import flow_regression
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.straight_flow import Noised, StraightFlowConfig
from fewstep.algos.shared.temperature import Temperature, TemperatureConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Positive, Range, Section, Share
from fewstep.critics.ensemble import CriticConfig, Critics, Ensemble
from fewstep.flows import divergence, velocity
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.trained import Trained, copied, descend, polyak
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]

EARLIEST = 1e-3
"""Velocities are estimated between this time and 1 minus this: proposals have no width at 0, any at 1."""


@dataclass(frozen=True)
class ActorConfig(StraightFlowConfig):
    """The flow, Adam on it, and how it is used.

    Attributes:
        grid_share: share of a MeanFlow's other rows where r is the start of that of the sampler's T intervals
            that t lies in (authors: 0): in one step 0. Without them r is hardly ever where draws need it.
        noise: standard deviation of the Gaussian added to actions while experience is collected.
        pathwise: weight of -Q(s, a) of the policy's own actions in its loss, by the gradient through the
            sampler (authors, M: 1, in units of ``critic.reward_scale``). The policy is then no longer that
            of maximum entropy.
    """

    flow: Literal["rectified", "meanflow"] = "meanflow"
    steps: Annotated[int, Range(1, 100)] = 1
    equal_share: Share = 0.0
    grid_share: Share = 0.5
    noise: NonNegative = 0.1
    pathwise: NonNegative = 0.0

    def noised(self, key: PRNGKeyArray, actions: ActRows) -> Noised:
        """Rows to learn the flow at, on the way from the actions."""
        equal = self.equal_rows(actions.shape[0])
        grid = int(self.grid_share * (actions.shape[0] - equal))
        return Noised.of(key, actions, equal, grid, self.steps)


@dataclass(frozen=True)
class RegressionConfig(Section):
    """The velocity that the flow regresses on.

    Attributes:
        candidates: K, actions in the box that a point may have been made of, drawn per row.
        anchor: whose actions the points are on the way from: the ``policy``'s, which is where it draws; or
            those of the ``replay`` buffer (authors).
    """

    candidates: Count = 100
    anchor: Literal["policy", "replay"] = "policy"

    def velocities(
        self, q: QFunction, alpha: Scalar, obs: ObsRows, at: Noised, key: PRNGKeyArray
    ) -> tuple[ActRows, Scalar]:
        """The mean velocity of each row, and the mean effective sample size of the weights, from 1 to K."""
        tiny = jnp.finfo(jnp.float32).tiny
        uniform = jax.random.uniform(key, (at.x.shape[0], self.candidates, at.x.shape[1]), minval=tiny)

        def one(s: Obs, x: Vector, t: Scalar, uniform: Float[Array, "K act"]) -> tuple[Vector, Scalar]:
            actions = velocity.gaussian_in_box(uniform, x, t)
            return velocity.snis_velocity(jax.vmap(partial(q, s))(actions) / alpha, actions, x, t)

        v, ess = jax.vmap(one)(obs, at.x, jnp.clip(at.t, EARLIEST, 1.0 - EARLIEST), uniform)
        return v, ess.mean()


@dataclass(frozen=True)
class EntropyConfig(Section):
    """The policy's entropy, and what the critics' target makes of it.

    Attributes:
        log_det: ``traces``, to first order over intervals that need not be the sampler's; ``exact``, of the
            sampler's own map, by as many derivatives of it as actions have dimensions.
        intervals: of the flow, whose traces are summed. The fewer, the higher a narrow policy's entropy is
            taken to be.
        probes: Hutchinson probes (entries +-1) per state, the same in all intervals.
        limit: the trace of an interval is cut to this size, nats.
        backup: ``bonus``, alpha times the entropy is added to the successor's value; ``penalty``, it is
            subtracted (the authors' code), which is a mistake of sign.
    """

    log_det: Literal["traces", "exact"] = "traces"
    intervals: Count = 3
    probes: Count = 1
    limit: Positive = 10.0
    backup: Literal["bonus", "penalty"] = "bonus"

    def of(self, cfg: ActorConfig, actor: FlowNet, s: Obs, noise: Vector, probes: Array) -> Scalar:
        """Nats, estimated with one ``noise``; actions beyond the box count where they would lie."""

        def shift(x: Vector, r: Scalar, t: Scalar) -> Vector:
            return (t - r) * actor(s, x, t if cfg.flow == "rectified" else r, t)

        base = noise.shape[0] * 0.5 * jnp.log(2.0 * jnp.pi * jnp.e)
        if self.log_det == "exact":
            return base + jnp.linalg.slogdet(jax.jacfwd(partial(cfg.end, actor, s))(noise))[1]
        base += noise.shape[0] * jnp.log(cfg.start)
        return base + divergence.traced_log_det(shift, cfg.start * noise, self.intervals, probes, self.limit)


@dataclass(frozen=True)
class FLAMEConfig(Section):
    """All of FLAME.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    critic: CriticConfig = field(default_factory=lambda: CriticConfig(reward_scale=0.2, target_delay=2))
    temperature: TemperatureConfig = field(
        default_factory=lambda: TemperatureConfig(initial=1.0, target_entropy_per_dim=0.0)
    )


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ENTROPY = 2
    PROBES = 3
    ANCHOR = 4
    NOISE = 5
    CANDIDATES = 6
    PATHWISE = 7


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_actor`` is the Polyak average of the policy; ``held`` are the metrics of the last policy update,
    repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[FlowNet]
    target_actor: FlowNet
    critics: Critics
    temperature: Temperature
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


class Policy(eqx.Module):
    """What acts: the flow, and the critics that choose among candidates."""

    actor: FlowNet
    critics: Ensemble


def init(cfg: FLAMEConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target networks start as copies."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = cfg.actor.create(k_actor, spec)
    return State(
        actor=Trained.start(cfg.actor, actor),
        target_actor=copied(actor),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: FLAMEConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma (Q(s', a') + alpha H(s')), a' ~ pi; then alpha, then the policy."""
    alpha, size = state.temperature.alpha, batch.action.shape[1]
    nxt = drawn(cfg, state, batch.next_obs, Use.NEXT_ACTION)
    entropy = entropies(cfg, state, batch.next_obs)
    bonus = alpha * entropy if cfg.entropy.backup == "bonus" else -alpha * entropy
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt, bonus)
    temperature, found = state.temperature.adjusted(cfg.temperature, entropy.mean(), size)
    part = slice(cfg.actor.batch_size or None)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics, temperature=temperature),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs[part], batch.action[part]),
    )
    return state, metrics | found | {"policy/entropy": entropy.mean()} | held


def drawn(cfg: FLAMEConfig, state: State, obs: ObsRows, use: Use) -> ActRows:
    """One action of each state, by the policy that is trained."""
    noise = jax.random.normal(use_key(state, use), (obs.shape[0], state.actor.params.outputs))
    return jax.vmap(partial(cfg.actor.draw, state.actor.params))(obs, noise)


def entropies(cfg: FLAMEConfig, state: State, obs: ObsRows) -> Rows:
    """The policy's entropy in each state, nats."""
    actor, size = state.actor.params, state.actor.params.outputs
    noise = jax.random.normal(use_key(state, Use.ENTROPY), (obs.shape[0], size))
    shape = (obs.shape[0], cfg.entropy.probes, size)
    probes = jax.random.rademacher(use_key(state, Use.PROBES), shape, jnp.float32)
    return jax.vmap(partial(cfg.entropy.of, cfg.actor, actor))(obs, noise, probes)


def improve(
    cfg: FLAMEConfig, state: State, q: QFunction, obs: ObsRows, action: ActRows
) -> tuple[State, Metrics]:
    """Regress on the velocity of the flow to exp(q / alpha) / Z.

    ``q`` may be any function of (state, action); ``update`` passes the critics, in units of
    ``critic.reward_scale`` times the reward. ``action`` are replay actions (``regression.anchor``).
    """
    if cfg.regression.anchor == "policy":
        action = drawn(cfg, state, obs, Use.ANCHOR)
    at = cfg.actor.noised(use_key(state, Use.NOISE), action)
    key = use_key(state, Use.CANDIDATES)
    v, ess = cfg.regression.velocities(q, state.temperature.alpha, obs, at, key)
    noise = jax.random.normal(use_key(state, Use.PATHWISE), action.shape)
    actor, loss, (error, value) = descend(
        cfg.actor, state.actor, actor_loss, cfg.actor, q, obs, replace(at, v=v), noise
    )
    target_actor = polyak(state.target_actor, actor.params, cfg.actor.tau)
    metrics = {"actor/loss": loss, "actor/velocity_error": error, "snis/ess": ess}
    if cfg.actor.pathwise:
        metrics["actor/q"] = value
    return replace(state, actor=actor, target_actor=target_actor), metrics


def actor_loss(
    actor: FlowNet, cfg: ActorConfig, q: QFunction, obs: ObsRows, at: Noised, noise: ActRows
) -> tuple[Scalar, tuple[Scalar, Scalar]]:
    """E[|u - target|^2 / d] - pathwise E[Q(s, a)], a of the ``noise``; and both means.

    Differentiates: actor, in u and through the sampler; not the target, not Q's own parameters.
    """
    equal = cfg.equal_rows(obs.shape[0])
    error = flow_regression.errors(actor, equal, obs, at.x, at.r, at.t, at.v).mean()
    if not cfg.pathwise:
        return error, (error, jnp.zeros(()))
    value = jax.vmap(q)(obs, jax.vmap(partial(cfg.draw, actor))(obs, noise)).mean()
    return error - cfg.pathwise * value, (error, value)


ALGORITHM = Algorithm(
    name="flame",
    title="FLAME: a one-step flow towards the policy of maximum entropy, by Q-reweighted flow matching",
    config=FLAMEConfig,
    init=init,
    update=update,
    policy=lambda state: Policy(state.target_actor, state.critics.online_ensemble),
    noise=lambda cfg, policy: (policy.actor.outputs,),
    draw=lambda cfg, policy, s, noise: cfg.actor.draw(policy.actor, s, noise),
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    explore=lambda cfg, policy, action, noise: action + cfg.actor.noise * noise,
    native=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    behaviour=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    tiny={
        "actor.hidden": (16, 16),
        "actor.time_features": 4,
        "actor.time_embed": 4,
        "actor.candidates": 3,
        "regression.candidates": 4,
        "critic.hidden": (16, 16),
    },
    citation="""@article{li2026flame,
  title   = {Boosting Maximum Entropy Reinforcement Learning via One-Step Flow Matching},
  author  = {Li, Zeqiao and Wang, Yijing and Wang, Haoyu and Li, Zheng and Zuo, Zhiqiang},
  journal = {arXiv preprint arXiv:2602.01606},
  year    = {2026}
}""",
)
