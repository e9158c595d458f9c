"""FLAG: a flow policy learns local moves of its own actions (Kim et al. 2026, arXiv 2605.30749).

A flow carries a noise z to mu = T(s, z), and the policy acts around it: u = mu + sigma e, a = tanh(u). With z
a part of the state, an improvement for each (s, z) is one of the policy. E-step: of N samples a_i, and a_0 of
mu itself,

    w = softmax(eta A),     A_i = (Q(s, a_i) - Q(s, a_0)) / alpha - (log pit(a_i|s) - log pit(a_0|s)),

pit being the density of tanh(mu), whose cross-entropy stands for the policy's entropy. M-step: the flow
learns the straight path from the same z to u* = sum_i w_i u_i:

    L = E |v(s, (1 - t) u* + t z, t) - (z - u*)|^2.
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
from fewstep.algos.shared.guidance import Guidance, GuidanceConfig, Guides
from fewstep.algos.shared.temperature import Temperature, TemperatureConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Range, Section, Share, Sizes, Whole
from fewstep.critics.ensemble import CriticConfig, Critics, Ensemble
from fewstep.errors import require
from fewstep.flows import bounds, paths
from fewstep.flows.paths import Velocity
from fewstep.nets.activations import Activation
from fewstep.nets.trained import Trained, descend
from fewstep.nets.velocity_nets import VelocityNet
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]
Samples = Float[Array, "N act"]
LogWidth = Annotated[float, Range(-20, 0, high_open=True)]

LARGEST = 3.8
"""Latents are clipped to it in the M-step's target: tanh(3.8) = 0.999."""


@dataclass(frozen=True)
class ActorConfig(FlowConfig):
    """The velocity network, Adam on it, the solver, and how the flow is used.

    Attributes:
        batch_size: most states of the batch that a policy update uses; 0 means all. At least 0.
        evaluation_candidates: N of the native best-of-N evaluation. From 1 to 1024.
    """

    hidden: Sizes = (256, 256, 256)
    activation: Activation = "relu"
    steps: Annotated[int, Range(1, 1000)] = 8
    delay: Count = 3
    batch_size: Whole = 0
    evaluation_candidates: Annotated[int, Range(1, 1024)] = 32


@dataclass(frozen=True)
class ExplorationConfig(Section):
    """sigma, the width of the policy around a mu, before the squashing.

    Attributes:
        log_std: log sigma at first; below 0.
        final_log_std: log sigma in the end; below 0.
        decay_start: updates before it begins to fall.
        decay_steps: updates over which it falls, log sigma geometrically.
    """

    log_std: LogWidth = -2.0
    final_log_std: LogWidth = -3.0
    decay_start: Whole = 400_000
    decay_steps: Count = 1_600_000

    def log_width(self, updates: Int[Array, ""]) -> Scalar:
        """log sigma = L (L' / L)^p, p the share of the fall that is behind."""
        share = jnp.clip((updates - self.decay_start) / self.decay_steps, 0.0, 1.0)
        return self.log_std * (self.final_log_std / self.log_std) ** share


@dataclass(frozen=True)
class ImprovementConfig(Section):
    """The E-step.

    Attributes:
        samples: N, actions drawn around each mu.
        eta: of the weights softmax(eta A); 0 weighs all alike.
        divergence: ``hutchinson``, estimated by one probe per sample, the same at the sample and at mu;
            ``exact``, act_size derivatives at every step, for small actions.
    """

    samples: Count = 8
    eta: NonNegative = 0.1
    divergence: Literal["hutchinson", "exact"] = "hutchinson"

    def probes(self, key: PRNGKeyArray, sets: tuple[int, ...], act_size: int) -> Float[Array, "*sets P act"]:
        """Sets of probes of unit covariance: one of random signs, or all directions at once."""
        if self.divergence == "hutchinson":
            return jax.random.rademacher(key, (*sets, 1, act_size), jnp.float32)
        return jnp.broadcast_to(jnp.sqrt(act_size) * jnp.eye(act_size), (*sets, act_size, act_size))

    def weights(self, alpha: Scalar, values: Array, log_probs: Array) -> Float[Array, "N+1"]:
        """softmax(eta A) of N samples and mu, mu last.

        Args:
            alpha: the temperature.
            values: Q at the samples less Q at mu, ``[N]``.
            log_probs: log pit at the samples less that at mu, ``[N]``.
        """
        return jax.nn.softmax(self.eta * jnp.append(values / alpha - log_probs, 0.0))


