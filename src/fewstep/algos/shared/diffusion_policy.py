"""The diffusion policy of DIPO, QVPO and their kin: T evaluations of a network that guesses noise."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import QFunction
from fewstep.config.settings import Count, Range, Sizes, Whole
from fewstep.critics.ensemble import Ensemble
from fewstep.errors import require
from fewstep.flows import bounds, diffusion
from fewstep.flows.diffusion import Schedule
from fewstep.nets.activations import Activation
from fewstep.nets.noise_net import NoiseNet
from fewstep.nets.trained import AdamConfig
from fewstep.types import Spec

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Steps = Float[Array, "T act"]


@dataclass(frozen=True)
class DiffusionConfig(AdamConfig):
    """The noise network, Adam on it, and the sampler.

    Attributes:
        hidden: sizes of the hidden layers.
        activation: between them.
        time_features: sinusoids of the step that the network sees, an even number.
        steps: T, network evaluations per action.
        schedule: how the share of noise grows over the steps, see ``flows.diffusion.alphas_bar``.
        delay: one policy update per this many critic updates.
        batch_size: most states of the batch that a policy update uses; 0 means all. At least 0.
    """

    hidden: Sizes = (256, 256, 256)
    activation: Activation = "mish"
    time_features: Annotated[int, Range(2)] = 32
    steps: Annotated[int, Range(1, 1000)] = 20
    schedule: Schedule = "cosine"
    delay: Count = 1
    batch_size: Whole = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.time_features % 2 == 0, "actor.time_features must be even")
        require(
            self.schedule != "steep" or self.steps <= 100,
            f"actor.schedule = steep is for at most 100 steps, got actor.steps = {self.steps}",
        )

    @property
    def alphas_bar(self) -> Float[Any, "T+1"]:
        """ab_0 = 1, ab_1, ..., ab_T."""
        return diffusion.alphas_bar(self.schedule, self.steps)

    def create(self, key: PRNGKeyArray, spec: Spec) -> NoiseNet:
        """A fresh network."""
        sizes = (spec.obs_size, spec.act_size, self.hidden)
        return NoiseNet.create(key, *sizes, self.activation, self.time_features)


class DiffusionPolicy(eqx.Module):
    """What acts: the noise network, and the critics that choose among candidates."""

    actor: NoiseNet
    critics: Ensemble


def noise_shape(cfg: Any, policy: DiffusionPolicy) -> tuple[int, int]:
    """x_T and the fresh noise of every step but the last."""
    return cfg.actor.steps, policy.actor.act_size


def draw(
    cfg: DiffusionConfig, actor: NoiseNet, s: Obs, noise: Steps, bound: diffusion.ToBox = bounds.clip
) -> Vector:
    """The action of the noise, in [-1, 1], by ancestral sampling (``flows.diffusion.sample``).

    ``bound`` cuts the guessed actions; it decides what gradient comes back from outside the box.
    """
    return diffusion.sample(cfg.alphas_bar, partial(actor, s), noise, bound=bound)


def draw_action(cfg: Any, policy: DiffusionPolicy, s: Obs, noise: Steps) -> Vector:
    """The action of the policy's noise."""
    return draw(cfg.actor, policy.actor, s, noise)


def draw_rows(
    cfg: DiffusionConfig, actor: NoiseNet, obs: Float[Array, "batch obs"], key: PRNGKeyArray
) -> Float[Array, "batch act"]:
    """One action of each state."""
    noise = jax.random.normal(key, (obs.shape[0], cfg.steps, actor.act_size))
    return jax.vmap(partial(draw, cfg, actor))(obs, noise)


def draw_candidates(
    cfg: DiffusionConfig, actor: NoiseNet, obs: Float[Array, "batch obs"], count: int, key: PRNGKeyArray
) -> Float[Array, "batch count act"]:
    """``count`` actions of each state."""
    noise = jax.random.normal(key, (obs.shape[0], count, cfg.steps, actor.act_size))
    one = partial(draw, cfg, actor)
    return jax.vmap(lambda s, each: jax.vmap(partial(one, s))(each))(obs, noise)


def best(
    q: QFunction, obs: Float[Array, "batch obs"], actions: Float[Array, "batch K act"]
) -> tuple[Float[Array, "batch act"], Float[Array, "batch K"]]:
    """Of each state the action of highest value, and all values."""
    values = jax.vmap(lambda s, each: jax.vmap(partial(q, s))(each))(obs, actions)
    chosen = values.argmax(axis=1)
    return jnp.take_along_axis(actions, chosen[:, None, None], axis=1)[:, 0], values


class Noised(eqx.Module):
    """Rows to learn the noise at: the steps ``t`` in 1 to T, the noises, and the points they give."""

    t: Int[Array, "batch"]
    e: Float[Array, "batch act"]
    x: Float[Array, "batch act"]
    ab: Float[Array, "batch"]

    @staticmethod
    def of(cfg: DiffusionConfig, key: PRNGKeyArray, actions: Float[Array, "batch act"]) -> "Noised":
        """Each action noised to a step drawn uniformly."""
        k_t, k_e = jax.random.split(key)
        t = jax.random.randint(k_t, actions.shape[:1], 1, cfg.steps + 1)
        e = jax.random.normal(k_e, actions.shape)
        ab = jnp.asarray(cfg.alphas_bar)[t]
        return Noised(t, e, jax.vmap(diffusion.noised)(ab, actions, e), ab)


def regression(
    actor: NoiseNet,
    obs: Float[Array, "batch obs"],
    at: Noised,
    target: Float[Array, "batch act"],
    weight: Float[Array, "batch"],
) -> tuple[Scalar, Scalar]:
    """E[w |target - guess|^2 / d] and the same without weights. Differentiates: actor.

    ``target`` is the noise ``at.e`` itself, or an estimate of the mean noise of ``at.x``.
    """
    error = jnp.mean((jax.vmap(actor)(obs, at.x, at.t) - target) ** 2, axis=-1)
    return jnp.mean(weight * error), jnp.mean(error)
