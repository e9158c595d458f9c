"""MaxEntDP: maximum-entropy RL with a diffusion policy (Dong et al. 2025, arXiv 2502.11612).

Both halves of soft actor-critic for a policy without a density. Improvement: at a noised replay action x_t,
regress on the mean noise under exp(Q / alpha), estimated from candidates a_k with noises e_k,

    L = E |eps(s, x_t, t) - sum_k w_k e_k|^2,     w = softmax_k(Q(s, a_k) / alpha).

Evaluation: the entropy bonus -alpha log pi(a'|s') from the policy's own denoising error (flows.likelihood).
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
from fewstep.algos.shared.boltzmann_noise import BoltzmannNoiseConfig
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.diffusion_policy import DiffusionConfig, DiffusionPolicy, Noised
from fewstep.algos.shared.temperature import Temperature, TemperatureConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, Range, Section, Share, Sizes
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.flows import likelihood
from fewstep.flows.likelihood import Rule
from fewstep.nets.noise_net import NoiseNet
from fewstep.nets.trained import Trained, descend
from fewstep.types import Spec, Transition

Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class ActorConfig(DiffusionConfig):
    """The diffusion policy, Adam on it, and how it is used.

    Attributes:
        evaluation_candidates: N of the native best-of-N evaluation. From 1 to 1024.
    """

    hidden: Sizes = (256, 256)
    time_features: Annotated[int, Range(2)] = 64
    evaluation_candidates: Annotated[int, Range(1, 1024)] = 10


@dataclass(frozen=True)
class RegressionConfig(BoltzmannNoiseConfig):
    """What the policy regresses on."""

    candidates: Count = 500


@dataclass(frozen=True)
class LikelihoodConfig(Section):
    """The log density of the successor's action.

    Attributes:
        samples: noised actions per step of the sampler; one is unbiased, more are less noisy.
        rule: of the integral over the steps, see ``flows.likelihood.quadrature``.
    """

    samples: Count = 50
    rule: Rule = "trapezoid"


@dataclass(frozen=True)
class MaxEntDPConfig(Section):
    """All of MaxEntDP.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    likelihood: LikelihoodConfig = field(default_factory=LikelihoodConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    temperature: TemperatureConfig = field(
        default_factory=lambda: TemperatureConfig(initial=0.1, automatic=False)
    )


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    LIKELIHOOD = 2
    NOISE = 3
    CANDIDATES = 4


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``held`` are the metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is
    constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[NoiseNet]
    critics: Critics
    temperature: Temperature
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: MaxEntDPConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    return State(
        actor=Trained.start(cfg.actor, cfg.actor.create(k_actor, spec)),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: MaxEntDPConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma (Q(s', a') - alpha log pi(a'|s')), a' ~ pi; then alpha, then policy."""
    actor, act_size = state.actor.params, batch.action.shape[1]
    nxt = dp.draw_rows(cfg.actor, actor, batch.next_obs, use_key(state, Use.NEXT_ACTION))
    log_prob = log_probs(cfg, actor, batch.next_obs, nxt, use_key(state, Use.LIKELIHOOD))
    bonus = -state.temperature.alpha * log_prob
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt, bonus)
    temperature, found = state.temperature.adjusted(cfg.temperature, -log_prob.mean(), act_size)
    part = slice(cfg.actor.batch_size or None)
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics, temperature=temperature),
        lambda st: improve(cfg, st, critics.target_q(cfg.critic), batch.obs[part], batch.action[part]),
    )
    return state, metrics | found | {"policy/entropy": -log_prob.mean()} | held


def log_probs(cfg: MaxEntDPConfig, actor: NoiseNet, obs: ObsRows, action: ActRows, key: PRNGKeyArray) -> Rows:
    """log pi(a|s) of each row, nats."""
    shape = (obs.shape[0], cfg.likelihood.samples, cfg.actor.steps, action.shape[1])

    def one(s: Float[Array, "obs"], a: Float[Array, "act"], noise: Array) -> Array:
        guess = lambda x, t: actor(s, x, t)  # noqa: E731
        return likelihood.log_density(cfg.actor.alphas_bar, guess, a, noise, cfg.likelihood.rule)

    return jax.vmap(one)(obs, action, jax.random.normal(key, shape))


def improve(
    cfg: MaxEntDPConfig, state: State, q: QFunction, obs: ObsRows, action: ActRows
) -> tuple[State, Metrics]:
    """Regress on the Boltzmann policy's mean noise at replay actions, noised to a random step.

    ``q`` may be any function of (state, action) in reward units; ``update`` passes the target critics.
    """
    at = Noised.of(cfg.actor, use_key(state, Use.NOISE), action)
    alpha, key = state.temperature.alpha, use_key(state, Use.CANDIDATES)
    target, ess = cfg.regression.targets(q, alpha, obs, at, key)
    actor, loss, _ = descend(cfg.actor, state.actor, dp.regression, obs, at, target, jnp.ones(obs.shape[0]))
    size = jnp.linalg.norm(target, axis=-1).mean()
    return replace(state, actor=actor), {"actor/loss": loss, "actor/target_norm": size, "snis/ess": ess}


ALGORITHM = Algorithm(
    name="maxentdp",
    title="MaxEntDP: soft actor-critic with a diffusion policy, by Q-weighted noise and a likelihood",
    config=MaxEntDPConfig,
    init=init,
    update=update,
    policy=lambda state: DiffusionPolicy(state.actor.params, state.critics.target_ensemble),
    noise=dp.noise_shape,
    draw=dp.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(candidates=cfg.actor.evaluation_candidates),
    tiny={
        "actor.hidden": (16, 16),
        "actor.time_features": 4,
        "actor.steps": 3,
        "regression.candidates": 4,
        "likelihood.samples": 1,
        "critic.hidden": (16, 16),
    },
    citation="""@inproceedings{dong2025maxentdp,
  title     = {Maximum Entropy Reinforcement Learning with Diffusion Policy},
  author    = {Dong, Xiaoyi and Cheng, Jian and Zhang, Xi Sheryl},
  booktitle = {International Conference on Machine Learning},
  year      = {2025}
}""",
)
