"""How often something succeeded, with an interval for the probability behind it."""

import math
from collections.abc import Sequence
from statistics import NormalDist

from fewstep.analysis.statistics.aggregates import CONFIDENCE, Estimate


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Estimate:
    """The share of successes and Wilson's score interval (Wilson 1927) for the probability of one.

    All probabilities p whose z-test the data do not reject: |share - p| <= z sqrt(p (1 - p) / trials).

    Args:
        successes: 0 to ``trials``.
        trials: at least 1, independent.
        confidence: of the interval, in (0, 1).
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = successes / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def success_words(success: Sequence[int]) -> str:
    """``7 of 10 (0.40 to 0.89)``."""
    found = wilson(sum(success), len(success))
    return f"{sum(success)} of {len(success)} ({found.low:.2f} to {found.high:.2f})"
