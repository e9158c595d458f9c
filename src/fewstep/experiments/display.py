"""What a person sees of a running experiment: a table on a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fewstep.experiments.schedule import Standing, Tracked
from fewstep.experiments.status import progress

EVERY = 60.0
"""Seconds between plain summaries where there is no terminal."""


class Display:
    """Shows the entries of a schedule as they change.

    Args:
        slots: how many runs go side by side.
    """

    def __init__(self, slots: int) -> None:
        console = Console(stderr=True)
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None
        self._slots = slots
        self._known: dict[str, Standing] = {}
        self._told = time.monotonic()

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, entries: Sequence[Tracked]) -> None:
        """Redraw the table, or print what has changed."""
        if self._live is not None:
            self._live.update(self._table(entries))
            return
        for entry in entries:
            if self._known.get(entry.job.name) != entry.standing:
                self._known[entry.job.name] = entry.standing
                if entry.standing is not Standing.WAITING:
                    self._print(f"{entry.job.name}: {entry.standing} {entry.message}".rstrip())
        if time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            counts = Counter(entry.standing for entry in entries)
            self._print(", ".join(f"{number} {standing}" for standing, number in counts.items()))
            for entry in entries:
                if entry.standing is Standing.RUNNING:
                    self._print(f"  {entry.job.name}: {_state(entry)}")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def _table(self, entries: Sequence[Tracked]) -> Table:
        counts = Counter(entry.standing for entry in entries)
        title = ", ".join(f"{number} {standing}" for standing, number in counts.items())
        table = Table(title=f"{title} ({self._slots} at a time)", title_justify="left")
        for column in ("run", "standing", "steps, speed, last evaluation"):
            table.add_column(column)
        for entry in entries:
            if entry.standing not in (Standing.WAITING, Standing.FINISHED):
                words = entry.message or _state(entry)
                table.add_row(Text(entry.job.name), entry.standing.value, Text(words))  # no markup
        return table


def _state(entry: Tracked) -> str:
    found = progress(entry.job)
    words = [f"{found.env_steps:,} of {entry.job.config.training.steps:,}"]
    if found.steps_per_second is not None:
        words.append(f"{found.steps_per_second:.0f} steps/s")
    if found.last_return is not None:
        words.append(f"return {found.last_return:,.4g}")
    return ", ".join(words)
