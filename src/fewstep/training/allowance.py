"""How long saving may keep training waiting: a share of the time, enforced."""

import time
from collections.abc import Generator
from contextlib import contextmanager

SHARE = 0.01
"""Of the time since the process began training this run."""
GRACE_SECONDS = 10.0
"""Beyond the share: a short run saves when it is told to, however often."""


class Allowance:
    """Counts the seconds that saves took from training and what is left to take."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._spent = 0.0

    @property
    def left(self) -> float:
        """Seconds that a save may take now; below 0 it has to be put off."""
        return GRACE_SECONDS + SHARE * (time.monotonic() - self._began) - self._spent

    @contextmanager
    def spending(self) -> Generator[None]:
        """Count the time of the block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._spent += time.monotonic() - began
