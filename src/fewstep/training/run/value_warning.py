"""Values no return could justify: an early word on a critic that is running away."""

from collections.abc import Mapping
from typing import Any

MARGIN = 3.0
"""How far beyond the largest possible value is called an explosion."""


class ExplosionWatch:
    """Compares the critic's mean with what the rewards seen so far allow, once per log interval.

    With rewards of at most R in size and discount g, no policy is worth more than R / (1 - g). A
    maximum-entropy critic also counts entropy, at most about one per action dimension and step at usual
    temperatures. A critic whose mean over a whole interval is three times beyond the sum believes in returns
    that cannot exist. It says so once per process.
    """

    def __init__(self, discount: float, act_size: int) -> None:
        self._horizon = 1.0 / max(1.0 - discount, 1e-6)
        self._act_size = act_size
        self._told = False

    def warning(self, row: Mapping[str, Any], largest_reward: float) -> str | None:
        """One line, the first time a row of metrics shows an explosion.

        Args:
            row: a row of ``metrics.jsonl``.
            largest_reward: the largest size of a reward since the run began, in the environment's
                units.
        """
        value = row.get("critic/q_mean")
        if self._told or value is None:
            return None
        entropy = self._act_size * row.get(
            "reward/divisor", 1.0
        )  # alpha is at most about 1 where rewards are divided
        possible = (largest_reward + entropy) * self._horizon
        if abs(value) <= MARGIN * possible:
            return None
        self._told = True
        return (
            f"warning: critic/q_mean is {value:.3g} at step {row['env_steps']:,}, but rewards of at most "
            f"{largest_reward:.3g} cannot add up to more than {possible:.3g}: the critic is diverging; try a "
            "lower critic learning rate, a lower discount or fewer updates per step"
        )
