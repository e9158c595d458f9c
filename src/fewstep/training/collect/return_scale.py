"""The running scale of discounted returns, by which rewards can be divided (``replay.reward``).

As in XQC (``std``) and FlashSAC (``bounded``), after Engstrom et al. 2020 (arXiv 2005.12729): rewards are
kept as they came and are divided when they are drawn, by the scale of that moment.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.config.replay import RewardScale

EPSILON = 1e-8
"""Added to the variance inside the root."""
VALUES = frozenset(
    [
        "critic/q_mean",
        "critic/q_std",
        "critic/std",
        "actor/q",
        "policy/candidate_q_gap",
        "policy/candidate_q_std",
        "policy/relabel_gain",
        "mirror/weight_mean",
        "dual/temperature",
        "regression/alpha",
        "temperature/alpha",
    ]
)
"""Metrics that are returns, differences of them, or returns per nat: users see these in the environment's own
units."""
BOUND = 5.0
"""Size of the largest return, divided, in ``bounded``."""


def in_own_units(metrics: dict[str, float], divisor: float) -> dict[str, float]:
    """``metrics`` of updates whose rewards were divided by about ``divisor``, ``VALUES`` multiplied by it.

    The temperature of added noise (``policy/noise_std``) is a width and no return, so it stays as it is.
    """
    width = {"temperature/alpha"} if "policy/noise_std" in metrics else set[str]()
    return {
        name: value * divisor if name in VALUES and name not in width else value
        for name, value in metrics.items()
    }


class ReturnScale:
    """Variance and largest size of ``g_t = r_t + discount g_(t-1)``, from 0 at each start of an episode.

    ``g`` looks backwards: it is no return of any state, but its spread is that of the returns, and it is
    known at once. One variance is shared by all environments.
    """

    def __init__(self, how: RewardScale, discount: float, envs: int) -> None:
        self._how, self._discount = how, discount
        self._g = np.zeros(envs)
        self._count, self._mean, self._squares, self._largest = 0, 0.0, 0.0, 0.0

    def observe(
        self, reward: NDArray[Any], ended: NDArray[np.bool_], lost: NDArray[np.bool_] | None = None
    ) -> None:
        """Take in one step of every environment; where ``lost`` it did not happen."""
        self._g = reward + self._discount * self._g
        for value in self._g if lost is None else self._g[~lost]:  # Welford's update, one value at a time
            self._count += 1
            shift = value - self._mean
            self._mean += shift / self._count
            self._squares += shift * (value - self._mean)
            self._largest = max(self._largest, abs(float(value)))
        self._g[ended] = 0.0

    def begin_with(self, reward: NDArray[Any], first: NDArray[np.bool_]) -> None:
        """Take in recorded episodes, one after another; ``first`` is True where one begins."""
        running, self._g = self._g, np.zeros(1)
        for value, begins in zip(reward, first, strict=True):
            if begins:
                self._g[:] = 0.0
            self.observe(value, np.zeros(1, bool))
        self._g = running

    def cut(self, mask: NDArray[np.bool_]) -> None:
        """The episodes where ``mask[N]`` is True were abandoned."""
        self._g[mask] = 0.0

    def forget(self, envs: int) -> None:
        """The next step begins an episode in every one of ``envs`` environments."""
        self._g = np.zeros(envs)

    @property
    def divisor(self) -> float:
        """What rewards are divided by now: 1 before the first step, and for ``raw``."""
        if self._how == "raw" or not self._count:
            return 1.0
        std = float(np.sqrt(self._squares / self._count + EPSILON))
        return std if self._how == "std" else max(std, self._largest / BOUND)

    def snapshot(self) -> dict[str, Any]:
        """JSON values that ``restore`` takes."""
        numbers = (self._count, float(self._mean), float(self._squares), self._largest)
        return {"running": self._g.tolist(), "moments": numbers}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a snapshot, to the last bit."""
        self._g = np.array(saved["running"], float)
        self._count, self._mean, self._squares, self._largest = saved["moments"]
