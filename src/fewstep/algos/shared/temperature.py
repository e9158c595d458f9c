"""The temperature alpha of maximum-entropy methods: its hyper-parameters and its update."""

from dataclasses import dataclass, replace
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from fewstep.algos.contract import Metrics
from fewstep.config.settings import Positive
from fewstep.errors import require
from fewstep.nets.trained import AdamConfig, Trained, descend

Scalar = Float[Array, ""]


@dataclass(frozen=True)
class TemperatureConfig(AdamConfig):
    """The entropy regularisation, and Adam on log alpha.

    Adam moves alpha by about one e-fold per 1 / learning_rate updates at most.

    Attributes:
        initial: alpha at the start, reward units per nat; between ``minimum`` and ``maximum``.
        automatic: adjust alpha so that the policy's entropy meets the target; otherwise alpha stays
            ``initial``.
        target_entropy_per_dim: target entropy in nats per action dimension.
        minimum: lower bound of alpha, at most ``maximum``. Without bounds a bad entropy estimate drives alpha
            anywhere.
        maximum: upper bound of alpha, at least ``minimum``.
        objective: what Adam on log alpha descends: ``alpha``, the dual alpha (H - H_target); ``log_alpha``,
            log alpha (H - H_target), whose slope does not shrink as alpha falls. Both vanish at the target.
    """

    initial: float = 0.01
    automatic: bool = True
    target_entropy_per_dim: float = -0.5
    minimum: Positive = 1e-4
    maximum: Positive = 10.0
    objective: Literal["alpha", "log_alpha"] = "alpha"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.minimum <= self.initial <= self.maximum,
            "temperature needs minimum <= initial <= maximum, "
            f"got {self.minimum}, {self.initial}, {self.maximum}",
        )


def loss(log_alpha: Scalar, entropy: Scalar, target: Scalar | float) -> tuple[Scalar, None]:
    """alpha (H - H_target), entropies in nats: descending it raises alpha below the target.

    Differentiates: log_alpha. Haarnoja et al. 2018 (arXiv 1812.05905), equation 18, in log alpha.
    """
    return jnp.exp(log_alpha) * (entropy - target), None


def log_loss(log_alpha: Scalar, entropy: Scalar, target: Scalar | float) -> tuple[Scalar, None]:
    """log alpha (H - H_target), the form of many codes: its gradient is ``loss``'s divided by alpha.

    Differentiates: log_alpha.
    """
    return log_alpha * (entropy - target), None


class Temperature(eqx.Module):
    """log alpha, and Adam's moments for it."""

    log: Trained[Scalar]

    @staticmethod
    def create(cfg: TemperatureConfig) -> "Temperature":
        """alpha = ``initial``."""
        return Temperature(Trained.start(cfg, jnp.log(jnp.float32(cfg.initial))))

    @property
    def alpha(self) -> Scalar:
        """Reward units per nat."""
        return jnp.exp(self.log.params)

    def step(
        self, cfg: TemperatureConfig, entropy: Scalar, target: Scalar | float
    ) -> tuple["Temperature", Metrics]:
        """One step towards the target entropy, inside the bounds, and its loss."""
        objective = loss if cfg.objective == "alpha" else log_loss
        log, value, _ = descend(cfg, self.log, objective, entropy, target)
        bounded = jnp.clip(log.params, jnp.log(cfg.minimum), jnp.log(cfg.maximum))
        return Temperature(replace(log, params=bounded)), {"temperature/loss": value}

    def adjusted(
        self, cfg: TemperatureConfig, entropy: Scalar, act_size: int
    ) -> tuple["Temperature", Metrics]:
        """``step`` towards ``target_entropy_per_dim`` if alpha is adjusted at all; metrics with alpha."""
        metrics = {"temperature/alpha": self.alpha}
        if not cfg.automatic:
            return self, metrics
        stepped, found = self.step(cfg, entropy, cfg.target_entropy_per_dim * act_size)
        return stepped, metrics | found
