"""Errors whose message is written for the user: one or two lines, what is wrong and what to do about it."""

import difflib
from collections.abc import Iterable


class FewstepError(Exception):
    """Base of every error that the command line prints without a traceback (exit status 1)."""


class UsageError(FewstepError):
    """The request itself is wrong: an unknown name, an impossible value (exit status 2)."""


class NonFiniteError(FewstepError):
    """A NaN or an infinity where a number must be; the message names field, step, environment and seed."""


def require(ok: bool, message: str) -> None:
    """Raise ``UsageError(message)`` unless ``ok``: how configurations are validated at construction."""
    if not ok:
        raise UsageError(message)


def shown(value: object) -> str:
    """Any value at all for a message: one line, not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a repr of the user's, or a number of 5000 digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}... (a {type(value).__name__})"


LISTS = {"algorithm": "`fewstep algos`", "command": "`fewstep --help`", "environment": "`fewstep envs`"}
"""What prints all names of a kind."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """A UsageError for a name that does not exist, with the nearest existing one (or all of a short list)."""
    names = sorted(known)
    alike = [each for each in names if each.casefold() == name.casefold()]
    near = alike or difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        # Of equally similar names the one that starts alike: a slip rarely hits the first letter.
        best = max(near, key=lambda n: (difflib.SequenceMatcher(None, n, name).ratio(), n[:1] == name[:1]))
        hint = f"did you mean {best!r}?"
    elif len(names) <= 12:
        hint = "known: " + ", ".join(names)
    else:
        hint = f"{len(names)} names are known" + (f": {LISTS[kind]}" if kind in LISTS else "")
    return UsageError(f"unknown {kind} {name!r}; {hint}")


def require_sizes(name: str, sizes: tuple[int, ...]) -> None:
    """Raise ``UsageError`` unless ``sizes`` are those of at least one layer, all positive."""
    require(len(sizes) > 0 and all(size > 0 for size in sizes), f"{name} must be positive sizes, got {sizes}")
