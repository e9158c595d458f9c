"""Gaussian noise added to an action that was already chosen, as wide as the temperature says.

DACER, SDAC, DPMD and FPMD explore by it: their policies have no entropy that could be had cheaply, so the
temperature alpha moves the width of this noise.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import Metrics, QFunction
from fewstep.algos.shared import diffusion_policy as dp
from fewstep.algos.shared.diffusion_policy import DiffusionConfig, DiffusionPolicy
from fewstep.algos.shared.temperature import Temperature, TemperatureConfig
from fewstep.config.settings import Count, NonNegative, Positive, Range, Share
from fewstep.errors import require
from fewstep.flows import bounds
from fewstep.flows.diffusion import ToBox
from fewstep.nets.noise_net import NoiseNet

Scalar = Float[Array, ""]
Actions = Float[Array, "*batch act"]
ObsRows = Float[Array, "batch obs"]
ActRows = Float[Array, "batch act"]
Candidates = Float[Array, "batch N act"]


class BestOf(Protocol):
    """The settings of a policy that is used as the best of N."""

    def drawn(self, actor: Any, obs: ObsRows, key: PRNGKeyArray) -> Candidates:
        """N actions of each state, in [-1, 1]."""
        ...


@dataclass(frozen=True)
class BestOfConfig(DiffusionConfig):
    """The diffusion policy, Adam on it, and how it is used.

    Attributes:
        tau: Polyak rate of the policy that acts. The policy that is trained draws the successor's action.
        candidates: N of the best-of-N behaviour, evaluation and successor's action. From 1 to 1024.
    """

    time_features: Annotated[int, Range(2)] = 16
    delay: Count = 2
    tau: Share = 0.005
    candidates: Annotated[int, Range(1, 1024)] = 32

    def drawn(self, actor: NoiseNet, obs: ObsRows, key: PRNGKeyArray) -> Candidates:
        """``candidates`` actions of each state."""
        return dp.draw_candidates(self, actor, obs, self.candidates, key)


@dataclass(frozen=True)
class NoiseTemperatureConfig(TemperatureConfig):
    """alpha, Adam on its logarithm, and the noise whose width it is.

    Attributes:
        noise: standard deviation of the Gaussian per unit of alpha, above 0 if alpha is adjusted. It is added
            to actions while experience is collected and to the successor's action, which are then clipped.
        delay: updates per step of alpha.
    """

    learning_rate: Positive = 7e-3
    initial: float = 5.0
    target_entropy_per_dim: float = -0.9
    noise: NonNegative = 0.1
    delay: Count = 250

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.noise > 0 or not self.automatic,
            "temperature.noise must be positive where temperature.automatic is true: alpha moves nothing",
        )

    def best(
        self, cfg: BestOf, actor: Any, q: QFunction, alpha: Scalar, obs: ObsRows, key: PRNGKeyArray
    ) -> tuple[ActRows, Float[Array, "batch N"]]:
        """Of each state the best of N draws with noise, and the values of all without it."""
        k_draw, k_noise = jax.random.split(key)
        chosen, values = dp.best(q, obs, cfg.drawn(actor, obs, k_draw))
        return self.added(alpha, chosen, k_noise), values

    def added(
        self, alpha: Scalar, actions: Actions, key: PRNGKeyArray, bound: ToBox = bounds.clip
    ) -> Actions:
        """Actions with noise, cut to [-1, 1] by ``bound``."""
        noise = jax.random.normal(key, actions.shape)
        return bound(actions + self.noise * alpha * noise)

    def follow(
        self, temperature: Temperature, updates: Int[Array, ""], act_size: int
    ) -> tuple[Temperature, Metrics]:
        """One step of alpha, where it is due, by the entropy of the added noise alone.

        That entropy depends on nothing but alpha, so this is a schedule: alpha goes to where
        ``noise_entropy`` is the target, exp(target per dimension) / (noise sqrt(2 pi e)).
        """
        std = self.noise * temperature.alpha

        def step(now: Temperature) -> Temperature:
            return now.adjusted(self, noise_entropy(std, act_size), act_size)[0]

        due = updates % self.delay == 0
        moved = lax.cond(due, step, lambda same: same, temperature)
        return moved, {"temperature/alpha": temperature.alpha, "policy/noise_std": std}


class NoisyPolicy(DiffusionPolicy):
    """What acts: the noise network, the critics that choose, and alpha, for the noise afterwards."""

    alpha: Scalar


def noise_entropy(std: Scalar, act_size: int) -> Scalar:
    """Of N(0, std^2 I), nats."""
    return 0.5 * act_size * jnp.log(2.0 * jnp.pi * jnp.e * std**2)


def explore(
    cfg: Any, policy: Any, action: Float[Array, "act"], noise: Float[Array, "act"]
) -> Float[Array, "act"]:
    """The action with the noise of ``policy.alpha``; collecting clips it to the action bounds."""
    return action + cfg.temperature.noise * policy.alpha * noise
