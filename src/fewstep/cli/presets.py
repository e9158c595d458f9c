"""List the presets of an algorithm."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep presets``."""
    parser.add_argument("algo", metavar="ALGO", help="algorithm (`fewstep algos`)")


def run(arguments: argparse.Namespace) -> int:
    """Print name and purpose of each preset."""
    from fewstep import presets
    from fewstep.algos.registry import entries
    from fewstep.errors import unknown

    if arguments.algo not in entries():
        raise unknown("algorithm", arguments.algo, entries())
    found = presets.names(arguments.algo)
    width = max(map(len, found))
    for name, about in found.items():
        print(f"{name:<{width}}  {about}")
    return 0
