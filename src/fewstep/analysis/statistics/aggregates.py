"""Statistics over many runs and tasks, as pure functions of arrays (Agarwal et al. 2021, arXiv 2108.13264).

``Scores`` hold one array per task, with the runs (seeds) of that task on the last axis; tasks may have
unequal numbers of runs. A full matrix ``[runs, tasks]`` is passed as ``matrix.T``. Every statistic gives each
task the same weight and reduces to the paper's when all tasks have equally many runs. Scores are normalised
(random actions 0, the reference 1; no bounds) except where a function says that only their order counts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Scores = Sequence[np.ndarray] | np.ndarray
"""One array ``[..., runs of the task]`` per task; the leading axes (bootstrap replications) are equal."""

Statistic = Callable[[Scores], np.ndarray]

REPLICATIONS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A statistic with its bootstrap interval; ``low`` and ``high`` are NaN where a task has a single run."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Profile:
    """A performance profile: ``above[i]`` is the share of runs with a score above ``taus[i]``, in [0, 1].

    ``low`` and ``high`` are pointwise intervals (not a band that holds for all thresholds at once); NaN where
    a task has a single run.
    """

    taus: np.ndarray
    above: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean(scores: Scores) -> np.ndarray:
    """Mean over tasks of the mean over runs. One outlying task can carry it."""
    return np.mean([task.mean(-1) for task in scores], axis=0)


def median(scores: Scores) -> np.ndarray:
    """Median over tasks of the mean over runs. Blind to all tasks but the middle one or two."""
    return np.median([task.mean(-1) for task in scores], axis=0)


def optimality_gap(scores: Scores, gamma: float = 1.0) -> np.ndarray:
    """How far the runs stay below ``gamma`` on average, ``mean(max(gamma - score, 0))``; lower is better.

    Scores above ``gamma`` earn nothing extra.
    """
    return mean([np.maximum(gamma - task, 0.0) for task in scores])


def interquartile_mean(scores: Scores) -> np.ndarray:
    """Mean of the middle half of all runs of all tasks: the lowest and the highest quarter are cut off.

    With N runs in all, ``floor(N / 4)`` are cut at each end (as ``scipy.stats.trim_mean`` at 0.25 does), so
    nothing is cut below four runs. Where tasks have unequal numbers of runs, a run weighs 1 / (runs of its
    task), and the same share of the weight is cut.
    """
    sizes = [task.shape[-1] for task in scores]
    values = np.concatenate([np.asarray(task, float) for task in scores], axis=-1)
    weights = np.concatenate([np.full(size, 1 / (size * len(sizes))) for size in sizes])
    order = np.argsort(values, axis=-1)
    ends = np.cumsum(weights[order], axis=-1)
    starts = ends - weights[order]
    cut = (len(weights) // 4) / len(weights)
    kept = np.clip(ends, cut, 1 - cut) - np.clip(starts, cut, 1 - cut)
    return (np.take_along_axis(values, order, -1) * kept).sum(-1) / kept.sum(-1)


STATISTICS: dict[str, Statistic] = {
    "IQM": interquartile_mean,
    "mean": mean,
    "median": median,
    "optimality gap": optimality_gap,
}
"""The aggregates by the names that tables give them."""


def estimate(
    statistic: Statistic,
    scores: Scores,
    replications: int = REPLICATIONS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """A statistic with its stratified bootstrap interval, percentile method.

    Each replication draws, for every task independently, as many of its runs as there are, with replacement.
    The interval says how the number would vary over other seeds on these tasks, not over other tasks. It is
    too narrow with few runs (``docs/evaluation-protocol.md``).

    Args:
        statistic: one of ``STATISTICS``, or another function of scores that reduces their last axes.
        scores: one array ``[runs]`` per task.
        replications: bootstrap draws.
        confidence: coverage aimed at, in (0, 1).
        seed: of the draws; equal seeds give equal intervals.
    """
    value = float(statistic(scores))
    if _single(scores):
        return Estimate(value, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    drawn = [task[rng.integers(len(task), size=(replications, len(task)))] for task in scores]
    low, high = _interval(statistic(drawn), confidence)
    return Estimate(value, float(low), float(high))


def probability_of_improvement(
    x: Scores,
    y: Scores,
    replications: int = REPLICATIONS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """Probability that a run of X scores above a run of Y on the same task, averaged over tasks; in [0, 1].

    Per task the Mann-Whitney statistic U / (n m), ties counted half. Only the order of scores within a task
    counts, so they need no normalisation. The interval resamples the runs of X and of Y within each task.

    Args:
        x, y: one array ``[runs]`` per task, the same tasks in the same order; numbers of runs may differ.
        replications, confidence, seed: as in ``estimate``.
    """
    rng = np.random.default_rng(seed)
    values, drawn = [], []
    for ours, theirs in zip(x, y, strict=True):
        wins = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
        values.append(wins.mean())
        a, b = _shares(rng, len(ours), replications), _shares(rng, len(theirs), replications)
        drawn.append(((a @ wins) * b).sum(-1))
    value = float(np.mean(values))
    if _single([*x, *y]):
        return Estimate(value, math.nan, math.nan)
    low, high = _interval(np.mean(drawn, axis=0), confidence)
    return Estimate(value, float(low), float(high))


def performance_profile(
    scores: Scores,
    taus: np.ndarray,
    replications: int = REPLICATIONS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Profile:
    """Share of runs above each threshold (the paper's score distribution), averaged over tasks.

    Args:
        scores: one array ``[runs]`` per task.
        taus: ``[n]`` thresholds, in units of the scores.
        replications, confidence, seed: as in ``estimate``.
    """
    rng = np.random.default_rng(seed)
    above = [(task[:, None] > taus).astype(float) for task in scores]
    value = np.mean([task.mean(0) for task in above], axis=0)
    if _single(scores):
        unknown = np.full(len(taus), math.nan)
        return Profile(taus, value, unknown, unknown)
    drawn = np.mean([_shares(rng, len(task), replications) @ task for task in above], axis=0)
    low, high = _interval(drawn, confidence)
    return Profile(taus, value, low, high)


def _single(scores: Scores) -> bool:
    """Whether some task has one run: resampling it would pass off ignorance as certainty."""
    return any(len(task) < 2 for task in scores)


def _shares(rng: np.random.Generator, runs: int, replications: int) -> np.ndarray:
    """``[replications, runs]``: how often a resample holds each run, divided by its size."""
    return rng.multinomial(runs, np.full(runs, 1 / runs), size=replications) / runs


def _interval(drawn: np.ndarray, confidence: float) -> np.ndarray:
    return np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
