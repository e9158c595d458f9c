"""SDAC: soft diffusion actor-critic by reverse sampling score matching (Ma et al. 2025, arXiv 2502.00361).

The diffusion policy is fitted to the Boltzmann policy of the critic without drawing from it: for a noised
action x_t, the actions it may have been made of are drawn, and their noises averaged with Q's weights,

    L = E |eps(s, x_t, t) - sum_k w_k e_k|^2,     w = softmax_k(c Q(s, a_k) / alpha).

What acts is the best of N draws with Gaussian noise of standard deviation 0.1 alpha.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import added_noise
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.added_noise import BestOfConfig, NoiseTemperatureConfig, NoisyPolicy
from fewstep.algos.shared.boltzmann_noise import BoltzmannNoiseConfig
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.diffusion_policy import Noised
from fewstep.algos.shared.temperature import Temperature
from fewstep.config import ReplayConfig
from fewstep.config.settings import Positive, Section, Share
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets.noise_net import NoiseNet
from fewstep.nets.trained import Trained, copied, descend, polyak
from fewstep.types import Spec, Transition

ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class RegressionConfig(BoltzmannNoiseConfig):
    """What the policy regresses on.

    Attributes:
        sharpness: c: the policy is to be proportional to exp(c Q / alpha). Alpha, which is also the width of
            the added noise, goes to a number that has nothing to do with the reward.
    """

    sharpness: Positive = 5.0


@dataclass(frozen=True)
class SDACConfig(Section):
    """All of SDAC.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: BestOfConfig = field(default_factory=BestOfConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    critic: CriticConfig = field(default_factory=lambda: CriticConfig(reward_scale=0.2, target_delay=2))
    temperature: NoiseTemperatureConfig = field(default_factory=NoiseTemperatureConfig)


class Use(IntEnum):
    """What a random key is used for: keys are addressed by (use, update). Append only."""

    INIT = 0
    NEXT_ACTION = 1
    ACTION = 2
    NOISE = 3
    CANDIDATES = 4


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_actor`` is the Polyak average of the policy; ``held`` are the metrics of the last policy update,
    repeated while ``actor.delay`` skips one; ``key`` is constant, ``updates`` counts the calls of ``update``.
    """

    actor: Trained[NoiseNet]
    target_actor: NoiseNet
    critics: Critics
    temperature: Temperature
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: SDACConfig, spec: Spec, key: PRNGKeyArray) -> State:
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


def update(cfg: SDACConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' the best of N by the trained critics, with noise.

    Then alpha, and the policy.
    """
    q, alpha = state.critics.q(cfg.critic), state.temperature.alpha
    key = use_key(state, Use.NEXT_ACTION)
    nxt, _ = cfg.temperature.best(cfg.actor, state.actor.params, q, alpha, batch.next_obs, key)
    critics, metrics = state.critics.fit(cfg.critic, cfg.discount, state.updates, batch, nxt)
    temperature, found = cfg.temperature.follow(state.temperature, state.updates, batch.action.shape[1])
    state, held = delayed(
        cfg.actor.delay,
        replace(state, critics=critics, temperature=temperature),
        lambda st: improve(cfg, st, critics.q(cfg.critic), batch.obs[: cfg.actor.batch_size or None]),
    )
    return state, metrics | found | held


def improve(cfg: SDACConfig, state: State, q: QFunction, obs: ObsRows) -> tuple[State, Metrics]:
    """Regress on the Boltzmann policy's mean noise at the policy's own actions, noised to a random step.

    ``q`` may be any function of (state, action); ``update`` passes the critics, in units of
    ``critic.reward_scale`` times the reward.
    """
    alpha, key = state.temperature.alpha, use_key(state, Use.ACTION)
    action, values = cfg.temperature.best(cfg.actor, state.actor.params, q, alpha, obs, key)
    at = Noised.of(cfg.actor, use_key(state, Use.NOISE), action)
    target, ess = cfg.regression.targets(
        q, alpha / cfg.regression.sharpness, obs, at, use_key(state, Use.CANDIDATES)
    )
    actor, loss, _ = descend(cfg.actor, state.actor, dp.regression, obs, at, target, jnp.ones(obs.shape[0]))
    target_actor = polyak(state.target_actor, actor.params, cfg.actor.tau)
    gap = (values.max(axis=1) - values.mean(axis=1)).mean()
    metrics = {
        "actor/loss": loss,
        "actor/target_norm": jnp.linalg.norm(target, axis=-1).mean(),
        "snis/ess": ess,
        "policy/candidate_q_gap": gap,
    }
    return replace(state, actor=actor, target_actor=target_actor), metrics


ALGORITHM = Algorithm(
    name="sdac",
    title="Soft diffusion actor-critic: a diffusion policy fitted to exp(Q / alpha) by reverse sampling",
    config=SDACConfig,
    init=init,
    update=update,
    policy=lambda state: NoisyPolicy(
        state.target_actor, state.critics.online_ensemble, state.temperature.alpha
    ),
    noise=dp.noise_shape,
    draw=dp.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    explore=added_noise.explore,
    native=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    behaviour=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    tiny={
        "actor.hidden": (16, 16),
        "actor.time_features": 4,
        "actor.steps": 3,
        "actor.candidates": 3,
        "regression.candidates": 4,
        "critic.hidden": (16, 16),
    },
    citation="""@inproceedings{ma2025sdac,
  title     = {Efficient Online Reinforcement Learning for Diffusion Policy},
  author    = {Ma, Haitong and Chen, Tianyi and Wang, Kai and Li, Na and Dai, Bo},
  booktitle = {International Conference on Machine Learning},
  year      = {2025}
}""",
)
