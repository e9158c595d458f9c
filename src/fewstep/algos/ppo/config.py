"""PPO's hyper-parameters."""

from dataclasses import dataclass, field
from typing import Annotated

from fewstep.config.settings import Count, NonNegative, Positive, Range, Section, Share, Sizes
from fewstep.nets.activations import Activation
from fewstep.nets.trained import AdamConfig


@dataclass(frozen=True)
class RolloutConfig(Section):
    """What one update is made from, and how often it goes through it.

    Attributes:
        steps: T, steps of every environment in one rollout.
        epochs: passes over the rollout.
        minibatches: gradient steps per pass; they must divide ``steps x training.envs`` evenly.
    """

    steps: Count = 2048
    epochs: Count = 10
    minibatches: Count = 32


@dataclass(frozen=True)
class ActorConfig(Section):
    """The policy network and its objective.

    Attributes:
        hidden: sizes of the hidden layers.
        activation: between them.
        clip: epsilon; the objective gains nothing from a probability ratio outside [1 - clip, 1 + clip].
            Above 0.
        entropy_weight: weight of the entropy bonus, reward per nat. 0: none. At least 0.
        normalise_advantages: to mean 0 and standard deviation 1 within each minibatch.
    """

    hidden: Sizes = (64, 64)
    activation: Activation = "tanh"
    clip: Positive = 0.2
    entropy_weight: NonNegative = 0.0
    normalise_advantages: bool = True


@dataclass(frozen=True)
class CriticConfig(Section):
    """The state-value network and its regression.

    Attributes:
        hidden: sizes of the hidden layers.
        activation: between them.
        weight: of its loss beside the policy's. Both share one gradient norm, so it decides what the clip of
            that norm leaves to the policy. Above 0.
        clip: half the width of the band around the old value that a prediction is rewarded to stay in, in
            units of the normalised reward; none: plain squared error. Above 0.
    """

    hidden: Sizes = (64, 64)
    activation: Activation = "tanh"
    weight: Positive = 0.5
    clip: Annotated[float | None, Range(0, low_open=True)] = 0.2


@dataclass(frozen=True)
class OptimiserConfig(AdamConfig):
    """Adam over both networks. ``decay_steps`` counts updates, which are rollouts: a run of S steps has
    S / (rollout.steps x training.envs) of them, rounded down."""

    eps: Positive = 1e-5
    max_grad_norm: NonNegative = 0.5


@dataclass(frozen=True)
class NormaliseConfig(Section):
    """Running statistics, part of the state; they move once per update, and never in evaluation.

    Attributes:
        obs: whether observations are shifted and scaled to mean 0 and variance 1.
        obs_clip: normalised observations are clipped to [-obs_clip, obs_clip]. Above 0.
        reward: whether rewards are divided by the standard deviation of their discounted running sum.
        reward_clip: normalised rewards are clipped to [-reward_clip, reward_clip]. Above 0.
    """

    obs: bool = True
    obs_clip: Positive = 10.0
    reward: bool = True
    reward_clip: Positive = 10.0


@dataclass(frozen=True)
class PPOConfig(Section):
    """All of PPO.

    Attributes:
        discount: gamma.
        gae_lambda: lambda of the generalised advantage estimation: 0 trusts the values, 1 the rewards.
    """

    discount: Share = 0.99
    gae_lambda: Share = 0.95
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    normalise: NormaliseConfig = field(default_factory=NormaliseConfig)
