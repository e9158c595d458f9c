"""List the algorithms."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``fewstep algos`` takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print name and title of each algorithm."""
    from fewstep.algos.registry import ALGORITHMS

    width = max(map(len, ALGORITHMS))
    for name, entry in sorted(ALGORITHMS.items()):
        print(f"{name:<{width}}  {entry.title}")
    return 0
