"""Share a run's policy on the Hugging Face Hub, with its configuration, curve and model card."""

import argparse
from pathlib import Path

from fewstep.cli.common import rooted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep push``."""
    parser.add_argument("repo", metavar="OWNER/NAME", help="model repository; made if there is none")
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=rooted,
        help="run directory whose policy is shared, then other seeds of it, whose returns go into the card",
    )
    parser.add_argument("--private", action="store_true", help="make a private repository")
    parser.add_argument(
        "--license", metavar="SPDX", help="licence for the card, such as mit (default: none stated)"
    )
    parser.add_argument(
        "--folder", type=rooted, metavar="DIR", help="write the files to this new folder and send nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Send the bundle, or write it, and print where it is."""
    from fewstep.errors import UsageError
    from fewstep.sharing import bundle, hub

    hub.require_name(arguments.repo)
    fetch = f"fewstep pull {arguments.repo} --out policy"
    files = bundle.pack(arguments.runs, fetch, arguments.license)
    if arguments.folder is None:
        print(hub.push(files, arguments.repo, arguments.private))
        return 0
    folder: Path = arguments.folder
    if folder.exists():
        raise UsageError(f"{folder} exists; give --folder a new one")
    try:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    print(folder)
    return 0
