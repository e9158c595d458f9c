"""List the algorithms."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``fewstep algos`` takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print name and title of each algorithm; of one that cannot be loaded, why."""
    from fewstep.algos import registry
    from fewstep.errors import FewstepError

    names = registry.entries()
    width = max(map(len, names))
    for name in names:
        try:
            about = registry.get(name).title
        except FewstepError as error:
            about = f"({error})"
        print(f"{name:<{width}}  {about}")
    return 0
