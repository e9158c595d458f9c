"""What a person sees of a run: a bar on a terminal, plain lines elsewhere, and ``log.txt`` always."""

import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter(Protocol):
    """What the loop tells."""

    def note(self, text: str) -> None:
        """One line worth keeping."""
        ...

    def interval(self, row: dict[str, Any]) -> None:
        """A row of metrics was written."""
        ...

    def evaluated(self, row: dict[str, Any]) -> None:
        """A row of an evaluation was written."""
        ...


class Screen:
    """Standard error, which one run has for itself or several share: a bar on a terminal, else plain lines.

    Args:
        steps: environment steps of each run, for the bar.
        quiet: print nothing.
    """

    def __init__(self, steps: int, quiet: bool) -> None:
        self._steps = steps
        self._print = not quiet
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if self._print and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.completed:>9,.0f} / {task.total:,.0f} steps"),
                BarColumn(),
                TextColumn("{task.fields[about]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
        self._task = TaskID(0)

    def __enter__(self) -> "Screen":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=self._steps, about="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """One line worth keeping."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self._print:
            print(text, file=sys.stderr, flush=True)

    def progress(self, text: str, env_steps: int, about: str) -> None:
        """Move the bar and show a few words beside it, or print the line."""
        if self._bar is not None:
            self._bar.update(self._task, completed=env_steps, about=about)
        elif self._print:
            print(text, file=sys.stderr, flush=True)


class RunReporter:
    """Shows one run on a screen and appends the same plain lines to its ``log.txt``.

    Args:
        log: the file.
        steps: environment steps of the whole run.
        screen: where it is shown; what is quiet there is still written.
        label: put before every line on the screen, such as ``"seed 3: "`` where several runs share it.
    """

    def __init__(self, log: Path, steps: int, screen: Screen, label: str = "") -> None:
        self._file = open(log, "a", encoding="utf-8")  # noqa: SIM115  (closed in __exit__)
        self._steps, self._screen, self._label = steps, screen, label

    def __enter__(self) -> "RunReporter":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def note(self, text: str) -> None:
        """One line worth keeping."""
        self._write(text)
        self._screen.note(self._label + text)

    def interval(self, row: dict[str, Any]) -> None:
        """Move the bar, or print the line of the interval."""
        line = interval_line(row, self._steps)
        self._write(line)
        about = f"{self._label}return {number(row['episode_return'])}"
        self._screen.progress(self._label + line, row["env_steps"], about)

    def evaluated(self, row: dict[str, Any]) -> None:
        """Print the result of an evaluation."""
        returns = np.array(row["returns"])
        self.note(
            f"step {row['env_steps']:,}: evaluation of {row['actions']}: "
            f"return {number(returns.mean())} ± {number(returns.std())} over {len(returns)} episodes"
        )
        if cut := cut_note(row):
            self.note(f"step {row['env_steps']:,}: {cut}: their returns are those of unfinished episodes")

    def _write(self, text: str) -> None:
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
