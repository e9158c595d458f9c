"""Return against minutes of training, ours beside other libraries, and the minutes to a given return.

    python -m benchmarks.time_to_return NAME RUN_OR_FILE... --reach 8000

A run of ours is its directory; of another library the file that ``benchmarks/peers/train.py`` wrote. Time is
training alone: what evaluations took is taken off, compiling is not. Ours includes saving checkpoints, while
the other libraries save nothing. Runs are seeds of one row if they have one label: ours the directory above
``seed-N``, and they may differ in nothing but the seed; theirs the library and the algorithm. All must be
of one task, made on one machine in the same hours. Writes ``benchmarks/results/time_to_return/NAME.json``,
every evaluation in it, and the figure ``NAME.svg``: the mean over seeds, and from the lowest to the highest.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks.record import FOLDER, machine, refuse_unlike
from fewstep.analysis.figures import style


@dataclass(frozen=True)
class Curve:
    """One run: minutes of training and the mean return at each evaluation."""

    label: str
    env: str
    seed: str
    env_steps: list[int]
    minutes: list[float]
    returns: list[float]

    def minutes_to(self, height: float) -> float | None:
        """When an evaluation first reached ``height``; None: never."""
        reached = [m for m, value in zip(self.minutes, self.returns, strict=True) if value >= height]
        return round(reached[0], 1) if reached else None


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ours(run: Path) -> Curve:
    """A run directory, in the mode that was evaluated first: the native one unless the run says otherwise."""
    evaluations, metrics = rows(run / "evaluations.jsonl"), rows(run / "metrics.jsonl")
    clock = [row["env_steps"] for row in metrics], [row["wall_seconds"] for row in metrics]
    steps, minutes, returns = [], [], []
    evaluating = 0.0  # before this step: the row of metrics is written first
    for step in dict.fromkeys(row["env_steps"] for row in evaluations):
        here = [row for row in evaluations if row["env_steps"] == step]
        steps.append(step)
        minutes.append((float(np.interp(step, *clock)) - evaluating) / 60)
        returns.append(fmean(here[0]["returns"]))
        evaluating += sum(row["wall_seconds"] for row in here)
    return Curve(run.parent.name, run.parent.parent.name, run.name, steps, minutes, returns)


def theirs(path: Path) -> Curve:
    """``LIBRARY-ALGO-ENV-seed-N.jsonl``."""
    name, seed = path.stem.rsplit("-seed-", 1)
    library, algo, env = name.split("-", 2)
    found = rows(path)
    return Curve(
        f"{library} {algo}",
        env,
        f"seed-{seed}",
        [row["env_steps"] for row in found],
        [row["train_seconds"] / 60 for row in found],
        [fmean(row["returns"]) for row in found],
    )


def draw(groups: dict[str, list[Curve]], heights: Sequence[float], path: Path) -> None:
    """One line per label over the minutes that all its seeds have seen."""
    with style.styled():
        longest = max(map(len, groups)) + len(" (3)")
        figure, axes = style.panel((7.0, 4.0), right=0.1 * longest)
        ends: list[tuple[str, float, str]] = []
        for (label, curves), colour in zip(groups.items(), cycle(style.SERIES), strict=False):
            last = min(curve.minutes[-1] for curve in curves)
            grid = np.linspace(0.0, last, 200)
            lines = [np.interp(grid, curve.minutes, curve.returns) for curve in curves]
            mean = np.mean(lines, axis=0)
            axes.plot(grid, mean, color=colour)
            axes.fill_between(
                grid, np.min(lines, axis=0), np.max(lines, axis=0), color=colour, alpha=0.15, lw=0
            )
            ends.append((f"{label} ({len(curves)})", float(mean[-1]), colour))
        for height in heights:
            axes.axhline(height, lw=0.8, ls=":", color="grey")
        axes.set_xlabel("minutes of training")
        axes.set_title("return of an evaluation, mean over seeds (their number)")
        axes.set_xlim(0, None)
        style.end_labels(axes, ends)
        path.write_bytes(style.to_file(figure, "svg"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--reach", type=float, nargs="*", default=[])
    chosen = parser.parse_args()
    curves = [ours(path) if path.is_dir() else theirs(path) for path in chosen.runs]
    if len({curve.env for curve in curves}) != 1:
        parser.error(f"the runs are of several tasks: {', '.join(sorted({c.env for c in curves}))}")
    groups: dict[str, list[Curve]] = defaultdict(list)
    own: dict[str, list[Path]] = defaultdict(list)
    for path, curve in zip(chosen.runs, curves, strict=True):
        groups[curve.label].append(curve)
        if path.is_dir():
            own[curve.label].append(path)
    for runs in own.values():
        refuse_unlike(runs)
    folder = FOLDER / "time_to_return"
    folder.mkdir(parents=True, exist_ok=True)
    summary: dict[str, dict[str, object]] = {}
    for label, seeds in groups.items():
        row: dict[str, object] = {
            "seeds": len(seeds),
            "env_steps": min(curve.env_steps[-1] for curve in seeds),
            "minutes": round(fmean(curve.minutes[-1] for curve in seeds), 1),
            "last": round(fmean(curve.returns[-1] for curve in seeds), 1),
        }
        for height in chosen.reach:
            each = [curve.minutes_to(height) for curve in seeds]
            reached = [minutes for minutes in each if minutes is not None]
            # The median of all seeds, those that never got there counted as the longest.
            middle = median(reached + [float("inf")] * (len(each) - len(reached)))
            row[f"minutes to {height:g}, each seed"] = each
            row[f"minutes to {height:g}"] = None if middle == float("inf") else middle
        summary[label] = row
        print(label, row)
    content = {"env": curves[0].env, "summary": summary, "curves": [asdict(c) for c in curves]}
    content["machine"] = machine()
    (folder / f"{chosen.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(groups, chosen.reach, folder / f"{chosen.name}.svg")


if __name__ == "__main__":
    main()
