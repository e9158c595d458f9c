"""DPMD: diffusion policy mirror descent (Ma et al. 2025, arXiv 2502.00361).

A step of mirror descent multiplies the policy's density by exp(Q / alpha). The diffusion policy takes it by
denoising its own actions with that weight:

    L = E [w |e - eps(s, x_t, t)|^2],      w = exp(clip((Q(s, a) - m) / std, -3, 3) / alpha),

m and std the running mean and spread of Q. Shell and behaviour are those of SDAC: the best of N draws with
Gaussian noise of standard deviation 0.1 alpha.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm, Metrics, QFunction, use_key
from fewstep.algos.shared import added_noise
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.added_noise import BestOfConfig, NoiseTemperatureConfig, NoisyPolicy
from fewstep.algos.shared.delay import Held, delayed, nothing_held
from fewstep.algos.shared.diffusion_policy import Noised
from fewstep.algos.shared.temperature import Temperature
from fewstep.config import ReplayConfig
from fewstep.config.settings import Positive, Range, Section, Share
from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets.noise_net import NoiseNet
from fewstep.nets.trained import Trained, copied, descend, polyak
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Rows = Float[Array, "batch"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class RegressionConfig(Section):
    """The weights of the policy's own actions.

    Attributes:
        advantage: ``standard``, (Q - m) / std; ``literal``, Q - m / std, which is what the authors' code
            computes: once values are above 3 all weights are the same.
        clip: advantages are clipped to plus and minus this.
        rate: of the running mean m and spread std of Q, once they are means of 1 / rate updates.
    """

    advantage: Literal["standard", "literal"] = "standard"
    clip: Positive = 3.0
    rate: Annotated[float, Range(0, 1, low_open=True)] = 1e-3

    def weights(self, values: Rows, mean: Scalar, std: Scalar, alpha: Scalar) -> Rows:
        """exp(clipped advantage / alpha)."""
        advantage = values - mean / std if self.advantage == "literal" else (values - mean) / std
        return jnp.exp(jnp.clip(advantage, -self.clip, self.clip) / alpha)


@dataclass(frozen=True)
class DPMDConfig(Section):
    """All of DPMD.

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
    NOISE = 2


class State(eqx.Module):
    """Everything training changes; every leaf an array.

    ``target_actor`` is the Polyak average of the policy; ``q_mean`` and ``q_std`` are m and std; ``held`` are
    the metrics of the last policy update, repeated while ``actor.delay`` skips one; ``key`` is constant,
    ``updates`` counts the calls of ``update``.
    """

    actor: Trained[NoiseNet]
    target_actor: NoiseNet
    critics: Critics
    temperature: Temperature
    q_mean: Scalar
    q_std: Scalar
    key: PRNGKeyArray
    updates: Int[Array, ""]
    held: Held


def init(cfg: DPMDConfig, spec: Spec, key: PRNGKeyArray) -> State:
    """Fresh parameters for an environment of these sizes; target networks start as copies."""
    k_actor, *k_critics = jax.random.split(jax.random.fold_in(key, Use.INIT), 1 + cfg.critic.ensemble)
    actor = cfg.actor.create(k_actor, spec)
    return State(
        actor=Trained.start(cfg.actor, actor),
        target_actor=copied(actor),
        critics=Critics.create(cfg.critic, spec, *k_critics),
        temperature=Temperature.create(cfg.temperature),
        q_mean=jnp.float32(0.0),
        q_std=jnp.float32(1.0),
        key=jnp.copy(key),
        updates=jnp.int32(0),
        held=nothing_held(),
    )


def update(cfg: DPMDConfig, state: State, batch: Transition) -> tuple[State, Metrics]:
    """The critics towards r + gamma Q(s', a'), a' the best of N by the trained critics, with noise.

    Then alpha, and the policy on the same a'.
    """
    q, alpha = state.critics.q(cfg.critic), state.temperature.alpha
    key = use_key(state, Use.NEXT_ACTION)
    nxt, _ = cfg.temperature.best(cfg.actor, state.actor.params, q, alpha, batch.next_obs, key)
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


def followed(cfg: DPMDConfig, state: State, values: Rows) -> State:
    """Running mean and spread of the values of actions: plain averages at first, then exponential."""
    rate = jnp.maximum(cfg.regression.rate, 1.0 / (state.updates + 1))
    mean = state.q_mean + rate * (values.mean() - state.q_mean)
    return replace(state, q_mean=mean, q_std=state.q_std + rate * (values.std() - state.q_std))


def improve(
    cfg: DPMDConfig, state: State, q: QFunction, obs: ObsRows, action: ActRows
) -> tuple[State, Metrics]:
    """Denoise the successor's actions, as the critics' target had them, by their weights.

    ``q`` may be any function of (state, action); ``update`` passes the critics, in units of
    ``critic.reward_scale`` times the reward.
    """
    values = jax.vmap(q)(obs, action)
    weight = cfg.regression.weights(values, state.q_mean, state.q_std, state.temperature.alpha)
    at = Noised.of(cfg.actor, use_key(state, Use.NOISE), action)
    actor, loss, error = descend(cfg.actor, state.actor, dp.regression, obs, at, at.e, weight)
    target_actor = polyak(state.target_actor, actor.params, cfg.actor.tau)
    metrics = {
        "actor/loss": loss,
        "actor/noise_error": error,
        "actor/weight_mean": weight.mean(),
        "actor/weight_std": weight.std(),
    }
    return replace(state, actor=actor, target_actor=target_actor), metrics


ALGORITHM = Algorithm(
    name="dpmd",
    title="Diffusion policy mirror descent: a diffusion policy denoises its own actions, weighted by exp(Q)",
    config=DPMDConfig,
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
        "critic.hidden": (16, 16),
    },
    citation="""@inproceedings{ma2025sdac,
  title     = {Efficient Online Reinforcement Learning for Diffusion Policy},
  author    = {Ma, Haitong and Chen, Tianyi and Wang, Kai and Li, Na and Dai, Bo},
  booktitle = {International Conference on Machine Learning},
  year      = {2025}
}""",
)
