"""Print the settings a run would have, as TOML."""

import argparse

from fewstep.cli.common import add_config_arguments, resolved


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep config``: those of ``train`` that decide the configuration."""
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the resolved configuration."""
    print(resolved(arguments).to_toml(), end="")
    return 0
