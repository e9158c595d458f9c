"""Signals that wait until a step is whole: Ctrl-C must not tear what is being changed.

Python raises ``KeyboardInterrupt`` (or whatever a handler of the user's raises) between any two instructions
of the main thread. An update gives the networks away and takes new ones back, a step is counted, stored and
learned from: in between nothing may be raised.
"""

import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 5.0
"""Seconds that a signal waits at least before the same one, sent again, is handled at once."""


class _Deferral:
    """Holds back the signals that Python code handles; made and used in the main thread alone."""

    def __init__(self) -> None:
        self.waits = True
        self._since: dict[int, float] = {}
        self._frames: dict[int, FrameType | None] = {}
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def begin(self) -> None:
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._handle)

    def end(self) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._handle:  # else somebody has set another one meanwhile
                signal.signal(number, handler)
        self.waits = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.waits and now - self._since.setdefault(number, now) < PATIENCE:
            self._frames[number] = frame
        else:
            self._forget(number)
            self._handlers[number](number, frame)

    def _forget(self, number: int) -> FrameType | None:
        self._since.pop(number, None)
        return self._frames.pop(number, None)

    def deliver(self) -> None:
        """Handle what has come: a KeyboardInterrupt is raised here."""
        while self._frames:
            number = next(iter(self._frames))
            self._handlers[number](number, self._forget(number))


_deferrals: list[_Deferral] = []
"""Those at work in the main thread, the innermost last."""


@contextmanager
def deferred() -> Generator[Callable[[], None]]:
    """Signals wait while the block runs, but for what it calls ``at_once``.

    Gives the function to call wherever everything is whole: it handles what has come. What comes after its
    last call is handled at the end of the block. In other threads, which no signal reaches, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    deferral = _Deferral()
    try:
        deferral.begin()
        _deferrals.append(deferral)
        yield deferral.deliver
    finally:
        if deferral in _deferrals:
            _deferrals.remove(deferral)
        deferral.end()
        deferral.deliver()


def at_once(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``call(...)``, code of the user's that may take any time: a signal interrupts it as usual."""
    if not _deferrals or threading.current_thread() is not threading.main_thread():
        return call(*args, **kwargs)
    deferral = _deferrals[-1]
    before = deferral.waits
    try:
        deferral.waits = False
        return call(*args, **kwargs)
    finally:
        deferral.waits = before
