"""Write one self-contained HTML page about one or more runs."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep report``."""
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run directories")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: report.html in the (first) run directory"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print its path."""
    from fewstep.analysis.report import write_report
    from fewstep.runs.layout import RunDir

    directories = [RunDir.open(path).path for path in arguments.runs]
    print(write_report(directories, arguments.out or directories[0] / "report.html"))
    return 0
