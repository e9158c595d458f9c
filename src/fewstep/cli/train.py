"""Train an algorithm on an environment and keep everything in a run directory."""

import argparse
import dataclasses
from pathlib import Path

from fewstep.cli.common import add_config_arguments, print_runs, resolved, rooted, seeds_of
from fewstep.config import RunConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep train``."""
    add_config_arguments(parser, many_seeds=True)
    parser.add_argument(
        "--out",
        type=rooted,
        metavar="DIR",
        help="run directory (default runs/ENV/ALGO/seed-S); with --seeds the folder of the seed-S",
    )
    parser.add_argument(
        "--dataset",
        metavar="FOLDER",
        help="start from recorded episodes: a folder of them, or minari:ID (replay.dataset.path)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors and the run's path")


def run(arguments: argparse.Namespace) -> int:
    """Train to the end; a signal saves and leaves with 130 or 143."""
    root = rooted("runs")
    if arguments.seeds is not None:
        seeds = seeds_of(arguments.seeds)
        return _train_many(resolved(arguments), seeds, arguments.out, root, arguments.quiet)
    return _train_one(resolved(arguments), arguments.out, root, arguments.quiet)


def _train_one(config: RunConfig, out: Path | None, root: Path, quiet: bool) -> int:
    from fewstep.algos import registry
    from fewstep.runs.layout import default_path
    from fewstep.training.run import loop
    from fewstep.training.run.progress import RunReporter, Screen
    from fewstep.training.signals import watched

    out = out or default_path(config.env, config.algo, config.seed, root)
    steps = config.training.steps
    with watched() as check:
        trainer, directory = loop.start(config, registry.get(config.algo), out)
        try:
            with (
                directory.locked(),
                Screen(steps, quiet) as screen,
                RunReporter(directory.log, steps, screen) as reporter,
            ):
                loop.train(trainer, directory, reporter, check)
        finally:
            trainer.close()
    print(out)
    return 0


def _train_many(config: RunConfig, seeds: tuple[int, ...], out: Path | None, root: Path, quiet: bool) -> int:
    from fewstep.algos import registry
    from fewstep.runs.layout import default_path
    from fewstep.training.several import together
    from fewstep.training.signals import watched

    configs = [dataclasses.replace(config, seed=seed) for seed in seeds]
    paths = [
        out / f"seed-{seed}" if out else default_path(config.env, config.algo, seed, root) for seed in seeds
    ]
    with watched() as check:
        failures = together.start(configs, registry.get(config.algo), paths, quiet, check)
    print_runs(paths, failures)
    return 0
