"""CrossQ's hyper-parameters: the defaults are those of the paper (docs/algorithms/crossq.md)."""

from dataclasses import dataclass, field

from fewstep.algos.temperature import TemperatureConfig
from fewstep.algos.twins import CriticConfig
from fewstep.errors import require, require_sizes
from fewstep.nets.activations import Activation
from fewstep.nets.renorm import Form


@dataclass(frozen=True)
class ActorConfig:
    """The policy network, its optimiser, and how often it is updated.

    Fields:
        hidden: sizes of the hidden layers. One or more, each at least 1.
        activation: after each hidden layer, before its normalisation.
        learning_rate: of Adam. Above 0.
        b1: Adam's decay of the mean gradient. From 0 to below 1.
        delay: one policy update per this many critic updates. At least 1.
        momentum: of the running statistics. From 0 to below 1.
        warm_up: policy updates with plain batch statistics before the renormalisation sets in. At least 0.
        renorm: form of its correction, see ``nets.renorm.RenormConfig``.
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    learning_rate: float = 1e-3
    b1: float = 0.5
    delay: int = 3
    momentum: float = 0.99
    warm_up: int = 100_000
    renorm: Form = "ioffe"

    def __post_init__(self) -> None:
        require_sizes("actor.hidden", self.hidden)
        require(self.learning_rate > 0, "actor.learning_rate must be positive")
        require(0 <= self.b1 < 1, f"actor.b1 must be in [0, 1), got {self.b1}")
        require(self.delay >= 1, f"actor.delay must be at least 1, got {self.delay}")
        require(0 <= self.momentum < 1, f"actor.momentum must be in [0, 1), got {self.momentum}")
        require(self.warm_up >= 0, "actor.warm_up must not be negative")


def _critic() -> CriticConfig:
    return CriticConfig(kind="crossq", hidden=(2048, 2048), learning_rate=1e-3, b1=0.5)


def _temperature() -> TemperatureConfig:
    return TemperatureConfig(initial=1.0, target_entropy_per_dim=-1.0, learning_rate=1e-3)


@dataclass(frozen=True)
class CrossQConfig:
    """All of CrossQ. Other critics than ``crossq`` belong to ``sac``.

    Fields:
        discount: gamma. From 0 to 1.
    """

    discount: float = 0.99
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=_critic)
    temperature: TemperatureConfig = field(default_factory=_temperature)

    def __post_init__(self) -> None:
        require(0 <= self.discount <= 1, f"discount must be in [0, 1], got {self.discount}")
        require(
            self.critic.kind == "crossq",
            f"critic.kind must be crossq, got {self.critic.kind}; other critics are for sac",
        )
