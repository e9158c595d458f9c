"""The temperature alpha of maximum-entropy methods: its hyper-parameters and its update."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from fewstep.algos.optim import Adam
from fewstep.errors import require

Scalar = Float[Array, ""]


@dataclass(frozen=True)
class TemperatureConfig:
    """The entropy regularisation.

    Fields:
        initial: alpha at the start, reward units per nat. From ``minimum`` to ``maximum``.
        automatic: adjust alpha so that the policy's entropy meets the target; otherwise alpha stays
            ``initial``.
        target_entropy_per_dim: target entropy in nats per action dimension.
        learning_rate: of Adam on log alpha (at most about one e-fold per 1 / learning_rate updates). Above 0.
        minimum: lower bound of alpha; without bounds a bad entropy estimate drives alpha anywhere. Above 0,
            at most ``initial``.
        maximum: upper bound of alpha. At least ``initial``.
    """

    initial: float = 0.01
    automatic: bool = True
    target_entropy_per_dim: float = -0.5
    learning_rate: float = 3e-4
    minimum: float = 1e-4
    maximum: float = 10.0

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "temperature.learning_rate must be positive")
        require(
            0 < self.minimum <= self.initial <= self.maximum,
            "temperature needs 0 < minimum <= initial <= maximum, "
            f"got {self.minimum}, {self.initial}, {self.maximum}",
        )


def loss(log_alpha: Scalar, entropy: Scalar, target: Scalar | float) -> Scalar:
    """alpha (H - H_target), entropies in nats: descending it raises alpha below the target.

    Differentiates: log_alpha. Haarnoja et al. 2018 (arXiv 1812.05905), equation 18, in log alpha.
    """
    return jnp.exp(log_alpha) * (entropy - target)


def step(
    section: TemperatureConfig,
    log_alpha: Scalar,
    moments: optax.OptState,
    entropy: Scalar,
    target: Scalar | float,
) -> tuple[Scalar, optax.OptState, Scalar]:
    """One Adam step towards the target entropy, inside the bounds: (log alpha, moments, loss)."""
    value, grad = jax.value_and_grad(loss)(log_alpha, entropy, target)
    log_alpha, moments = Adam(section.learning_rate).step(log_alpha, grad, moments)
    return jnp.clip(log_alpha, jnp.log(section.minimum), jnp.log(section.maximum)), moments, value
