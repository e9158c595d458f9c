"""Write one self-contained HTML page about one or more runs."""

import argparse

from fewstep.cli.common import rooted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep report``."""
    parser.add_argument("runs", metavar="RUN", type=rooted, nargs="+", help="run directories")
    parser.add_argument(
        "--out", type=rooted, metavar="FILE", help="default: report.html in the (first) run directory"
    )
    parser.add_argument(
        "--tables",
        type=rooted,
        metavar="DIR",
        help="also write the tables there as CSV and LaTeX, the figures as SVG and PDF",
    )
    parser.add_argument(
        "--score",
        default="last-10",
        metavar="NAME",
        help="score of a run in comparisons: last-10 (mean over the last 10 evaluations, or all if there are "
        "fewer), final or area",
    )
    parser.add_argument(
        "--against",
        type=rooted,
        metavar="FILE.csv",
        action="append",
        default=[],
        help="set curves that others have released beside ours: exp,env,seed,metric,step,value; may be given "
        "several times",
    )
    parser.add_argument(
        "--measure-random",
        action="store_true",
        help="play random actions on tasks whose scores have no zero yet, and keep the return in their runs",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the report, and tables if asked for; print where they are."""
    from fewstep.analysis.report import write_report
    from fewstep.analysis.runs.reading import read_run
    from fewstep.analysis.statistics import random_return
    from fewstep.cli.common import tell
    from fewstep.runs.layout import RunDir
    from fewstep.training.signals import watched

    directories = [RunDir.open(path).path for path in arguments.runs]
    out = arguments.out or directories[0] / "report.html"
    if arguments.measure_random:
        with watched() as check:
            random_return.complete([read_run(path) for path in directories], check, tell)
    print(write_report(directories, out, arguments.tables, arguments.score, arguments.against))
    if arguments.tables:
        print(arguments.tables)
    return 0
