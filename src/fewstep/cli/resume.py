"""Continue a run from its newest intact checkpoint."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep resume``."""
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="new total of environment steps, to extend the run"
    )
    parser.add_argument(
        "--without-replay",
        action="store_true",
        help="leave the saved replay out, where it is damaged: learning goes on once a new one has begun",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors and the run's path")


def run(arguments: argparse.Namespace) -> int:
    """Train to the end; a signal saves and leaves with 130 or 143."""
    from fewstep.runs.layout import RunDir
    from fewstep.training.resume import resume
    from fewstep.training.signals import watched

    directory = RunDir.open(arguments.run)
    with watched() as check:
        resume(directory, arguments.steps, arguments.quiet, check, not arguments.without_replay)
    print(directory.path)
    return 0
