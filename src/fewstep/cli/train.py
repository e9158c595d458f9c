"""Train an algorithm on an environment and keep everything in a run directory."""

import argparse
from pathlib import Path

from fewstep.cli.common import add_config_arguments, resolved


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep train``."""
    add_config_arguments(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="run directory (default runs/ENV/ALGO/seed-S)"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors and the run's path")


def run(arguments: argparse.Namespace) -> int:
    """Train to the end; a signal saves and leaves with 130 or 143."""
    config = resolved(arguments)

    from fewstep.algos import registry
    from fewstep.runs.layout import default_path
    from fewstep.training import loop
    from fewstep.training.progress import RunReporter
    from fewstep.training.signals import watched

    out = arguments.out or default_path(config.env, config.algo, config.seed)
    with watched() as check:
        trainer, directory = loop.start(config, registry.get(config.algo), out)
        try:
            with (
                directory.locked(),
                RunReporter(directory.log, config.training.steps, arguments.quiet) as reporter,
            ):
                loop.train(trainer, directory, reporter, check)
        finally:
            trainer.close()
    print(out)
    return 0
