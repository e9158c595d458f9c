"""Play whole episodes with a trained policy and print its returns."""

import argparse
import json
from dataclasses import replace
from typing import Any

from fewstep.cli.common import rooted, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep evaluate``."""
    parser.add_argument("run", metavar="RUN", type=rooted, help="run directory")
    parser.add_argument(
        "--episodes", type=whole, metavar="N", help="episodes per mode (default: the run's setting)"
    )
    parser.add_argument(
        "--actions",
        action="append",
        metavar="MODE",
        help="native (the paper's), sample, mode or best-of-N; repeatable (default: the run's setting)",
    )
    parser.add_argument(
        "--seed", type=whole, metavar="S", help="seed of the episodes (default: the run's seed)"
    )
    parser.add_argument("--video", type=rooted, metavar="FILE", help="also film one episode, .mp4 or .gif")
    parser.add_argument(
        "--save-episodes",
        type=rooted,
        metavar="DIR",
        help="also write every episode to a new folder, which `fewstep train --dataset` takes",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line per mode instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the run's newest saved policy."""
    from fewstep import foreign
    from fewstep.config import seed_of
    from fewstep.data import Folder
    from fewstep.envs.rendering import choose_backend
    from fewstep.errors import UsageError
    from fewstep.runs.layout import RunDir
    from fewstep.training import saved_policy
    from fewstep.training.evaluation import video
    from fewstep.training.evaluation.evaluate import Evaluator
    from fewstep.training.run.resume import read_config
    from fewstep.training.signals import watched

    directory = RunDir.open(arguments.run)
    if arguments.video:
        choose_backend("rgb_array")  # modules of the user's may ask for it at their import
    config, _ = read_config(directory)
    training = config.training
    saved = saved_policy.load(directory.policy, config.env)
    episodes = training.eval_episodes if arguments.episodes is None else arguments.episodes
    seed = config.seed if arguments.seed is None else arguments.seed
    if episodes < 1:
        raise UsageError(f"--episodes must be at least 1, got {episodes}")
    seed_of(seed, "--seed")
    modes = tuple(dict.fromkeys(arguments.actions or training.eval_modes))
    if arguments.video:
        video.writable(arguments.video)
    folder = None if arguments.save_episodes is None else Folder(arguments.save_episodes)
    with watched() as check:
        asked = replace(training, eval_episodes=episodes, eval_modes=modes)
        played = replace(config, seed=seed, training=asked, algorithm=saved.cfg)
        evaluator = Evaluator.of(played, saved.algorithm, info=saved.info)
        rows = evaluator.evaluate(saved.policy, saved.env_steps, saved.updates, check, keep=folder)
        evaluator.close()
        if arguments.json:
            for row in rows:
                print(json.dumps(row), flush=True)
        else:
            _print_table(saved.env, rows)
        if arguments.video:  # when what was computed has been printed: drawing may fail
            mode = saved.algorithm.mode(saved.cfg, modes[0])
            limits = training.max_episode_steps, training.action_repeat, training.eval_max_steps
            film = video.record(saved, arguments.video, mode, seed, *limits, check)
            if film.cut[0]:
                foreign.tell(f"the filmed episode was cut at {film.lengths[0]:,} steps")
            if not arguments.json:
                print(arguments.video)
    return 0


def _print_table(env: str, rows: list[dict[str, Any]]) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from fewstep.analysis.statistics.proportion import success_words
    from fewstep.runs.metrics import sample_std
    from fewstep.training.run.progress import cut_note

    table = Table(title=f"{env} after {rows[0]['env_steps']:,} steps")
    spread_of = "return (mean ± sample sd)"
    columns = ["actions", "episodes", spread_of, "median", "lowest", "highest", "length"]
    if any("success" in row for row in rows):
        columns.append("success (95 %)")
    if any("peaks" in row for row in rows):
        columns.append("highest reward of a step")
    for column in columns:
        justify = "left" if column == "actions" else "right"
        whole = column in ("actions", "episodes")
        table.add_column(column, justify=justify, overflow="fold", no_wrap=whole)  # no digit is left out
    for row in rows:
        returns = np.array(row["returns"])
        deviation = sample_std(row["returns"])
        spread = f"{returns.mean():,.1f}" + ("" if deviation is None else f" ± {deviation:,.1f}")
        numbers = (np.median(returns), returns.min(), returns.max(), np.mean(row["lengths"]))
        more = [success_words(row["success"])] if "success" in row else []
        more += [f"{np.mean(row['peaks']):,.3f}"] if "peaks" in row else []
        shown = (f"{value:,.1f}" for value in numbers)
        table.add_row(row["actions"], str(len(returns)), spread, *shown, *more)
    console = Console()
    with console.capture() as text:
        console.print(table)
    print(text.get(), end="", flush=True)  # rich would leave the process where the reader has left
    for row in rows:
        if cut := cut_note(row):
            print(f"{row['actions']}: {cut}: their returns are those of unfinished episodes")
