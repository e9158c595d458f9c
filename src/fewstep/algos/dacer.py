"""DACER: diffusion actor-critic with entropy regulator (Wang et al. 2024, arXiv 2405.15177).

The actor is the whole reverse diffusion: the gradient of the critic goes through all T steps of the sampler,

    L = -E Q(s, a),     a = clip(x_0 + 0.1 alpha e),

on a critic that predicts mean and spread of the return. A diffusion policy has no entropy that could be
differentiated, so none is in the loss: a Gaussian mixture fitted to draws measures it now and then, and
alpha, the width of the added noise, follows.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import added_noise
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.added_noise import NoiseTemperatureConfig, NoisyPolicy
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.diffusion_policy import DiffusionConfig
from fewstep.algos.shared.temperature import Temperature
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, Positive, Range, Section, Share, Whole
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.flows import bounds, mixture
from fewstep.flows.diffusion import Schedule
from fewstep.nets.noise_net import NoiseNet
from fewstep.nets.trained import Trained, descend
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]
Draws = Float[Array, "batch T act"]


@dataclass(frozen=True)
class ActorConfig(DiffusionConfig):
    """The diffusion policy and Adam on it.

    Attributes:
        from_outside: gradient of a guessed or a noisy action that was cut to the box: ``inward``, it comes
            back where descent leads into the box; ``none`` (authors), it is 0, and a policy all of whose
            guesses are outside is never trained again.
    """

    from_outside: Literal["inward", "none"] = "inward"
    learning_rate: Positive = 1e-4
    time_features: Annotated[int, Range(2)] = 16
    schedule: Schedule = "vp"
    delay: Count = 2


@dataclass(frozen=True)
class TemperatureConfig(NoiseTemperatureConfig):
    """alpha, Adam on its logarithm, and the noise whose width it is.

    Attributes:
        delay: updates per measurement of the entropy and step of alpha.
    """

    learning_rate: Positive = 0.03
    initial: float = 3.0
    delay: Count = 10_000


@dataclass(frozen=True)
class EntropyConfig(Section):
    """How the policy's entropy is measured, added noise included.

    Attributes:
        states: of the batch; 0 means all.
        samples: actions drawn per state.
        components: Gaussians of the mixture that is fitted to them.
        iterations: of expectation maximisation.
        estimator: ``samples``, minus the mean log density of the actions under their mixture; ``bound``, the
            paper's, an upper bound of the mixture's entropy: up to log ``components`` nats more.
    """

    states: Whole = 0
    samples: Count = 200
    components: Count = 3
    iterations: Count = 100
    estimator: Literal["samples", "bound"] = "samples"

    def of(self, actions: Float[Array, "states samples act"]) -> Scalar:
        """Mean over the states, nats."""

        def one(mine: Float[Array, "samples act"]) -> Scalar:
            fitted = mixture.fit(mine, self.components, self.iterations)
            return fitted.entropy_bound if self.estimator == "bound" else mixture.entropy(fitted, mine)

        return lax.map(one, actions).mean()


@dataclass(frozen=True)
class DACERConfig(Section):
    """All of DACER.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(
        default_factory=lambda: CriticConfig(
            head="gaussian", learning_rate=1e-4, reward_scale=0.2, target_delay=2
        )
    )
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    NEXT_NOISE = 2
    ACTION = 3
    ACTION_NOISE = 4
    ENTROPY = 5
    ENTROPY_NOISE = 6


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``entropy`` is the last measurement; ``held`` are the metrics of the last policy update, repeated while
    ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[NoiseNet]
    critics: Critics
    temperature: Temperature
    entropy: Scalar
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: DACERConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    return State(
        actor=Trained.start(cfg.actor, cfg.actor.create(k_actor, spec)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        entropy=jnp.float32(0.0),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: DACERConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' as it would be collected; then alpha, then the policy."""
    drawn = dp.draw_rows(cfg.actor, state.actor.params, batch.next_obs, use_key(state, Use.NEXT_ACTION))
    nxt = cfg.temperature.added(state.temperature.alpha, drawn, use_key(state, Use.NEXT_NOISE))
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    state = replace(state, critics=critics)
    due = state.updates % cfg.temperature.delay == 0
    obs = batch.obs[: cfg.entropy.states or None]
    state = lax.cond(due, lambda st: regulated(cfg, st, obs), lambda same: same, state)
    alpha = state.temperature.alpha
    metrics |= {"temperature/alpha": alpha, "policy/noise_std": cfg.temperature.noise * alpha}
    metrics["policy/entropy"] = state.entropy
    state, held = delayed(
        cfg.actor.delay,
        state,
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs[: cfg.actor.batch_size or None]),
    )
    return state, metrics | held


def regulated(cfg: DACERConfig, state: State, obs: ObsRows) -> State:
    """The entropy in these states, measured, and a step of alpha towards its target."""
    actor, count = state.actor.params, cfg.entropy.samples
    drawn = dp.draw_candidates(cfg.actor, actor, obs, count, use_key(state, Use.ENTROPY))
    noisy = cfg.temperature.added(state.temperature.alpha, drawn, use_key(state, Use.ENTROPY_NOISE))
    entropy = cfg.entropy.of(noisy)
    temperature, _ = state.temperature.adjusted(cfg.temperature, entropy, actor.act_size)
    return replace(state, temperature=temperature, entropy=entropy)


def improve(cfg: DACERConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """The policy up ``q``, any function of (state, action); ``update`` passes the critics.

    Values are in units of ``critic.reward_scale`` times the reward.
    """
    shape = (obs.shape[0], cfg.actor.steps, state.actor.params.act_size)
    noise = jax.random.normal(use_key(state, Use.ACTION), shape)
    key = use_key(state, Use.ACTION_NOISE)
    actor, loss, spread = descend(
        cfg.actor, state.actor, actor_loss, cfg, q, state.temperature.alpha, obs, noise, key
    )
    return replace(state, actor=actor), {"actor/loss": loss, "policy/std": spread}


def actor_loss(
    actor: NoiseNet,
    cfg: DACERConfig,
    q: QFunction,
    alpha: Scalar,
    obs: ObsRows,
    noise: Draws,
    key: PRNGKeyArray,
) -> tuple[Scalar, Scalar]:
    """-E Q(s, a), and the spread of the actions. Differentiates: actor, through the sampler."""
    bound = bounds.clip_inward if cfg.actor.from_outside == "inward" else bounds.clip
    drawn = jax.vmap(lambda s, e: dp.draw(cfg.actor, actor, s, e, bound))(obs, noise)
    action = cfg.temperature.added(alpha, drawn, key, bound)
    return -jax.vmap(q)(obs, action).mean(), drawn.std(axis=0).mean()


ALGORITHM = Algorithm(
    name="dacer",
    title="DACER: the critic's gradient through a diffusion sampler, entropy by a fitted mixture",
    config=DACERConfig,
    init=init,
    update=update,
    policy=lambda state: NoisyPolicy(
        state.actor.params, state.critics.target_ensemble, state.temperature.alpha
    ),
    noise=dp.noise_shape,
    draw=dp.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    explore=added_noise.explore,
    native=lambda cfg: ActionMode(),
    tiny={
        "actor.hidden": (16, 16),
        "actor.time_features": 4,
        "actor.steps": 3,
        "critic.hidden": (16, 16),
        "entropy.states": 2,
        "entropy.samples": 8,
        "entropy.iterations": 2,
    },
    citation="""@inproceedings{wang2024dacer,
  title     = {Diffusion Actor-Critic with Entropy Regulator},
  author    = {Wang, Yinuo and Wang, Likun and Jiang, Yuxuan and Zou, Wenjun and Liu, Tong and Song, Xujie and
               Wang, Wenxuan and Xiao, Liming and Wu, Jiang and Duan, Jingliang and Li, Shengbo Eben},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024}
}""",
)
