"""Small trained policies that come with the package: list them, or unpack one."""

import argparse
from pathlib import Path

from fewstep.cli.common import rooted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep zoo``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|get")
    actions.add_parser("list", help="every policy with its task and its return")
    get = actions.add_parser("get", help="unpack one: a directory that evaluate, export and report take")
    get.add_argument("name", metavar="NAME", help="such as smfp-multigoal (`fewstep zoo list`)")
    get.add_argument("--out", type=rooted, metavar="DIR", help="new directory (default: NAME)")


def run(arguments: argparse.Namespace) -> int:
    """Print the list, or where the policy is."""
    from fewstep.sharing import zoo

    if arguments.action == "get":
        out = arguments.out or Path(arguments.name).absolute()
        print(zoo.get(arguments.name, out).path)
        return 0
    entries = zoo.listed()
    width = max(map(len, entries)) + 2
    print(f"{'name':<{width}}{'task':<16}{'return':>9}  {'actions':<12}{'steps':>8}{'KB':>6}")
    for name, entry in entries.items():
        print(
            f"{name:<{width}}{entry.env:<16}{entry.mean_return:>9.1f}  {entry.actions:<12}"
            f"{entry.steps:>8,}{entry.size / 1000:>6.0f}"
        )
    return 0
