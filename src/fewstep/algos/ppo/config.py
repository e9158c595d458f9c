"""PPO's hyper-parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from fewstep.errors import require, require_sizes
from fewstep.nets.activations import Activation


@dataclass(frozen=True)
class RolloutConfig:
    """What one update is made from, and how often it goes through it.

    Fields:
        steps: T, steps of every environment in one rollout. At least 1.
        epochs: passes over the rollout. At least 1.
        minibatches: gradient steps per pass; they must divide ``steps x training.envs`` evenly. At least 1.
    """

    steps: int = 2048
    epochs: int = 10
    minibatches: int = 32

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "minibatches"):
            require(getattr(self, name) >= 1, f"rollout.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class ActorConfig:
    """The policy network and its objective.

    Fields:
        hidden: sizes of the hidden layers. One or more, each at least 1.
        activation: after each hidden layer.
        clip: epsilon; the objective gains nothing from a probability ratio outside [1 - clip, 1 + clip].
            Above 0.
        entropy_weight: weight of the entropy bonus, reward per nat. 0: none. At least 0.
        normalise_advantages: to mean 0 and standard deviation 1 within each minibatch.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    clip: float = 0.2
    entropy_weight: float = 0.0
    normalise_advantages: bool = True

    def __post_init__(self) -> None:
        require_sizes("actor.hidden", self.hidden)
        require(self.clip > 0, f"actor.clip must be positive, got {self.clip}")
        require(
            self.entropy_weight >= 0, f"actor.entropy_weight must not be negative, got {self.entropy_weight}"
        )


@dataclass(frozen=True)
class CriticConfig:
    """The state-value network and its regression.

    Fields:
        hidden: sizes of the hidden layers. One or more, each at least 1.
        activation: after each hidden layer.
        weight: of its loss beside the policy's. Both share one gradient norm, so it decides what the clip of
            that norm leaves to the policy. Above 0.
        clip: half the width of the band around the old value that a prediction is rewarded to stay in, in
            units of the normalised reward; none: plain squared error. Above 0.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    weight: float = 0.5
    clip: float | None = 0.2

    def __post_init__(self) -> None:
        require_sizes("critic.hidden", self.hidden)
        require(self.weight > 0, f"critic.weight must be positive, got {self.weight}")
        require(self.clip is None or self.clip > 0, f"critic.clip must be positive or none, got {self.clip}")


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam over both networks.

    Fields:
        learning_rate: of Adam, at the first update. Above 0.
        eps: of Adam, added to the root of the mean square. Above 0.
        max_norm: global norm that gradients are clipped to. Above 0.
        anneal_updates: updates (rollouts) over which the rate falls linearly to 0 and then stays there; none:
            it is constant. A run of S steps has S / (rollout.steps x training.envs) updates, rounded down. At
            least 1.
    """

    learning_rate: float = 3e-4
    eps: float = 1e-5
    max_norm: float = 0.5
    anneal_updates: int | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "eps", "max_norm"):
            require(getattr(self, name) > 0, f"optimiser.{name} must be positive, got {getattr(self, name)}")
        require(
            self.anneal_updates is None or self.anneal_updates >= 1,
            f"optimiser.anneal_updates must be at least 1 or none, got {self.anneal_updates}",
        )


@dataclass(frozen=True)
class NormaliseConfig:
    """Running statistics, part of the state; they move once per update, and never in evaluation.

    Fields:
        obs: whether observations are shifted and scaled to mean 0 and variance 1.
        obs_clip: normalised observations are clipped to [-obs_clip, obs_clip]. Above 0.
        reward: whether rewards are divided by the standard deviation of their discounted running sum.
        reward_clip: normalised rewards are clipped to [-reward_clip, reward_clip]. Above 0.
    """

    obs: bool = True
    obs_clip: float = 10.0
    reward: bool = True
    reward_clip: float = 10.0

    def __post_init__(self) -> None:
        for name in ("obs_clip", "reward_clip"):
            require(getattr(self, name) > 0, f"normalise.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class PPOConfig:
    """All of PPO.

    Fields:
        discount: gamma. From 0 to 1.
        trace: lambda of the generalised advantage estimation: 0 trusts the values, 1 the rewards. From 0 to
            1.
    """

    UNUSED: ClassVar[Mapping[str, str]] = {
        "training.learning_starts": "the first update follows the first rollout; see rollout.steps",
        "training.batch_size": "see rollout.minibatches",
        "training.updates_per_step": "see rollout.steps, rollout.epochs and rollout.minibatches",
        "training.overlap": "a rollout is of one policy",
        "training.replay_capacity": "nothing but the current rollout is kept; see rollout.steps",
    }
    """Settings of the loop that decide nothing here, and where to look instead."""

    discount: float = 0.99
    trace: float = 0.95
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    normalise: NormaliseConfig = field(default_factory=NormaliseConfig)

    def __post_init__(self) -> None:
        for name in ("discount", "trace"):
            require(0 <= getattr(self, name) <= 1, f"{name} must be in [0, 1], got {getattr(self, name)}")
