"""Show runs in TensorBoard, Trackio or Weights & Biases, from their JSON lines."""

import argparse
from pathlib import Path

from fewstep.cli.common import rooted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep sync``."""
    parser.add_argument("runs", metavar="RUN", type=rooted, nargs="+", help="run directories")
    parser.add_argument("--to", required=True, metavar="SINK", help="tensorboard, trackio or wandb")
    parser.add_argument(
        "--out", type=rooted, metavar="DIR", help="folder for the files (default: one in each run directory)"
    )
    parser.add_argument("--project", default="fewstep", metavar="NAME", help="project of Trackio or W&B")
    parser.add_argument(
        "--follow", action="store_true", help="one run: go on until the process that writes it has ended"
    )


def run(arguments: argparse.Namespace) -> int:
    """Fill the sink and print where the curves are."""
    from fewstep import sinks
    from fewstep.errors import UsageError
    from fewstep.runs.layout import RunDir
    from fewstep.sinks import points

    sinks.require(arguments.to)
    directories = [RunDir.open(path) for path in arguments.runs]
    for directory in directories:
        points.configuration(directory)  # before anything is written
    if arguments.follow and len(directories) > 1:
        raise UsageError("--follow takes one run; start one `fewstep sync` per run")
    for directory, name in zip(directories, _names([one.path.resolve() for one in directories]), strict=True):
        folder = arguments.out / name if arguments.out else directory.path / arguments.to
        sink = sinks.make(arguments.to, directory, folder, arguments.project)
        try:
            sent = points.follow(directory, sink) if arguments.follow else points.fill(directory, sink)
        finally:  # Ctrl-C ends --follow, and what has been sent is known next time
            closed = sink.close()
        print(f"{sent} points of {directory.path}: {closed}")
    return 0


def _names(paths: list[Path]) -> list[str]:
    """The last three parts of each path, or as many more as tell them apart.

    Raises:
        UsageError: a run is given twice.
    """
    from fewstep.errors import UsageError

    if len(set(paths)) < len(paths):
        raise UsageError("a run is given twice")
    for length in range(3, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[1:][-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [path.as_posix().lstrip("/") for path in paths]
