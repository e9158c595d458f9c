"""Printing that costs no work: readers may leave, disks be full, alphabets be small."""

import codecs
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

SPELLED = {"±": "+-", "−": "-", "–": "-", "×": "x", "…": "..."}
"""What stands for our own signs where the output has no letter for them."""
ERRORS = "fewstep"
"""The error handler that spells them; anything else becomes a Python escape."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    spelled = (SPELLED.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in signs)
    return "".join(spelled), error.end


codecs.register_error(ERRORS, _spell)


class Unfailing:
    """A text stream (or None) whose failures are dropped: for what only accompanies the work."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError, ValueError, AttributeError):  # gone, full, closed, never there
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def robust() -> Generator[None]:
    """While the block runs, every text can be printed, and standard error never fails.

    Standard output still does, with OSError: what a command prints there is its result. Where one of the two
    was closed its number is taken, so that no file of a run gets what libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    streams: list[Any] = [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    before = [stream.errors for stream in streams]
    stderr = sys.stderr
    sys.stderr = wrapped = Unfailing(stderr)
    try:
        for stream in streams:
            stream.reconfigure(errors=ERRORS)
        yield
    finally:
        if sys.stderr is wrapped:
            sys.stderr = stderr
        for stream, errors in zip(streams, before, strict=True):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)


def give_up_output() -> None:
    """If standard output takes nothing more, drop what waits in its buffer: at exit it would fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, AttributeError):  # closed, or not there
        pass
