"""List the presets of an algorithm."""

import argparse
import textwrap


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep presets``."""
    parser.add_argument("algo", metavar="ALGO", help="algorithm (`fewstep algos`)")


def run(arguments: argparse.Namespace) -> int:
    """Print name and purpose of each preset."""
    from fewstep.algos.registry import entries
    from fewstep.config import presets
    from fewstep.errors import unknown

    if arguments.algo not in entries():
        raise unknown("algorithm", arguments.algo, entries())
    found = presets.names(arguments.algo)
    width = max(map(len, found)) + 2
    for name, about in found.items():
        print(textwrap.fill(about, 100, initial_indent=f"{name:<{width}}", subsequent_indent=" " * width))
    return 0
