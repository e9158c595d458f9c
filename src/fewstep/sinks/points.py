"""A run's rows as points of scalar curves, each handed out once and in order."""

import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

from fewstep.errors import FewstepError
from fewstep.runs.layout import RunDir
from fewstep.runs.metrics import Row, read_rows

POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Point:
    """Everything that was logged at one environment step.

    Attributes:
        env_steps: the position on the axis.
        wall_seconds: seconds of training until then, over all sessions of the run.
        values: curve name -> value. Metrics keep their names, an evaluation becomes
            ``evaluation/MODE/return`` and ``evaluation/MODE/length``, means over its episodes.
    """

    env_steps: int
    wall_seconds: float
    values: dict[str, float]


class Sink(Protocol):
    """Where points go. ``last`` is the newest step it holds from an earlier time, -1 if none."""

    last: int

    def write(self, point: Point) -> None:
        """Add one point."""
        ...

    def close(self) -> str:
        """Finish, and return where the curves are."""
        ...


def points(run: RunDir) -> list[Point]:
    """All rows of a run, those of one environment step together, in order.

    Raises:
        FewstepError: a row is damaged, or not one that a run writes.
    """
    found: dict[int, Point] = {}
    for path, values_of in ((run.metrics, _scalars), (run.evaluations, _evaluation)):
        for number, row in enumerate(read_rows(path), start=1):
            try:
                step, seconds = int(row["env_steps"]), float(row.get("wall_seconds", 0.0))
                found.setdefault(step, Point(step, seconds, {})).values.update(values_of(row))
            except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
                raise FewstepError(f"{path}, line {number} is not a row of a run: {error!r}") from error
    return [found[step] for step in sorted(found)]


def configuration(run: RunDir) -> dict[str, Any]:
    """The run's settings as nested tables.

    Raises:
        FewstepError: the file is damaged or lacks what names a run.
    """
    try:
        config = tomllib.loads(run.config.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FewstepError(f"{run.config} is damaged: {error}") from error
    missing = {"env", "algo", "seed"} - config.keys()
    if missing:
        raise FewstepError(f"{run.config} is damaged: it has no {min(missing)}")
    return config


def fill(run: RunDir, sink: Sink) -> int:
    """Write what the sink does not hold yet; return the number of points."""
    new = [point for point in points(run) if point.env_steps > sink.last]
    return _send(new, sink)


def follow(run: RunDir, sink: Sink, sleep: Callable[[float], Any] = time.sleep) -> int:
    """Write every point as it comes until no process writes the run any more; return their number.

    The newest step waits for a later one or for the end, because an evaluation may still be added to it. A
    resumed run repeats the rows since its checkpoint with the same values: the sink has them already.
    """
    sent, writing = 0, True
    while writing:
        writing = run.is_locked()
        known = points(run)
        settled = known[:-1] if writing else known
        sent += _send([point for point in settled if point.env_steps > sink.last], sink)
        if writing:
            sleep(POLL_SECONDS)
    return sent


def _send(new: list[Point], sink: Sink) -> int:
    for point in new:
        sink.write(point)
        sink.last = point.env_steps
    return len(new)


def _scalars(row: Row) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in row.items()
        if name != "env_steps" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _evaluation(row: Row) -> dict[str, float]:
    name = f"evaluation/{row['actions']}"
    found = {f"{name}/return": fmean(row["returns"]), f"{name}/length": fmean(row["lengths"])}
    told = {"success": "success", "peaks": "highest_reward"}
    return found | {f"{name}/{title}": fmean(row[key]) for key, title in told.items() if key in row}