@dataclass(frozen=True)
class FLAGConfig(Section):
    """All of FLAG.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=lambda: ReplayConfig(updates_per_step=2.0))
    actor: ActorConfig = field(default_factory=ActorConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    improvement: ImprovementConfig = field(default_factory=ImprovementConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    critic: CriticConfig = field(
        default_factory=lambda: CriticConfig(
            trunk="crossq", head="categorical", target="none", reduce="mean", hidden=(2048, 2048), b1=0.5
        )
    )
    temperature: TemperatureConfig = field(
        default_factory=lambda: TemperatureConfig(learning_rate=1e-3, target_entropy_per_dim=-1.0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.guidance.capacity >= self.replay.batch_size,
            f"guidance.capacity ({self.guidance.capacity}) must be at least replay.batch_size "
            f"({self.replay.batch_size})",
        )


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_NOISE = 1
    NEXT_LOCAL = 2
    NEXT_PROBE = 3
    NOISE = 4
    LOCAL = 5
    PROBE = 6
    TIME = 7
    GUIDANCE = 8
    GUIDANCE_TIME = 9


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``guidance`` are the guides of earlier E-steps; ``held`` are the metrics of the last policy update,
    repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[VelocityNet]
    critics: Critics
    temperature: Temperature
    guidance: Guidance
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


class Policy(eqx.Module):
    """What acts: the flow, the critics that choose among candidates, and the updates that sigma goes by."""

    actor: VelocityNet
    critics: Ensemble
    updates: Int[Array, ""]


def init(cfg: FLAGConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes, an empty ring."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    return State(
        actor=Trained.start(cfg.actor, cfg.actor.create(k_actor, spec)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        guidance=Guidance.create(cfg.guidance, spec),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: FLAGConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma (Q(s', a') - alpha log pit(a'|s')), a' ~ pi; then policy and alpha.

    Between two policy updates the policy learns from its guides alone.
    """
    nxt, log_prob = successor(cfg, state, batch.next_obs)
    bonus = -state.temperature.alpha * log_prob
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt, bonus)
    obs = batch.obs[: cfg.actor.batch_size or None]
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics),
        lambda st: improve(cfg, st, critics.q(cfg.critic), obs),
        lambda st: recall(cfg, st, obs.shape[0]),
    )
    return state, metrics | held


def latent(cfg: FLAGConfig, actor: VelocityNet, s: Obs, z: Vector) -> Vector:
    """mu = T(s, z)."""
    return paths.solve(partial(actor, s), z, cfg.actor.steps, cfg.actor.solver).x


def log_density(cfg: FLAGConfig, v: Velocity, u: Vector, probes: Float[Array, "P act"]) -> Float[Array, "P"]:
    """log pit of tanh(u), nats, by each probe; midpoint steps, whatever the policy draws by."""
    return paths.log_density(v, u, cfg.actor.steps, probes) - bounds.log_det("tanh", u)


def successor(cfg: FLAGConfig, state: State, obs: ObsRows) -> tuple[ActRows, Rows]:
    """One action of each state, and its log pit."""
    actor, shape = state.actor.params, (obs.shape[0], state.actor.params.act_size)
    z = jax.random.normal(use_key(state, Use.NEXT_NOISE), shape)
    e = jax.random.normal(use_key(state, Use.NEXT_LOCAL), shape)
    probes = cfg.improvement.probes(use_key(state, Use.NEXT_PROBE), shape[:1], shape[1])
    u = jax.vmap(partial(latent, cfg, actor))(obs, z) + jnp.exp(cfg.exploration.log_width(state.updates)) * e
    log_probs = jax.vmap(lambda s, u, probes: log_density(cfg, partial(actor, s), u, probes).mean())
    return jnp.tanh(u), log_probs(obs, u, probes)


class Found(NamedTuple):
    """By the E-step at one (s, z): u*, the samples' mean log pit, and the weights' effective sample size."""

    end: Vector
    log_prob: Scalar
    ess: Scalar


def expectation(
    cfg: FLAGConfig,
    actor: VelocityNet,
    q: QFunction,
    alpha: Scalar,
    std: Scalar,
    s: Obs,
    z: Vector,
    noise: Samples,
    probes: Float[Array, "N P act"],
) -> Found:
    """The E-step. Probes of a sample serve at mu, too: what they get wrong at both cancels."""
    v, mu = partial(actor, s), latent(cfg, actor, s, z)
    u = mu + std * noise
    here = log_density(cfg, v, mu, probes.reshape(-1, mu.size)).reshape(probes.shape[:2]).mean(axis=1)
    there = jax.vmap(lambda u, probes: log_density(cfg, v, u, probes).mean())(u, probes)
    values = jax.vmap(partial(q, s))(jnp.tanh(jnp.vstack([u, mu])))
    w = cfg.improvement.weights(alpha, values[:-1] - values[-1], there - here)
    end = w @ jnp.clip(jnp.vstack([u, mu]), -LARGEST, LARGEST)
    return Found(end, there.mean(), 1.0 / jnp.sum(w * w))


