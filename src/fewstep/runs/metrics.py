"""JSON lines: one row per log interval or evaluation, flushed as written, the truth that reports read."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError, NonFiniteError
from fewstep.runs.files import write_text

Row = dict[str, Any]
TAIL = 65_536
"""Bytes at the end of a file in which its last complete line is looked for first."""


def sample_std(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample (n - 1 in the denominator), as it stands behind every ``±``; None of
    fewer than two values, which have none."""
    return statistics.stdev(values) if len(values) > 1 else None


class RowWriter:
    """Appends rows to one JSON-lines file.

    The bytes depend on the values alone: numbers are written in their shortest exact form and keys in the
    order given. A row with a NaN or an infinity is refused, because no reader could tell a broken run from a
    good one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  (lives as long as the run)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row and flush it.

        Raises:
            NonFiniteError: a value is NaN or infinite; the message names it and the row's ``env_steps``.
        """
        check_row(row)
        try:
            self._file.write(json.dumps(row, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise FewstepError(
                f"cannot write {self._path}: {error.strerror}; earlier rows are intact"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def check_row(row: Mapping[str, Any]) -> None:
    """Raise a NonFiniteError that names a value which is NaN or infinite and the row's ``env_steps``."""
    for name, value in row.items():
        require_finite(name, value, row.get("env_steps"))


def require_finite(name: str, value: Any, env_steps: Any) -> None:
    """Raise a NonFiniteError if a number, or one in a list, is NaN or infinite."""
    values = value if isinstance(value, list | tuple) else [value]
    for number in values:
        if isinstance(number, float) and not math.isfinite(number):
            raise NonFiniteError(f"{name} is {number} at environment step {env_steps}")


def read_rows(path: Path) -> list[Row]:
    """All rows of a file; none if it does not exist. A torn last line (the writer was killed) is left out.

    Raises:
        FewstepError: a line before the last one is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows: list[Row] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise FewstepError(f"{path}, line {number} is damaged: {error}") from error
    return rows


def truncate_rows(path: Path, env_steps: int, updates: int) -> None:
    """Drop the rows after ``env_steps`` or ``updates`` and a torn last line, so that a resumed run adds to
    its own past. Rows of updates on recorded data, before the first step, differ in their updates alone."""
    kept = []
    for number, row in enumerate(read_rows(path), start=1):
        try:
            past = row["env_steps"] <= env_steps and row.get("updates", 0) <= updates
        except (KeyError, TypeError, AttributeError) as error:
            raise FewstepError(f"{path}, line {number} is not a row of a run: {error!r}") from error
        kept += [row] if past else []
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept))


def last_row(path: Path) -> dict[str, Any]:
    """The last complete line that is a row, which has whole ``env_steps``; empty if there is none."""
    try:
        with open(path, "rb") as file:
            size, tail = file.seek(0, 2), TAIL
            while True:
                file.seek(max(0, size - tail))
                lines = file.read().split(b"\n")
                for line in reversed(lines[:-1] if tail >= size else lines[1:-1]):
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError):
                        continue
                    if isinstance(row, dict) and type(row.get("env_steps")) is int:
                        return row
                if tail >= size:
                    return {}
                tail *= 2
    except OSError:
        return {}


def last_step(path: Path) -> int:
    """Environment steps of the last row, 0 without one."""
    return last_row(path).get("env_steps", 0)
