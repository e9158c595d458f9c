"""The section of settings that every off-policy algorithm's config has."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from fewstep.config.settings import Count, Positive, Range, Section, Share, Whole
from fewstep.errors import UsageError

RewardScale = Literal["raw", "std", "bounded"]


@dataclass(frozen=True)
class DatasetConfig(Section):
    """Recorded episodes that a run starts from (docs/data.md).

    Attributes:
        path: a folder of episodes, or ``minari:ID``; ``fewstep train --dataset`` sets it.
        updates: updates on the data alone before the first environment step. They need ``path``.
        share: of every later batch that is drawn from the data; the rest is from the replay buffer. It needs
            ``path``.
    """

    path: str | None = None
    updates: Whole = 0
    share: Share = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("updates", "share"):
            if self.path is None and getattr(self, name) != getattr(type(self), name):
                raise UsageError(f"replay.dataset.{name} needs replay.dataset.path")


@dataclass(frozen=True)
class ReplayConfig(Section):
    """The replay buffer, and the updates that are made from it.

    Attributes:
        capacity: transitions kept; the oldest are overwritten. At least ``batch_size`` and ``training.envs``.
        batch_size: transitions per update, at most ``capacity``.
        learning_starts: the environment step at which the first update happens. Actions are uniformly random
            before it and the policy's own from it on, so 10 000 means 9 999 random steps.
        updates_per_step: updates per environment step; ``training.envs`` times it must be a whole number.
        overlap: device and environments work at once: the updates of a step are computed while the next step
            is taken, so the policy that acts is that of one dispatch ago. As repeatable as without.
        reward: what updates are given: ``raw``, the environment's own; ``std``, divided by the running
            standard deviation of discounted returns; ``bounded``, by that or by a fifth of the largest
            return so far, whichever is more, so that returns are within 5 (a return here is the discounted
            sum of the rewards since the episode began: that of a state can be larger). Values and the
            temperature are logged in the environment's own units; losses and the settings of the critic's
            grid and of the temperature are in units of ``reward/divisor``.
        noise_repeat: while experience is collected the noise behind the policy's actions, and what is added
            for exploration, is held for up to so many steps, n of them with a probability proportional to
            n^-2; all environments of a run hold together. 1: new noise at every step.
        normalise_obs: networks get observations of mean 0 and variance 1, entry by entry, clipped to
            [-10, 10], by the running moments of the batches drawn so far.
        n_step: rewards summed in front of the bootstrapped value, fewer where the episode ends or the stored
            steps do: r_0 + ... + gamma^(n-1) r_(n-1) + gamma^n (Q(s_n, a') + bonus). The actions after the
            first are those of earlier policies, without correction, and their states' entropy bonuses are
            not summed: a soft value counts that of s_n alone.
        dataset: recorded episodes to start from.
    """

    capacity: Count = 1_000_000
    batch_size: Count = 256
    learning_starts: Count = 10_000
    updates_per_step: Positive = 1.0
    overlap: bool = False
    reward: RewardScale = "raw"
    normalise_obs: bool = False
    noise_repeat: Annotated[int, Range(1, 1000)] = 1
    n_step: Annotated[int, Range(1, 100)] = 1
    dataset: DatasetConfig = DatasetConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size > self.capacity:
            raise UsageError(
                f"replay.batch_size ({self.batch_size}) is larger than replay.capacity ({self.capacity}); "
                "raise the capacity"
            )

    @property
    def data_rows(self) -> int:
        """Transitions of each batch that are from the data."""
        return 0 if self.dataset.path is None else round(self.dataset.share * self.batch_size)

    def updates_per_iteration(self, envs: int) -> int:
        """Updates after each joint step of the environments (one dispatch).

        Raises:
            UsageError: that is no whole number, or the environments do not fit the buffer.
        """
        if envs > self.capacity:
            raise UsageError(
                f"training.envs ({envs}) is larger than replay.capacity ({self.capacity}); raise the capacity"
            )
        updates = envs * self.updates_per_step
        # 100 x 0.07 is 7 and a bit in binary fractions.
        whole = round(updates) if math.isfinite(updates) else 0
        if whole < 1 or not math.isclose(updates, whole, rel_tol=1e-9):
            raise UsageError(
                "training.envs x replay.updates_per_step must be a whole number of at least 1, got "
                f"{envs} x {self.updates_per_step:g}"
            )
        return whole
