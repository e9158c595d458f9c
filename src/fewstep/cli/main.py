"""Parsing, dispatch, exit statuses: 0 done, 1 failed, 2 wrong request, 130/143 signals, 70 our defect."""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fewstep import foreign
from fewstep.errors import FewstepError, UsageError, unknown
from fewstep.printing import give_up_output, robust

COMMANDS = (
    *("train", "resume", "experiment", "tune", "paper"),
    *("evaluate", "report", "export", "rollout", "sync", "push", "pull", "zoo"),
    *("algos", "envs", "presets", "settings", "config", "check-env", "replay-crash"),
    *("bench", "doctor", "cite", "completion"),
)
"""In the order of ``--help``. Each is the module of its name (``-`` as ``_``) in this room, whose first line
is its summary. Only the command that is asked for is imported."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours: one line, raised instead of printed."""

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError with the parser's message and where to look."""
        raise UsageError(f"{message}; see `{self.prog} --help`")


def parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The command line with the commands ``names``."""
    top = Parser(
        prog="fewstep", description="Online reinforcement learning with few-step generative policies."
    )
    top.add_argument("--version", action="store_true", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name in names:
        module = importlib.import_module(f"fewstep.cli.{name.replace('-', '_')}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        sub = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(execute=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; by default those of the process.

    Returns:
        The exit status. It is 0 only if the job was done.
    """
    with robust():
        return _status(list(sys.argv[1:] if argv is None else argv))


def _status(words: list[str]) -> int:
    debug = "--debug" in words
    try:
        with foreign.heard_by(lambda line: print(f"fewstep: {line}", file=sys.stderr)):
            status = _run(words)
            if sys.stdout is not None:
                sys.stdout.flush()  # an error must be ours, not the interpreter's at exit
            return status
    except FewstepError as error:
        if debug:
            traceback.print_exc()
        print(f"fewstep: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        give_up_output()  # its reader (`| head`) has left
        return 1
    except OSError as error:
        if debug:
            raise
        give_up_output()
        place = f"{error.filename}: " if error.filename else ""
        print(f"fewstep: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:
        if debug:
            raise
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"fewstep: unexpected {line} (please report; --debug shows the traceback)", file=sys.stderr)
        return 70


def _run(words: list[str]) -> int:
    named = bool(words) and not words[0].startswith("-")
    if named and words[0] not in COMMANDS:
        raise unknown("command", words[0], COMMANDS)
    arguments, more = parser(words[:1] if named else COMMANDS).parse_known_args(words)
    if more:
        own = f"fewstep {words[0]}" if named else "fewstep"
        order = "" if more[0].startswith("-") else " (names come before options)"
        raise UsageError(f"unrecognized arguments: {' '.join(more)}{order}; see `{own} --help`")
    if arguments.version:
        from fewstep import __version__

        print(__version__)
        return 0
    if arguments.command is None:
        parser().print_help()
        return 2
    use_compilation_cache()
    try:
        return arguments.execute(arguments)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:  # such as sys.exit: only the command itself decides how it ends
        raise FewstepError(f"stopped by an unexpected {foreign.brief(error)}") from error


def use_compilation_cache() -> None:
    """Keep compiled programs between processes, unless the user has decided otherwise (jax's own variables).

    All of them: jax would leave out those that compile within a second, which for SAC is half of its start.
    """
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(root) / "fewstep" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
