"""Every number the report prints, as pure functions of runs. No plotting, no HTML."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewstep.analysis.runs.reading import Run

LAST = 10
"""Evaluations that the mean over the last of them takes at most."""

ENOUGH_SEEDS = 3
"""Below this the report warns."""

Curve = tuple[np.ndarray, np.ndarray]
"""``(env_steps [n], values [n])``."""


@dataclass(frozen=True)
class Result:
    """How one run did in one action mode; returns in the environment's units.

    Attributes:
        final: mean return of the last evaluation.
        last: mean over the last evaluations of their mean returns; averaged: how many, ``LAST`` or all there
            are.
        best: highest mean return of any evaluation. A maximum over noise: biased upwards.
        area: area under the mean-return curve divided by its width, that is the mean return along training.
        evaluations: how many there were; episodes: of the last one.
        success: 1 or 0 for each of these episodes, empty where the environment does not say.
        peak: mean over them of the highest reward of a step, NaN where it says nothing of its own.
    """

    actions: str
    final: float
    last: float
    best: float
    area: float
    evaluations: int
    episodes: int
    success: tuple[int, ...] = ()
    peak: float = math.nan

    @property
    def averaged(self) -> int:
        """Evaluations that ``last`` is the mean of."""
        return min(LAST, self.evaluations)


@dataclass(frozen=True)
class Cost:
    """What a run used, NaN if not recorded.

    Attributes:
        utd: updates per environment step once updates began.
        steps_per_second: over the whole run, evaluations and all.
        update_ms, act_ms: of one update, and of choosing one action for all environments; medians.
    """

    env_steps: float
    updates: float
    utd: float
    minutes: float
    steps_per_second: float
    update_ms: float = math.nan
    act_ms: float = math.nan


@dataclass(frozen=True)
class Variant:
    """Runs that differ in nothing but their seed."""

    label: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[Run, ...]:
        """The first run of every seed: another one of the same seed, a copy say, adds nothing to a mean."""
        first: dict[str, Run] = {}
        for run in self.runs:
            first.setdefault(run.seed or str(run.path), run)
        return tuple(first.values())


@dataclass(frozen=True)
class Group:
    """Runs whose returns may be compared: one environment under one version of its simulator
    (``Run.simulator``)."""

    env: str
    simulator: str | None
    variants: tuple[Variant, ...]

    @property
    def title(self) -> str:
        """Environment with the simulator its returns depend on, if they do and it is known."""
        return f"{self.env}, {self.simulator}" if self.simulator else self.env

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs of the group."""
        return tuple(run for variant in self.variants for run in variant.runs)


def modes(runs: Sequence[Run]) -> list[str]:
    """Action modes any run was evaluated in: most candidates first, then the single sample, then the rest."""

    def rank(mode: str) -> tuple[int, int, str]:
        match = re.fullmatch(r"best-of-(\d+)", mode)
        return (0, -int(match[1]), mode) if match else (1 if mode == "sample" else 2, 0, mode)

    return sorted({e.actions for run in runs for e in run.evaluations}, key=rank)


def mode_curve(run: Run, mode: str) -> Curve:
    """Mean return of every evaluation in one mode."""
    found = [e for e in run.evaluations if e.actions == mode]
    return np.array([e.env_steps for e in found], float), np.array([e.mean for e in found], float)


def results(run: Run) -> list[Result]:
    """One result for each action mode the run was evaluated in."""
    found = []
    for mode in modes([run]):
        steps, means = mode_curve(run, mode)
        newest = [e for e in run.evaluations if e.actions == mode][-1]
        found.append(
            Result(
                mode,
                float(means[-1]),
                float(means[-LAST:].mean()),
                float(means.max()),
                mean_height(steps, means),
                len(means),
                len(newest.returns),
                newest.success,
                float(np.mean(newest.peaks)) if newest.peaks else math.nan,
            )
        )
    return found


def mean_height(steps: np.ndarray, values: np.ndarray) -> float:
    """Trapezoid area under a curve divided by its width; the value itself for a single point."""
    width = float(steps[-1] - steps[0])
    return float(np.trapezoid(values, steps)) / width if width > 0 else float(values[-1])


