"""SAC's hyper-parameters."""

from dataclasses import dataclass, field

from fewstep.algos.temperature import TemperatureConfig
from fewstep.algos.twins import CriticConfig
from fewstep.errors import require, require_sizes
from fewstep.nets.activations import Activation


@dataclass(frozen=True)
class ActorConfig:
    """The policy network, its optimiser, and how often it is updated.

    Fields:
        hidden: sizes of the hidden layers. One or more, each at least 1.
        activation: after each hidden layer.
        learning_rate: of Adam. Above 0.
        b1: Adam's decay of the mean gradient. From 0 to below 1.
        delay: one policy update per this many critic updates. At least 1.
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    learning_rate: float = 3e-4
    b1: float = 0.9
    delay: int = 1

    def __post_init__(self) -> None:
        require_sizes("actor.hidden", self.hidden)
        require(self.learning_rate > 0, "actor.learning_rate must be positive")
        require(0 <= self.b1 < 1, f"actor.b1 must be in [0, 1), got {self.b1}")
        require(self.delay >= 1, f"actor.delay must be at least 1, got {self.delay}")


def _critic() -> CriticConfig:
    return CriticConfig(kind="plain", learning_rate=3e-4, b1=0.9)


def _temperature() -> TemperatureConfig:
    return TemperatureConfig(initial=1.0, target_entropy_per_dim=-1.0)


@dataclass(frozen=True)
class SACConfig:
    """All of SAC.

    Fields:
        discount: gamma. From 0 to 1.
    """

    discount: float = 0.99
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=_critic)
    temperature: TemperatureConfig = field(default_factory=_temperature)

    def __post_init__(self) -> None:
        require(0 <= self.discount <= 1, f"discount must be in [0, 1], got {self.discount}")
