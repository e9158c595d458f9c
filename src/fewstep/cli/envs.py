"""List environments that are known to work."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``fewstep envs`` takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Print id, suite and note of each environment."""
    from rich.console import Console
    from rich.table import Table

    from fewstep.envs import list_ids

    table = Table(box=None, pad_edge=False)
    for column in ("id", "suite", "about"):
        table.add_column(column, overflow="fold")
    for row in list_ids():
        table.add_row(*row)
    Console().print(table)
    print(
        "\nAny other Gymnasium id with continuous bounded actions works too, and MODULE:Id-v0 for your own."
    )
    return 0
