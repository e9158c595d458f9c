"""Arguments and steps that several commands share."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.config import RunConfig, presets, settings
from fewstep.errors import FewstepError, UsageError

if TYPE_CHECKING:
    from fewstep.training.several.together import Failure

MOST_SEEDS = 256
"""Seeds of one process: each has environments and a replay buffer of its own."""


def whole(text: str) -> int:
    """The ``type`` of an argument that is a whole number, written as after ``--set``: 100_000, 1e5."""
    try:
        return settings.whole(text, "it")
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("it ")) from error


def rooted(text: str) -> Path:
    """A path that stays the same when user code changes the working folder: for the arguments of every
    command that runs some; ``~`` is the user's, which not every shell expands."""
    return Path(os.path.expanduser(text)).absolute()


def add_config_arguments(parser: argparse.ArgumentParser, *, many_seeds: bool = False) -> None:
    """ALGO ENV and everything that decides their configuration; ``many_seeds`` adds ``--seeds``."""
    parser.add_argument(
        "algo", metavar="ALGO", help="algorithm (`fewstep algos`), or MODULE:ATTRIBUTE of your own"
    )
    parser.add_argument(
        "env", metavar="ENV", help="environment (`fewstep envs`), or MODULE:Id-v0 of your own"
    )
    parser.add_argument(
        "--steps", type=whole, metavar="N", help="environment steps in total (training.steps)"
    )
    seed = parser.add_mutually_exclusive_group()
    # The default is None, or argparse would not see that `--seed 0` was given.
    seed.add_argument("--seed", type=whole, metavar="S", help="run seed (default 0)")
    if many_seeds:
        seed.add_argument(
            "--seeds", metavar="A..B", help="one run per seed, all in this process: 0..4, or 0,2,7"
        )
    parser.add_argument(
        "--preset", default=presets.DEFAULT, metavar="NAME", help="see `fewstep presets ALGO`"
    )
    parser.add_argument(
        "--config", type=rooted, metavar="FILE", help="TOML file of settings, laid over the preset"
    )
    parser.add_argument(
        "--set",
        dest="sets",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="single settings, such as critic.atoms=51 training.envs=4 (`fewstep settings ALGO` lists all)",
    )


def tell(line: str) -> None:
    """Print a line to standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def resolved(arguments: argparse.Namespace) -> RunConfig:
    """The configuration that the arguments describe."""
    from fewstep.algos import registry
    from fewstep.config import resolve

    algorithm = registry.get(arguments.algo)
    overrides = {} if arguments.steps is None else {"training.steps": arguments.steps}
    dataset = getattr(arguments, "dataset", None)
    if dataset is not None:
        if algorithm.rollout is not None:
            raise UsageError(
                f"{arguments.algo} learns from its own steps alone; --dataset needs an algorithm with a "
                "replay buffer"
            )
        overrides["replay.dataset.path"] = dataset if dataset.startswith("minari:") else str(rooted(dataset))
    return resolve(
        arguments.algo,
        algorithm.config,
        arguments.env,
        seed=arguments.seed or 0,
        preset=arguments.preset,
        file=arguments.config,
        sets=arguments.sets,
        overrides=overrides,
    )


def seeds_of(text: str) -> tuple[int, ...]:
    """The seeds that ``--seeds`` names: ``0..4`` (both ends included) or ``0,2,7``.

    Raises:
        UsageError: it is neither, names none or too many, or one twice.
    """
    from fewstep.experiments.spec import seed_range

    try:
        seeds = seed_range(text)
    except UsageError as error:
        raise UsageError(f"--seeds: {error}") from error
    if not seeds:
        with suppress(UsageError):
            seeds = tuple(settings.whole(part, "seed") for part in text.split(","))
    if not seeds or min(seeds) < 0:
        raise UsageError(f"--seeds must be a range such as 0..4 or a list such as 0,2,7, got {text!r}")
    if len(seeds) > MOST_SEEDS:
        raise UsageError(f"--seeds names {len(seeds)} seeds; one process trains at most {MOST_SEEDS}")
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds names the same seed twice: {text}")
    return seeds


def print_runs(paths: Sequence[Path], failures: "Sequence[Failure]") -> None:
    """Print the directories of the finished runs, one a line.

    Raises:
        FewstepError: a run failed; the message names the seed, of several the lowest: which of them failed
            first in time depends on the machine.
    """
    failures = sorted(failures, key=lambda failure: failure.seed)
    failed = {failure.run for failure in failures}
    for path in paths:
        if path not in failed:
            print(path)
    if failures:
        first = failures[0]
        others = ", ".join(str(failure.seed) for failure in failures[1:])
        raise FewstepError(
            f"{len(failures)} of {len(paths)} seeds failed: seed {first.seed}: {first.error}"
            + (f" (also: {others}; see log.txt of each)" if others else "")
        )