def cost(run: Run) -> Cost:
    """Steps, updates and time of a run, from its metrics (a clock that restarted at a resume is added up)."""
    _, steps = run.series("env_steps")
    _, updates = run.series("updates")
    _, seconds = run.series("wall_seconds")
    if not len(steps):
        last = vars(run.evaluations[-1]) if run.evaluations else run.saved
        env_steps, updates = (float(last.get(key, math.nan)) for key in ("env_steps", "updates"))
        return Cost(env_steps, updates, math.nan, math.nan, math.nan)
    spent = clock_total(seconds) if len(seconds) else math.nan
    rate = float(steps[-1]) / spent if spent > 0 else math.nan
    count = float(updates[-1]) if len(updates) else math.nan
    timed = (run.series(f"wall_{what}_ms")[1] for what in ("update", "act"))
    each = [float(np.median(values)) if len(values) else math.nan for values in timed]
    return Cost(float(steps[-1]), count, updates_per_step(run), spent / 60, rate, *each)


def clock_total(seconds: np.ndarray) -> float:
    """Time on a clock that restarts at each resume: the last reading before every restart, added up."""
    ends = np.append(seconds[:-1][np.diff(seconds) < 0], seconds[-1])
    return float(ends.sum())


def updates_per_step(run: Run) -> float:
    """Slope of updates over environment steps from the first row with updates; NaN with fewer than two."""
    steps, updates = run.series("updates")
    begun = updates > 0
    steps, updates = steps[begun], updates[begun]
    return float((updates[-1] - updates[0]) / (steps[-1] - steps[0])) if len(steps) > 1 else math.nan


def common_mean(curves: Sequence[Curve]) -> Curve:
    """Mean over curves at the steps that all of them have (none is extended, none interpolated)."""
    filled = [curve for curve in curves if len(curve[0])]
    if not filled:
        return np.zeros(0), np.zeros(0)
    shared = sorted(set.intersection(*(set(steps.tolist()) for steps, _ in filled)))
    tables = [dict(zip(steps.tolist(), values.tolist(), strict=True)) for steps, values in filled]
    return np.array(shared, float), np.array([np.mean([table[s] for table in tables]) for s in shared], float)


def binned(steps: np.ndarray, values: np.ndarray, bins: int) -> tuple[np.ndarray, ...]:
    """``(steps, mean, low, high)`` over ``bins`` nearly equal chunks; the rows as they are if fewer."""
    if len(steps) <= bins:
        return steps, values, values, values
    parts = np.array_split(np.arange(len(steps)), bins)
    columns = [(steps[p].mean(), values[p].mean(), values[p].min(), values[p].max()) for p in parts]
    return tuple(np.array(column) for column in zip(*columns, strict=True))


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, keys joined with dots: the key space of ``--set``."""
    items: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        items |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return items


def differences(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Dotted keys whose value is not the same in all configs; None where a config lacks the key."""
    tables = [flat(config) for config in configs]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = {key: [table.get(key) for table in tables] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Runs by environment and MuJoCo version, inside by configuration; seeds in order, first come first."""
    places: dict[tuple[str, str | None], list[Run]] = {}
    for run in runs:
        places.setdefault((run.env, run.simulator), []).append(run)
    return [Group(env, simulator, _variants(members)) for (env, simulator), members in places.items()]


def _variants(runs: list[Run]) -> tuple[Variant, ...]:
    """Split runs of one environment by everything but the seed, and name each part by what sets it apart."""
    parts: dict[str, list[Run]] = {}
    for run in runs:
        rest = {key: value for key, value in flat(run.config).items() if key != "seed"}
        parts.setdefault(repr(sorted(rest.items(), key=lambda item: item[0])), []).append(run)
    members = [sorted(part, key=_seed_order) for part in parts.values()]
    configs = [flat(part[0].config) for part in members]
    labels = label([part[0].algo or part[0].path.name for part in members], configs)
    return tuple(Variant(name, tuple(part)) for name, part in zip(labels, members, strict=True))


def label(algos: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[str]:
    """Names that tell variants apart: the algorithm, its preset if that is enough, or what else differs.

    Where the differences are too many for a name, letters stand for them.
    """
    labels = []
    for algo, own in zip(algos, settings, strict=True):
        peers = [other for name, other in zip(algos, settings, strict=True) if name == algo]
        apart = [key for key in differences(peers) if key not in ("seed", "algo", "env")]
        if len({str(other.get("preset")) for other in peers}) == len(peers):
            apart = ["preset"]
        named = ", ".join(f"{key}={own.get(key)}" for key in apart)
        short = f" [{named}]" if len(named) <= 40 else f" {_letters(peers.index(own))}"
        labels.append(algo + (short if len(peers) > 1 else ""))
    return labels


def _letters(index: int) -> str:
    """A to Z, AA, AB, and so on."""
    before, last = divmod(index, 26)
    return (_letters(before - 1) if before else "") + chr(65 + last)


def _seed_order(run: Run) -> tuple[int, str]:
    return (int(run.seed), "") if run.seed.isdecimal() else (0, run.seed)
