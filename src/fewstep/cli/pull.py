"""Fetch a shared policy: a directory that evaluate, export and report take."""

import argparse
from pathlib import Path

from fewstep.cli.common import rooted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep pull``."""
    parser.add_argument(
        "repo", metavar="OWNER/NAME", help="model repository on the Hugging Face Hub, or a folder"
    )
    parser.add_argument("--out", type=rooted, metavar="DIR", help="new directory (default: NAME)")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit (default: the newest)")


def run(arguments: argparse.Namespace) -> int:
    """Fetch it, check every sum, and print where it is."""
    from fewstep.errors import UsageError
    from fewstep.sharing import bundle, hub

    if Path(arguments.repo).is_dir():
        if arguments.revision:
            raise UsageError(f"{arguments.repo} is a folder here, which has no --revision")
        out = arguments.out or Path(f"{Path(arguments.repo).resolve().name}-run").absolute()
        print(bundle.unpack(Path(arguments.repo), out).path)
        return 0
    hub.require_name(arguments.repo)
    out = arguments.out or Path(arguments.repo.split("/")[1]).absolute()
    print(hub.pull(arguments.repo, out, arguments.revision).path)
    return 0
