"""Ctrl-C and SIGTERM: finish the current step, save, leave. A second signal leaves at once."""

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from fewstep.errors import FewstepError

Check = Callable[[], None]
"""Called at every step of training and evaluation; raises ``Interrupted`` once a signal has come."""


class Interrupted(FewstepError):
    """A signal asked the run to stop; ``exit_status`` is 128 plus its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_status = 128 + number


def never() -> None:
    """For callers that leave signals alone (the Python API: Ctrl-C is an ordinary KeyboardInterrupt)."""


@contextmanager
def watched() -> Generator[Check]:
    """Turn SIGINT and SIGTERM into a flag while the block runs; gives the check to call between steps."""
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)

    def check() -> None:
        if received:
            raise Interrupted(received[0])

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
