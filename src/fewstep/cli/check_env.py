"""Try an environment for a moment and say what would hurt training."""

import argparse

from fewstep.cli.common import whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep check-env``."""
    parser.add_argument("env", metavar="ENV", help="environment id, or MODULE:Id-v0 of your own")
    parser.add_argument("--steps", type=whole, default=200, metavar="N", help="random steps (default 200)")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; the status is 1 if one of them is an error."""
    from fewstep.envs import check_env

    findings = check_env(arguments.env, arguments.steps)
    for finding in findings:
        print(f"{finding.level}: {finding.message}" + (f"; {finding.advice}" if finding.advice else ""))
    return 1 if any(finding.level == "error" for finding in findings) else 0
