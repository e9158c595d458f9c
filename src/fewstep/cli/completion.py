"""Print the shell's completion of this command line, for its startup file."""

import argparse
import importlib
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep completion``."""
    parser.add_argument("shell", choices=SHELLS, help="such as: fewstep completion bash >> ~/.bashrc")


def run(arguments: argparse.Namespace) -> int:
    """Print what ``shtab`` makes of the parser."""
    from fewstep.cli.main import parser
    from fewstep.errors import UsageError

    try:
        shtab: Any = importlib.import_module("shtab")
    except ImportError:
        raise UsageError("completion needs shtab: pip install 'fewstep[completion]'") from None
    print(shtab.complete(parser(), arguments.shell))
    return 0
