"""What a person sees of a run: a bar on a terminal, plain lines elsewhere, and ``log.txt`` always."""

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fewstep.printing import Unfailing
from fewstep.runs.metrics import sample_std

MOVE_SECONDS = 0.25
"""Between two moves of the bar."""


class Reporter(Protocol):
    """What the loop tells."""

    def step(self, env_steps: int, updates: int) -> None:
        """One more step was taken."""
        ...

    def note(self, text: str) -> None:
        """One line worth keeping."""
        ...

    def interval(self, row: dict[str, Any]) -> None:
        """A row of metrics was written."""
        ...

    def evaluated(self, row: dict[str, Any]) -> None:
        """A row of an evaluation was written."""
        ...

    def saved(self, path: Path) -> None:
        """A checkpoint is on disk."""
        ...


class Pace:
    """How long the rest takes at the rate since the first update.

    What comes before it, random steps and compiling, says nothing of the rest.
    """

    def __init__(self, steps: int) -> None:
        """``steps`` in all."""
        self._steps = steps
        self._updates: int | None = None
        self._since: tuple[float, int] | None = None

    def step(self, env_steps: int, updates: int, now: float) -> None:
        """So far it has come; ``now`` in seconds."""
        if self._updates is None:
            self._updates = updates
        if self._since is None and updates > self._updates:
            self._since = now, env_steps

    def left(self, env_steps: int, now: float) -> timedelta | None:
        """The time left, None as long as there is no rate."""
        if self._since is None or env_steps <= self._since[1]:
            return None
        seconds_per_step = (now - self._since[0]) / (env_steps - self._since[1])
        return timedelta(seconds=round(seconds_per_step * max(0, self._steps - env_steps)))


class Screen:
    """Standard error, which one run has for itself or several share: a bar on a terminal, else plain lines.

    Args:
        steps: environment steps of each run, for the bar.
        quiet: print nothing.
        bar: False for plain lines on a terminal, too.
    """

    def __init__(self, steps: int, quiet: bool, bar: bool = True) -> None:
        self._steps = steps
        self._print = not quiet
        self._pace, self._moved = Pace(steps), 0.0
        console = Console(file=cast(TextIO, Unfailing(sys.stderr)))
        self._bar: Progress | None = None
        if self._print and bar and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.completed:>9,.0f} / {task.total:,.0f} steps"),
                BarColumn(),
                TextColumn("{task.fields[about]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=console,
            )
        self._task = TaskID(0)

    def __enter__(self) -> "Screen":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=self._steps, about="", left="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, env_steps: int, updates: int) -> None:
        """Move the bar, several times a second; called at every step."""
        if self._bar is None or not env_steps:  # before the first step there is no rate of steps
            return
        now = time.monotonic()
        self._pace.step(env_steps, updates, now)
        if now - self._moved >= MOVE_SECONDS:
            self._moved = now
            left = self._pace.left(env_steps, now)
            text = "" if left is None else f"{left} left"
            self._bar.update(self._task, completed=env_steps, left=text)

    def note(self, text: str) -> None:
        """One line worth keeping."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self._print:
            print(text, file=Unfailing(sys.stderr), flush=True)

    def progress(self, text: str, env_steps: int, about: str) -> None:
        """Show a few words beside the bar, or print the line."""
        if self._bar is not None:
            self._bar.update(self._task, completed=env_steps, about=about)
        elif self._print:
            print(text, file=Unfailing(sys.stderr), flush=True)


class RunReporter:
    """Shows one run on a screen and appends the same plain lines to its ``log.txt``.

    Args:
        log: the file; None where no run is kept.
        steps: environment steps of the whole run.
        screen: where it is shown; what is quiet there is still written.
        label: put before every line on the screen, such as ``"seed 3: "`` where several runs share it.
    """

    def __init__(self, log: Path | None, steps: int, screen: Screen, label: str = "") -> None:
        self._file: TextIO | None = None
        if log is not None:
            # A name of the file system need not be text.
            self._file = open(log, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  (__exit__)
        self._steps, self._screen, self._label = steps, screen, label

    def __enter__(self) -> "RunReporter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def step(self, env_steps: int, updates: int) -> None:
        """Move the bar."""
        self._screen.step(env_steps, updates)

    def note(self, text: str) -> None:
        """One line worth keeping."""
        self._write(text)
        self._screen.note(self._label + text)

    def interval(self, row: dict[str, Any]) -> None:
        """Move the bar, or print the line of the interval."""
        line = interval_line(row, self._steps)
        self._write(line)
        self._screen.progress(self._label + line, row["env_steps"], self._label + about(row))

    def evaluated(self, row: dict[str, Any]) -> None:
        """Print the result of an evaluation."""
        returns: list[float] = row["returns"]
        spread, count = sample_std(returns), len(returns)
        self.note(
            f"step {row['env_steps']:,}: evaluation of {row['actions']}: "
            f"return {number(sum(returns) / count)}"
            + ("" if spread is None else f" ± {number(spread)} (sample sd)")
            + f" over {count} episode{'s' if count > 1 else ''}"
            + (f", {sum(row['success'])} of them a success" if "success" in row else "")
        )
        if cut := cut_note(row):
            self.note(f"step {row['env_steps']:,}: {cut}: their returns are those of unfinished episodes")

    def saved(self, path: Path) -> None:
        """Nothing: it is what is expected."""

    def _write(self, text: str) -> None:
        if self._file is not None:
            self._file.write(text + "\n")
            self._file.flush()


def interval_line(row: dict[str, Any], steps: int) -> str:
    """The plain line of one metrics row."""
    rate = row["wall_env_steps_per_second"]
    parts = [f"step {row['env_steps']:,} / {steps:,}", f"updates {row['updates']:,}"]
    parts += [f"return {number(row['episode_return'])}"]
    parts += [f"{name} {number(row[name])}" for name in ("critic/loss", "policy/entropy") if name in row]
    parts += [f"{rate:,.0f} steps/s"]
    return "  ".join(parts)


def about(row: dict[str, Any]) -> str:
    """The few words of one metrics row that stand beside a bar."""
    return f"return {number(row['episode_return'])}"


def number(value: float | None) -> str:
    """Four significant digits without an exponent for everyday sizes; a dash for nothing."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def cut_note(row: dict[str, Any]) -> str:
    """``3 of 10 episodes were cut at 10,000 steps``; empty if all had ended."""
    lengths = [length for length, cut in zip(row["lengths"], row["cut"], strict=True) if cut]
    return (
        f"{len(lengths)} of {len(row['cut'])} episodes were cut at {max(lengths):,} steps" if lengths else ""
    )
