"""The two words every room shares: what an environment looks like, and one step of it. No jax in here."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class Transition(NamedTuple):
    """One environment step, or many of them under any leading axes.

    Fields (trailing shapes; numpy on the host, jax arrays inside an update):
        obs: ``[obs_size]`` float32, the observation the action was chosen from.
        action: ``[act_size]`` float32 in [-1, 1].
        reward: ``[]`` float32, unscaled, in the environment's units.
        terminated: ``[]`` bool, True only for a genuine terminal state. A time limit is not one: the value of
            ``next_obs`` still counts, so truncation is deliberately not stored.
        next_obs: ``[obs_size]`` float32, the true successor, never the first observation of the next episode.
    """

    obs: Any
    action: Any
    reward: Any
    terminated: Any
    next_obs: Any


@dataclass(frozen=True)
class Spec:
    """Sizes of an environment's flat observation and action vectors (both at least 1)."""

    obs_size: int
    act_size: int

    def __post_init__(self) -> None:
        if self.obs_size < 1 or self.act_size < 1:
            raise ValueError(f"observation and action sizes must be at least 1, got {self}")
