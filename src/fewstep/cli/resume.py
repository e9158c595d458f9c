"""Continue a run, or those of several seeds together, from the newest intact checkpoint."""

import argparse

from fewstep.cli.common import print_runs, rooted, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep resume``."""
    parser.add_argument(
        "runs",
        metavar="RUN",
        type=rooted,
        nargs="+",
        help="run directory; several if they differ in seeds",
    )
    parser.add_argument(
        "--steps", type=whole, metavar="N", help="new total of environment steps, to extend the run"
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
    from fewstep.training.run.resume import resume
    from fewstep.training.several.resume import resume_together
    from fewstep.training.signals import watched

    directories = [RunDir.open(path) for path in arguments.runs]
    experience = not arguments.without_replay
    failures = []
    with watched() as check:
        if len(directories) == 1:
            resume(directories[0], arguments.steps, arguments.quiet, check, experience)
        else:
            failures = resume_together(directories, arguments.steps, arguments.quiet, check, experience)
    print_runs(arguments.runs, failures)
    return 0
