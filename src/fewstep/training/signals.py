"""Ctrl-C and SIGTERM: finish the current step, save, leave. A second signal leaves at once."""

import importlib
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fewstep import foreign
from fewstep.errors import FewstepError

# signal.getsignal without its search of an enumeration for the handler, which takes 2 us of every step.
_handler_of: Callable[[int], Any] = importlib.import_module("_signal").getsignal
NUMBERS = (signal.SIGINT, signal.SIGTERM)
LOOK_SECONDS = 1.0
"""Between two looks at whether the signals are blocked, which takes longer than looking at the handlers."""
Check = Callable[[], None]
"""Called at every step of training and evaluation; raises ``Interrupted`` once a signal has come."""


class Interrupted(FewstepError):
    """A signal asked the run to stop; ``exit_status`` is 128 plus its number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_status = 128 + number


def never() -> None:
    """For callers that leave signals alone (the Python API: Ctrl-C is an ordinary KeyboardInterrupt)."""


def blocked() -> set[int]:
    """Which of the two signals this thread does not receive now."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(NUMBERS)


@contextmanager
def watched() -> Generator[Check]:
    """Turn SIGINT and SIGTERM into a flag while the block runs; gives the check to call between steps.

    User code may set handlers of its own, ignore the signals or block them: each check takes them back and
    says so once (``foreign.tell``).
    """
    received: list[int] = []
    told: set[int] = set()
    at_first = blocked()
    looked = 0.0

    def handle(number: int, _frame: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)

    def tell_of(number: int) -> None:
        if number not in told:
            told.add(number)
            foreign.tell(
                f"{signal.Signals(number).name} had been taken over, ignored or blocked by the environment's "
                "code; fewstep hears it again and saves when it comes"
            )

    def check() -> None:
        nonlocal looked
        for number in NUMBERS:
            if _handler_of(number) is not handle:
                signal.signal(number, handle)
                tell_of(number)
        now = time.monotonic()
        if now - looked > LOOK_SECONDS:
            looked = now
            for number in blocked() - at_first:
                tell_of(number)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        if received:
            raise Interrupted(received[0])

    previous = {number: signal.signal(number, handle) for number in NUMBERS}
    try:
        yield check
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
