"""FPMD: flow policy mirror descent (Chen et al. 2025, arXiv 2507.23675), rectified (R) or MeanFlow (M).

DPMD with a flow for a policy. On the straight path x_t = (1 - t) a + t e from an action of its own (t = 0) to
a noise (t = 1), with the velocity v = e - a, the policy learns

    L = E [w |u(s, x_t, r, t) - (v - (t - r) du/dt)|^2],      w proportional to exp(Q(s, a) / (lambda std)),

std the running spread of Q. In R all r = t: u is the velocity, and T steps of Euler's method draw an action.
In M there are r < t: u is the average velocity over [r, t], and one evaluation draws an action. Shell and
behaviour are those of DPMD: the best of N draws with Gaussian noise of standard deviation 0.1 alpha.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import added_noise, flow_regression
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.added_noise import NoiseTemperatureConfig
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.straight_flow import Noised, StraightFlowConfig
from fewstep.algos.shared.temperature import Temperature
from fewstep.config import ReplayConfig
from fewstep.config.settings import Positive, Range, Section, Share
from fewstep.critics.ensemble import CriticConfig, Critics, Ensemble
from fewstep.nets.flow_net import FlowNet
from fewstep.nets.trained import Trained, copied, descend, polyak
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class ActorConfig(StraightFlowConfig):
    """The flow, Adam on it, and how it is used.

    Attributes:
        candidates: N of the best-of-N behaviour, evaluation and successor's action. From 1 to 1024.
        target_noise: what the noise of the successor's action is added to: the ``chosen`` candidate, as in
            the behaviour, or all ``candidates`` before one is chosen (the authors' code for images).
    """

    target_noise: Literal["chosen", "candidates"] = "chosen"


@dataclass(frozen=True)
class RegressionConfig(Section):
    """The weights of the policy's own actions.

    Attributes:
        weights: ``normalised`` to a mean of 1 over the batch; ``literal``, exp(Q / (lambda std)) as it is
            (authors), which grows beyond float32 where values are large beside their spread.
        temperature: lambda, in units of the spread of Q.
        rate: of the running spread std of Q, once it is the mean of 1 / rate updates.
    """

    weights: Literal["normalised", "literal"] = "normalised"
    temperature: Positive = 3.0
    rate: Annotated[float, Range(0, 1, low_open=True)] = 1e-3

    def of(self, values: Rows, std: Scalar) -> Rows:
        """The weights of actions with these values."""
        scale = self.temperature * std
        if self.weights == "literal":
            return jnp.exp(values / scale)
        smallest = jnp.finfo(scale.dtype).tiny  # values that are all the same have no spread
        return values.size * jax.nn.softmax((values - values.max()) / jnp.maximum(scale, smallest))


@dataclass(frozen=True)
class FPMDConfig(Section):
    """All of FPMD.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    critic: CriticConfig = field(default_factory=lambda: CriticConfig(reward_scale=0.2, target_delay=2))
    temperature: NoiseTemperatureConfig = field(
        default_factory=lambda: NoiseTemperatureConfig(target_entropy_per_dim=-1.5)
    )


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    NOISE = 2


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_actor`` is the Polyak average of the policy; ``q_std`` is std; ``held`` are the metrics of the
    last policy update, repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the
    calls of ``update``.
    """

    actor: Trained[FlowNet]
    target_actor: FlowNet
    critics: Critics
    temperature: Temperature
    q_std: Scalar
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


class Policy(eqx.Module):
    """What acts: the flow, the critics that choose, and alpha, for the noise afterwards."""

    actor: FlowNet
    critics: Ensemble
    alpha: Scalar


def init(cfg: FPMDConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target networks start as copies."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = cfg.actor.create(k_actor, spec)
    return State(
        actor=Trained.start(cfg.actor, actor),
        target_actor=copied(actor),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        q_std=jnp.float32(1.0),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: FPMDConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' of ``successor``.

    Then alpha, and the policy on the same a'.
    """
    q, key = state.critics.q(cfg.critic), use_key(state, Use.NEXT_ACTION)
    nxt = successor(cfg, state, q, batch.next_obs, key)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    temperature, found = cfg.temperature.follow(state.temperature, state.updates, batch.action.shape[1])
    part = slice(cfg.actor.batch_size or None)
    state = replace(state, critics=critics, temperature=temperature)
    state = followed(cfg, state, jax.vmap(critics.q(cfg.critic))(batch.next_obs, nxt))
    state, held = delayed(
        cfg.actor.delay,
        state,
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.next_obs[part], nxt[part]),
    )
    return state, metrics | found | held


