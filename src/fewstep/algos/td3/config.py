"""TD3's hyper-parameters."""

from dataclasses import dataclass, field

from fewstep.algos.twins import CriticConfig
from fewstep.errors import require, require_sizes
from fewstep.nets.activations import Activation


@dataclass(frozen=True)
class ActorConfig:
    """The policy network, its optimiser, how often it is updated, and how it explores.

    Fields:
        hidden: sizes of the hidden layers. One or more, each at least 1.
        activation: after each hidden layer.
        learning_rate: of Adam. Above 0.
        b1: Adam's decay of the mean gradient. From 0 to below 1.
        delay: one policy update, and one step of all slow copies, per this many critic updates. At least 1.
        exploration_noise: standard deviation of the Gaussian noise on a sampled action, in units of the
            action's range [-1, 1]. At least 0.
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    learning_rate: float = 3e-4
    b1: float = 0.9
    delay: int = 2
    exploration_noise: float = 0.1

    def __post_init__(self) -> None:
        require_sizes("actor.hidden", self.hidden)
        require(self.learning_rate > 0, "actor.learning_rate must be positive")
        require(0 <= self.b1 < 1, f"actor.b1 must be in [0, 1), got {self.b1}")
        require(self.delay >= 1, f"actor.delay must be at least 1, got {self.delay}")
        require(
            self.exploration_noise >= 0,
            f"actor.exploration_noise must not be negative, got {self.exploration_noise}",
        )


@dataclass(frozen=True)
class SmoothingConfig:
    """Target policy smoothing: the noise on the successor's action.

    Fields:
        noise: its standard deviation, in units of the action's range [-1, 1]. At least 0.
        clip: the noise is clipped to [-clip, clip] before it is added. At least 0.
    """

    noise: float = 0.2
    clip: float = 0.5

    def __post_init__(self) -> None:
        require(self.noise >= 0, f"smoothing.noise must not be negative, got {self.noise}")
        require(self.clip >= 0, f"smoothing.clip must not be negative, got {self.clip}")


def _critic() -> CriticConfig:
    return CriticConfig(kind="plain", learning_rate=3e-4, b1=0.9)


@dataclass(frozen=True)
class TD3Config:
    """All of TD3.

    ``critic.tau`` is the rate of the slow actor, too. ``critic.twin`` combines the values in targets and in
    choosing among candidates; the policy climbs the first critic alone.

    Fields:
        discount: gamma. From 0 to 1.
    """

    discount: float = 0.99
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=_critic)
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)

    def __post_init__(self) -> None:
        require(0 <= self.discount <= 1, f"discount must be in [0, 1], got {self.discount}")
