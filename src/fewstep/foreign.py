"""Calls into code that others wrote: modules, environments, algorithms.

Such code may raise anything at all, ``SystemExit`` included, at any moment, and it may change what belongs to
the whole process. So every call into it goes through here:

- what it raises becomes one line that says what, where and when; only ``KeyboardInterrupt`` stays what it is,
  because it is how a user stops a program;
- it runs in a context of its own (``contextvars``), so that numpy's error state is its own: what it sets
  there it finds again at the next call, and fewstep's arithmetic never sees it;
- what could be imported before can be imported afterwards.

The working folder is not put back: an environment that changes it may go on reading its files there. No path
of fewstep's depends on it, because all are absolute before user code runs. No jax in here, and no numpy.
"""

import importlib
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from pathlib import Path
from threading import get_ident
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from fewstep.errors import FewstepError, UsageError

P = ParamSpec("P")
T = TypeVar("T")
LONGEST = 500
"""Characters of an exception's text that a message repeats."""

_users: ContextVar[tuple[int, Context] | None] = ContextVar("fewstep_user_code", default=None)
"""The context of user code, and the thread it may be entered from."""
_homes: dict[str, str] = {}
_hearers: list[Callable[[str], None]] = []


def call(
    failed: Callable[[BaseException], FewstepError],
    function: Callable[P, T],
    *args: P.args,
    **named: P.kwargs,
) -> T:
    """``function(*args, **named)``, which is user code or calls some.

    Args:
        failed: the error to raise for what it raised.
        function, args, named: the call.

    Raises:
        FewstepError: what ``failed`` made; one that ``function`` raised itself is passed on.
        KeyboardInterrupt: as it came.
    """
    held = _users.get()
    if held is None or held[0] != get_ident():
        held = get_ident(), copy_context()
        _users.set(held)
    try:
        return held[1].run(function, *args, **named)
    except (KeyboardInterrupt, FewstepError):
        raise
    except BaseException as error:
        raise failed(error) from error


def brief(error: BaseException) -> str:
    """An exception on one line: its type and the first line of its text."""
    name = type(error).__name__
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # the text is user code, too
        return name
    if isinstance(error, SystemExit):
        return f"{name} (sys.exit was called" + (f" with {lines[0][:LONGEST]})" if lines else ")")
    # Half a surrogate pair cannot be written to a file.
    text = lines[0][:LONGEST].encode("utf-8", "backslashreplace").decode() if lines else ""
    return f"{name}: {text}" if text else name


def said(source: str, error: BaseException, function: Callable[..., Any] | None = None) -> str:
    """The error in one line, with the last place in the user's own files that it came through.

    Without one (the call itself failed), the place is where ``function`` is defined.
    """
    line = (str(error).strip().splitlines() or [""])[0]
    text = f"{type(error).__name__}: {line}" if line else type(error).__name__
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(source, frame.filename)]
    if places:
        return f"{text} ({places[-1].filename}:{places[-1].lineno})"
    code = getattr(inspect.unwrap(function), "__code__", None) if function else None
    return f"{text} ({code.co_filename}:{code.co_firstlineno})" if code else text


def _is_own(source: str, filename: str) -> bool:
    """Whether a file belongs to the module that ``source`` names, or to a package around it."""
    module = sys.modules.get(source.partition(":")[0].partition(".")[0])
    paths = [*getattr(module, "__path__", ()), getattr(module, "__file__", None) or "?"]
    return any(Path(filename).is_relative_to(path) for path in paths)


def origin(name: str) -> str:
    """Where an imported module, or the package of one that cannot be imported, came from, in words.

    Says so if the current folder has a module of that name which another one keeps from being found. Empty if
    nothing of the name was imported.
    """
    top = name.split(".")[0]
    package = sys.modules.get(top)
    if package is None:
        return ""
    files = [
        Path(file) for file in (getattr(package, "__file__", None), *getattr(package, "__path__", ())) if file
    ]
    own = [path for path in (Path(f"{top}.py"), Path(top)) if path.is_file() or any(path.glob("*.py"))]
    where = f"{top!r} is {files[0] if files else 'a part of Python itself'}"
    if own and not any(path.samefile(file) for path in own for file in files if file.exists()):
        return f"{where}, which comes before {own[0]} of this folder: give yours another name"
    return where


def load(module: str, cannot: str, explain: Callable[[BaseException], str] = brief) -> ModuleType:
    """Import a module of the user's; one in the current folder is found, too.

    Args:
        module: its full name.
        cannot: how the message begins.
        explain: an exception on one line.

    Raises:
        UsageError: it does not exist, or raised something, or called ``sys.exit``.
    """

    def failed(error: BaseException) -> UsageError:
        hint = ""
        if isinstance(error, SystemExit):
            hint = f'; put what {module} does as a script under `if __name__ == "__main__":`'
        elif isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]:
            hint = "; install it or run from the folder it is in"
        elif isinstance(error, ModuleNotFoundError) and module.startswith(str(error.name)):
            hint = f"; {origin(module)}"
        return UsageError(f"{cannot}: {explain(error)}{hint}")

    if module not in sys.modules:
        # The console script does not look in the current folder by itself, where users keep their modules.
        # Its name, not "": the module may change the folder.
        _homes[module] = os.getcwd()
        if _homes[module] not in sys.path:
            sys.path.append(_homes[module])
    before = list(sys.path)
    try:
        return call(failed, importlib.import_module, module)
    finally:
        sys.path += [folder for folder in before if folder not in sys.path]


def home(module: str) -> str:
    """The folder that was the current one when ``module`` was loaded first; the current one if it was not."""
    return _homes.get(module) or os.getcwd()


def close(thing: Any, where: str) -> str:
    """``thing.close()``; gives what went wrong, nothing if nothing did."""
    try:
        call(lambda error: FewstepError(f"close raised {brief(error)} in {where}"), lambda: thing.close())
    except FewstepError as error:
        return str(error)
    return ""


def tell(text: str) -> None:
    """Say one line about user code that did not stop the work: to the run or command that listens, else to
    the log ``fewstep`` of Python's logging (which prints it unless the user decides otherwise)."""
    if _hearers:
        _hearers[-1](text)
    else:
        logging.getLogger("fewstep").warning("%s", text)


@contextmanager
def heard_by(hearer: Callable[[str], None]) -> Generator[None]:
    """While the block runs, ``hearer`` is who is told."""
    _hearers.append(hearer)
    try:
        yield
    finally:
        _hearers.remove(hearer)
