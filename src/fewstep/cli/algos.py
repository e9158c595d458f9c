"""List the algorithms."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``fewstep algos`` takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print name and title of each algorithm."""
    from fewstep.algos import registry

    names = registry.entries()
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {registry.get(name).title}")
    return 0
