"""The words every room shares: what an environment looks like, and steps of it as algorithms take them.

No jax in here.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple


class Transition(NamedTuple):
    """One environment step, or many of them under any leading axes.

    In a batch with ``replay.n_step`` above 1 it is the first of up to n steps: ``reward`` is their discounted
    sum, ``terminated`` and ``next_obs`` are those of the last, and ``discount`` says how much the value of
    ``next_obs`` counts. Shapes below are trailing; numpy on the host, jax arrays inside an update.

    Attributes:
        obs: ``[obs_size]`` float32, the observation the action was chosen from; in batches from a replay
            buffer of images uint8.
        action: ``[act_size]`` float32 in [-1, 1].
        reward: ``[]`` float32, in the environment's units, or in those of ``reward/divisor``
            (``replay.reward``).
        terminated: ``[]`` bool, True only for a genuine terminal state. A time limit is not one: the value of
            ``next_obs`` still counts, so truncation is deliberately not stored.
        next_obs: as ``obs``, the true successor, never the first observation of the next episode.
        number: ``[]`` int32, one of its own among all transitions of the run. Only in batches for an
            algorithm that keeps something for each (``Algorithm.numbered``); None elsewhere.
        discount: ``[]`` float32, gamma^m of the m steps that ``reward`` sums. Only with ``replay.n_step``
            above 1; None where every transition is one step, whose discount is the algorithm's gamma.
    """

    obs: Any
    action: Any
    reward: Any
    terminated: Any
    next_obs: Any
    number: Any = None
    discount: Any = None


STORED = ("obs", "action", "reward", "terminated", "next_obs")
"""The fields of a ``Transition`` that are kept in a replay buffer."""


class Rollout(NamedTuple):
    """T consecutive steps of N environments, in order, taken by one policy.

    Shapes below come after the leading axes ``[T, N]``; numpy on the host, jax arrays inside an update.

    Attributes:
        obs: ``[obs_size]`` float32, the observation the action was chosen from.
        action: ``[act_size]`` float32, as the policy drew it. It may lie outside [-1, 1], the environment
            clips it: the density of what was drawn is the density of this number.
        reward: ``[]`` float32, unscaled, in the environment's units.
        terminated: ``[]`` bool, the step reached a genuine terminal state, worth nothing from there on.
        truncated: ``[]`` bool, the episode was stopped here (a time limit): ``next_obs`` still has a value,
            but row t + 1 belongs to another episode.
        next_obs: ``[obs_size]`` float32, the true successor, never the first observation of the next episode.
    """

    obs: Any
    action: Any
    reward: Any
    terminated: Any
    truncated: Any
    next_obs: Any


@dataclass(frozen=True)
class Spec:
    """Sizes of an environment's flat observation and action vectors (both at least 1).

    ``image`` is the height, width and channels of an observation that is an image, whose numbers, 0 to 255,
    stand in the vector row by row, channels last; None for all others.
    """

    obs_size: int
    act_size: int
    image: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.obs_size < 1 or self.act_size < 1:
            raise ValueError(f"observation and action sizes must be at least 1, got {self}")
        if self.image is not None and prod(self.image) != self.obs_size:
            raise ValueError(f"an image has as many numbers as its observation, got {self}")


@dataclass(frozen=True)
class EnvInfo:
    """What a policy has to know of its environment where the environment is not at hand.

    Attributes:
        env: its id.
        obs_names: what each number of a flat observation is called in the environment's own terms.
        low, high: bounds of each entry of a flat action, in the environment's units.
        action_shape: of the environment's own actions.
        action_repeat: steps of the environment that each action is for.
        rate: actions per second of simulated time; None where the environment does not say.
        image: as ``Spec.image``.
    """

    env: str
    obs_names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    action_shape: tuple[int, ...]
    action_repeat: int = 1
    rate: float | None = None
    image: tuple[int, int, int] | None = None

    @property
    def spec(self) -> Spec:
        """Sizes of the flat vectors."""
        return Spec(len(self.obs_names), len(self.low), self.image)
