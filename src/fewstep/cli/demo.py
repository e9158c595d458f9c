"""``make demo``: train SMFP on a MuJoCo task for a few minutes, evaluate it and write the report.

Run again, it continues an unfinished run, reuses a finished one, and replaces one of other settings.
"""

import argparse
import shlex
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from fewstep.cli.common import whole
from fewstep.cli.main import main, use_compilation_cache
from fewstep.errors import FewstepError, UsageError

ALGO = "smfp"
ENV = "InvertedDoublePendulum-v4"
PRESET = "small"
STEPS = 9_000
"""Environment steps; the whole demo must stay below six minutes on two cores, set-up included."""
SETTINGS = ["replay.learning_starts=1000", "training.eval_every=1500"]
"""Fewer random steps than the preset's, because the pole falls within ten of them and every episode is short;
more evaluations, for a curve with more points."""


def run(arguments: argparse.Namespace) -> int:
    """Train or continue, evaluate, report; the last line printed is the path of the report."""
    folder: Path = arguments.out
    steps, directory, page = str(arguments.steps), folder / "run", folder / "report.html"
    wanted = ["--preset", PRESET, "--steps", steps, "--set", *SETTINGS]
    print(f"[demo] {ALGO} on {ENV}: {arguments.steps:,} steps, then an evaluation and a report", flush=True)
    if directory.exists() and not _same_settings(directory, wanted):
        print(f"[demo] {directory} was made with other settings; it is replaced", flush=True)
        shutil.rmtree(directory)
    if directory.exists():
        print(f"[demo] {directory} exists; it is continued, or reused if it is complete", flush=True)
        jobs = [["resume", str(directory)]]
    else:
        jobs = [["train", ALGO, ENV, "--out", str(directory), *wanted]]
    jobs += [["evaluate", str(directory)], ["report", str(directory), "--out", str(page)]]
    for words in jobs:
        print(f"[demo] $ fewstep {shlex.join(words)}", flush=True)
        status = main(words)
        if status != 0:
            return status
    print(f"[demo] open {page.resolve()}")
    return 0


def _same_settings(directory: Path, wanted: list[str]) -> bool:
    """Whether the run there has exactly the settings that the demo would train with.

    Raises:
        FewstepError: the folder is not a run, so it is not ours to replace.
    """
    from fewstep.cli.common import add_config_arguments, resolved
    from fewstep.runs.layout import RunDir

    found = RunDir.open(directory).config.read_text(encoding="utf-8")
    parser = argparse.ArgumentParser(prog="fewstep")
    add_config_arguments(parser)
    text = resolved(parser.parse_args([ALGO, ENV, *wanted])).to_toml()
    try:
        return tomllib.loads(found) == tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False


def start(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run, with the exit statuses of the other commands."""
    parser = argparse.ArgumentParser(prog="python -m fewstep.cli.demo", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder of run and report"
    )
    parser.add_argument("--steps", type=whole, default=STEPS, metavar="N", help=f"default {STEPS}")
    use_compilation_cache()
    try:
        return run(parser.parse_args(argv))
    except FewstepError as error:
        print(f"fewstep: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    sys.exit(start())
