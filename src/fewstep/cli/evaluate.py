"""Play whole episodes with a trained policy and print its returns."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep evaluate``."""
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
    parser.add_argument(
        "--episodes", type=int, metavar="N", help="episodes per mode (default: the run's setting)"
    )
    parser.add_argument(
        "--actions",
        action="append",
        metavar="MODE",
        help="native (the paper's), sample, mode or best-of-N; repeatable (default: the run's setting)",
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="seed of the episodes (default: the run's seed)"
    )
    parser.add_argument("--video", type=Path, metavar="FILE", help="also film one episode, to .mp4 or .gif")
    parser.add_argument("--json", action="store_true", help="print one JSON line per mode instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the run's newest saved policy."""
    from fewstep.cli.common import tell
    from fewstep.errors import UsageError
    from fewstep.runs.layout import RunDir
    from fewstep.training import policy_io, video
    from fewstep.training.evaluate import Evaluator
    from fewstep.training.resume import read_config
    from fewstep.training.signals import watched

    directory = RunDir.open(arguments.run)
    config, _ = read_config(directory)
    training = config.training
    saved = dataclasses.replace(policy_io.load(directory.policy), env=config.env)
    episodes = training.eval_episodes if arguments.episodes is None else arguments.episodes
    seed = config.seed if arguments.seed is None else arguments.seed
    if episodes < 1:
        raise UsageError(f"--episodes must be at least 1, got {episodes}")
    if not 0 <= seed < 2**31:
        raise UsageError(f"--seed must be from 0 to {2**31 - 1}, got {seed}")
    modes = arguments.actions or training.eval_modes
    if arguments.video:
        video.writable(arguments.video)
    with watched() as check:
        evaluator = Evaluator(
            saved.algorithm,
            saved.cfg,
            saved.env,
            episodes=episodes,
            modes=modes,
            seed=seed,
            max_episode_steps=training.max_episode_steps,
            longest=training.eval_max_steps,
            shared=training.eval_env == "shared",
            tell=tell,
        )
        rows = evaluator.evaluate(saved.policy, saved.env_steps, saved.updates, check)
        evaluator.close()
        if arguments.video:
            mode = saved.algorithm.mode(saved.cfg, modes[0])
            limits = training.max_episode_steps, training.eval_max_steps
            film = video.record(saved, arguments.video, mode, seed, *limits, check)
            if film.cut[0]:
                tell(f"the filmed episode was cut at {film.lengths[0]:,} steps")
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
    else:
        _print_table(saved.env, rows)
    if arguments.video and not arguments.json:
        print(arguments.video)
    return 0


def _print_table(env: str, rows: list[dict[str, Any]]) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from fewstep.training.progress import cut_note

    table = Table(title=f"{env} after {rows[0]['env_steps']:,} steps")
    for column in ("actions", "episodes", "return (mean ± sd)", "median", "lowest", "highest", "length"):
        table.add_column(column, justify="left" if column == "actions" else "right")
    for row in rows:
        returns = np.array(row["returns"])
        spread = f"{returns.mean():,.1f} ± {returns.std(ddof=min(1, len(returns) - 1)):,.1f}"
        numbers = (np.median(returns), returns.min(), returns.max(), np.mean(row["lengths"]))
        table.add_row(row["actions"], str(len(returns)), spread, *(f"{value:,.1f}" for value in numbers))
    Console().print(table)
    for row in rows:
        if cut := cut_note(row):
            print(f"{row['actions']}: {cut}: their returns are those of unfinished episodes")