def successor(cfg: FPMDConfig, state: State, q: QFunction, obs: ObsRows, key: PRNGKeyArray) -> ActRows:
    """Of each state the best of N by ``q``, with noise (``actor.target_noise``)."""
    actor, alpha = state.actor.params, state.temperature.alpha
    if cfg.actor.target_noise == "chosen":
        return cfg.temperature.best(cfg.actor, actor, q, alpha, obs, key)[0]
    k_draw, k_noise = jax.random.split(key)
    return dp.best(q, obs, cfg.temperature.added(alpha, cfg.actor.drawn(actor, obs, k_draw), k_noise))[0]


def followed(cfg: FPMDConfig, state: State, values: Rows) -> State:
    """Running spread of the values of actions: a plain average at first, then exponential."""
    rate = jnp.maximum(cfg.regression.rate, 1.0 / (state.updates + 1))
    return replace(state, q_std=state.q_std + rate * (values.std() - state.q_std))


def improve(
    cfg: FPMDConfig, state: State, q: QFunction, obs: ObsRows, action: ActRows
) -> tuple[State, Metrics]:
    """Learn the successor's actions, as the critics' target had them, by their weights.

    ``q`` may be any function of (state, action); ``update`` passes the critics, in units of
    ``critic.reward_scale`` times the reward.
    """
    weight = cfg.regression.of(jax.vmap(q)(obs, action), state.q_std)
    equal = cfg.actor.equal_rows(action.shape[0])
    at = Noised.of(use_key(state, Use.NOISE), action, equal)
    actor, loss, error = descend(cfg.actor, state.actor, regression, equal, obs, at, weight)
    target_actor = polyak(state.target_actor, actor.params, cfg.actor.tau)
    metrics = {
        "actor/loss": loss,
        "actor/velocity_error": error,
        "actor/weight_mean": weight.mean(),
        "actor/weight_std": weight.std(),
    }
    return replace(state, actor=actor, target_actor=target_actor), metrics


def regression(actor: FlowNet, equal: int, obs: ObsRows, at: Noised, weight: Rows) -> tuple[Scalar, Scalar]:
    """E[w |u - target|^2 / d], the MeanFlow residual, and the same without weights. Differentiates: actor.

    In the first ``equal`` rows r = t, where the target is the velocity itself.
    """
    error = flow_regression.errors(actor, equal, obs, at.x, at.r, at.t, at.v)
    return jnp.mean(weight * error), jnp.mean(error)


ALGORITHM = Algorithm(
    name="fpmd",
    title="Flow policy mirror descent: a one-step flow learns its own actions, weighted by exp(Q)",
    config=FPMDConfig,
    init=init,
    update=update,
    policy=lambda state: Policy(state.target_actor, state.critics.online_ensemble, state.temperature.alpha),
    noise=lambda cfg, policy: (policy.actor.outputs,),
    draw=lambda cfg, policy, s, noise: cfg.actor.draw(policy.actor, s, noise),
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    explore=added_noise.explore,
    native=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    behaviour=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    tiny={
        "actor.hidden": (16, 16),
        "actor.time_features": 4,
        "actor.time_embed": 4,
        "actor.steps": 3,
        "actor.candidates": 3,
        "critic.hidden": (16, 16),
    },
    citation="""@article{chen2025fpmd,
  title   = {One-Step Flow Policy Mirror Descent},
  author  = {Chen, Tianyi and Ma, Haitong and Li, Na and Wang, Kai and Dai, Bo},
  journal = {arXiv preprint arXiv:2507.23675},
  year    = {2025}
}""",
)
