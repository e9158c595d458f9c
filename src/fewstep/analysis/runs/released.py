"""Learning curves that others have released, in the long format of the field."""

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewstep.analysis.numbers import listing
from fewstep.analysis.runs.summary import Curve
from fewstep.errors import UsageError, shown

COLUMNS = ("exp", "env", "seed", "metric", "step", "value")
"""Of the file, in any order and among others: one row per number."""


@dataclass(frozen=True)
class Released:
    """What a file of curves holds.

    Attributes:
        source: its name.
        curves: experiment to task to a curve per seed; returns alone.
    """

    source: str
    curves: dict[str, dict[str, tuple[Curve, ...]]]

    def of(self, env_id: str) -> dict[str, tuple[Curve, ...]]:
        """Experiment to curves on our task of this id; others leave out what ours begin with (``dmc/``)."""
        names = {env_id, env_id.rpartition("/")[2]}
        return {
            exp: curves for exp, tasks in self.curves.items() for env, curves in tasks.items() if env in names
        }


def read_curves(path: Path, source: str | None = None) -> Released:
    """Read ``exp,env,seed,metric,step,value``; of the metrics those that are called a return. ``source`` is
    what the file is called beside them, by default its name.

    Raises:
        UsageError: the file cannot be read, lacks a column, holds something that is no number, or has no
            return or several kinds of it.
    """
    found: dict[tuple[str, str, str, str], dict[float, float]] = defaultdict(dict)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(
                    f"{path} has no column {listing(missing)}; its columns must be {listing(COLUMNS)}"
                )
            for row in reader:
                exp, env, seed, metric, step, value = (row[name] or "" for name in COLUMNS)
                place = f"{path}, line {reader.line_num}"
                found[exp, metric, env, seed][_number(step, place)] = _number(value, place)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    curves: dict[str, dict[str, tuple[Curve, ...]]] = {}
    for exp in dict.fromkeys(exp for exp, *_ in found):
        metric = _return_of(path, exp, {metric for other, metric, *_ in found if other == exp})
        tasks = {env for other, name, env, _ in found if (other, name) == (exp, metric)}
        curves[exp] = {
            env: tuple(
                (np.array(sorted(points)), np.array([points[step] for step in sorted(points)]))
                for (other, name, task, _), points in found.items()
                if (other, name, task) == (exp, metric, env)
            )
            for env in sorted(tasks)
        }
    return Released(source or path.name, curves)


def _number(text: str, place: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{place}: {shown(text)} is not a finite number")
    return number


def _return_of(path: Path, exp: str, metrics: set[str]) -> str:
    returns = sorted(name for name in metrics if "return" in name.lower())
    if len(returns) != 1:
        raise UsageError(
            f"{path}: {exp} must have one metric that is called a return, it has {listing(sorted(metrics))}"
        )
    return returns[0]