def improve(cfg: FLAGConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """E-step, M-step with a draw of earlier guides; then alpha, by the old policy's cross-entropy.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the critics.
    """
    actor, rows, act_size = state.actor.params, obs.shape[0], state.actor.params.act_size
    z = jax.random.normal(use_key(state, Use.NOISE), (rows, act_size))
    noise = jax.random.normal(use_key(state, Use.LOCAL), (rows, cfg.improvement.samples, act_size))
    probes = cfg.improvement.probes(use_key(state, Use.PROBE), noise.shape[:2], act_size)
    log_std = cfg.exploration.log_width(state.updates)
    found = jax.vmap(partial(expectation, cfg, actor, q, state.temperature.alpha, jnp.exp(log_std)))(
        obs, z, noise, probes
    )
    fresh, earlier = Guides(obs, z, found.end), recalled(cfg, state, rows)
    times = jax.random.uniform(use_key(state, Use.TIME), (rows,))
    trained, loss, (error, again) = descend(cfg.actor, state.actor, actor_loss, fresh, times, *earlier)
    entropy = -found.log_prob.mean()
    temperature, metrics = state.temperature.adjusted(cfg.temperature, entropy, act_size)
    metrics |= {
        "actor/loss": loss,
        "actor/velocity_error": error,
        "guidance/error": again,
        "guidance/weight": earlier[-1],
        "policy/entropy": entropy,
        "policy/log_std": log_std,
        "snis/ess": found.ess.mean(),
    }
    guidance = state.guidance.written(fresh)
    return replace(state, actor=trained, temperature=temperature, guidance=guidance), metrics


def recall(cfg: FLAGConfig, state: State, rows: int) -> State:
    """A step on earlier guides alone; none, not even of Adam's moments, while they have no weight."""
    guides, times, weight = recalled(cfg, state, rows)

    def go(actor: Trained[VelocityNet]) -> Trained[VelocityNet]:
        return descend(cfg.actor, actor, guided_loss, guides, times, weight)[0]

    return replace(state, actor=lax.cond(weight > 0, go, lambda same: same, state.actor))


def recalled(cfg: FLAGConfig, state: State, rows: int) -> tuple[Guides, Rows, Scalar]:
    """Earlier guides, times on their paths, and the weight of their loss now."""
    guides = state.guidance.drawn(use_key(state, Use.GUIDANCE), rows)
    times = jax.random.uniform(use_key(state, Use.GUIDANCE_TIME), (rows,))
    return guides, times, state.guidance.weight(cfg.guidance, state.updates)


def guided_loss(
    actor: VelocityNet, guides: Guides, times: Rows, weight: Scalar | float
) -> tuple[Scalar, Scalar]:
    """The weighted and the plain mean error of the velocity on paths from z to u*. Differentiates: actor."""
    error = flow_regression.straight(actor, guides.obs, guides.end, guides.z, times).mean()
    return weight * error, error


def actor_loss(
    actor: VelocityNet, fresh: Guides, times: Rows, earlier: Guides, earlier_times: Rows, weight: Scalar
) -> tuple[Scalar, tuple[Scalar, Scalar]]:
    """The M-step's loss, and the errors of fresh and of earlier guides. Differentiates: actor."""
    loss, error = guided_loss(actor, fresh, times, 1.0)
    again, earlier_error = guided_loss(actor, earlier, earlier_times, weight)
    return loss + again, (error, earlier_error)


def explore(cfg: FLAGConfig, policy: Policy, action: Vector, noise: Vector) -> Vector:
    """tanh(mu + sigma e) from tanh(mu), by the addition theorem, also where that is 1 in float32."""
    moved = jnp.tanh(jnp.exp(cfg.exploration.log_width(policy.updates)) * noise)
    return (action + moved) / (1.0 + action * moved)


ALGORITHM = Algorithm(
    name="flag",
    title="FLAG: a flow policy learns local moves of its own actions, weighted by their advantage",
    config=FLAGConfig,
    init=init,
    update=update,
    policy=lambda state: Policy(state.actor.params, state.critics.target_ensemble, state.updates),
    noise=lambda cfg, policy: (policy.actor.act_size,),
    draw=lambda cfg, policy, s, noise: cfg.actor.draw(policy.actor, s, noise).action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    explore=explore,
    native=lambda cfg: ActionMode(candidates=cfg.actor.evaluation_candidates),
    tiny={
        "actor.hidden": (16, 16),
        "actor.steps": 2,
        "improvement.samples": 3,
        "guidance.capacity": 300,
        "guidance.start": 1,
        "guidance.ramp": 10,
        "critic.hidden": (16, 16),
        "critic.atoms": 11,
    },
    citation="""@article{kim2026flag,
  title   = {{FLAG}: Flow Policy {MaxEnt-RL} by Latent Augmented Guidance},
  author  = {Kim, Sungha and Lee, Gawon and Lee, Jusuk and Park, Jonghae and Kim, H. Jin and Cho, Daesol},
  journal = {arXiv preprint arXiv:2605.30749},
  year    = {2026}
}""",
)
