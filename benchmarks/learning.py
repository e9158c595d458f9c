"""Learning curves with seeds, saved with their configuration.

    python -m benchmarks.learning run mfpo HalfCheetah-v4 --preset small --seeds 0 1 2 --out /tmp/curves
    python -m benchmarks.learning collect mfpo-small-HalfCheetah-v4 \\
        /tmp/curves/HalfCheetah-v4/mfpo-small-HalfCheetah-v4/*

``run`` trains one process per seed, one after the other (pin each to a core and start two for two cores), and
then collects; ``collect`` writes ``benchmarks/results/learning/NAME.json`` with every evaluation, the
resolved configuration and versions, and the figure beside it. Interrupted runs are continued by calling
``run`` again with the same arguments. Runs lie in ``OUT/ENV/NAME/seed-N``; ``--name`` (ALGO-PRESET-ENV) tells
other settings of one preset apart. A run that is there with other settings is refused.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from statistics import fmean, median

from benchmarks.record import FOLDER, machine, refuse_unlike
from fewstep.analysis.report import write_figure
from fewstep.cli.common import resolved
from fewstep.cli.main import parser as fewstep_parser
from fewstep.runs.layout import RunDir
from fewstep.training.run.resume import read_config


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def curve(run: Path) -> dict[str, object]:
    """Every evaluation of one run, its minutes and its settings."""
    config = tomllib.loads((run / "config.toml").read_text())
    provenance = json.loads((run / "provenance.json").read_text())
    evaluations = rows(run / "evaluations.jsonl")
    modes = sorted({str(row["actions"]) for row in evaluations})
    final = {}
    for mode in modes:
        means = [fmean(row["returns"]) for row in evaluations if row["actions"] == mode]
        final[mode] = {"last": means[-1], "median_of_last_three": median(means[-3:]), "best": max(means)}
    last = rows(run / "metrics.jsonl")[-1]
    return {
        "seed": config["seed"],
        "env_steps": last["env_steps"],
        "updates": last["updates"],
        "minutes": round(last["wall_seconds"] / 60, 1),
        "final": final,
        "evaluations": [
            {k: row[k] for k in ("env_steps", "actions", "returns", "lengths")} for row in evaluations
        ],
        "versions": provenance["versions"],
        "config": config,
    }


def collect(name: str, runs: list[Path]) -> None:
    refuse_unlike(runs)
    curves = [curve(run) for run in runs]
    modes = curves[0]["final"]
    summary = {
        mode: {
            "mean_of_seeds": fmean(c["final"][mode]["last"] for c in curves),
            "each_seed": [round(c["final"][mode]["last"], 1) for c in curves],
            "mean_of_medians_of_last_three": fmean(c["final"][mode]["median_of_last_three"] for c in curves),
        }
        for mode in modes
    }
    folder = FOLDER / "learning"
    folder.mkdir(parents=True, exist_ok=True)
    result = {"summary": summary, "machine": machine(), "runs": curves}
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    write_figure(runs, folder / f"{name}.svg")
    for mode, numbers in summary.items():
        print(f"{name} | {mode} | {numbers}", flush=True)
    print(f"{name} | minutes per seed {[c['minutes'] for c in curves]}")


def command(arguments: argparse.Namespace, seed: int, folder: Path) -> list[str]:
    """What ``fewstep`` is called with: to train, or to continue what is there.

    Raises SystemExit if the run that is there has other settings.
    """
    train = ["train", arguments.algo, arguments.env, "--preset", arguments.preset, "--seed", str(seed)]
    train += ["--out", str(folder), *(["--steps", str(arguments.steps)] if arguments.steps else [])]
    train += ["--set", *arguments.set] if arguments.set else []
    if not (folder / "config.toml").exists():
        return train
    if read_config(RunDir.open(folder))[0] != resolved(fewstep_parser().parse_args(train)):
        raise SystemExit(f"{folder} holds a run of other settings; choose another --name or --out")
    return ["resume", str(folder)]


def run(arguments: argparse.Namespace) -> None:
    env = file_name(arguments.env)
    name = arguments.name or file_name(f"{arguments.algo}-{arguments.preset}-{env}")
    folders = [arguments.out / env / name / f"seed-{seed}" for seed in arguments.seeds]
    jobs = [command(arguments, seed, folder) for seed, folder in zip(arguments.seeds, folders, strict=True)]
    for words in jobs:
        subprocess.run([sys.executable, "-m", "fewstep", *words], check=True)
    collect(name, folders)


def file_name(text: str) -> str:
    """Without the characters that do not belong in the name of a folder."""
    return re.sub(r"[/:\\]", "_", text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    jobs = parser.add_subparsers(required=True)
    job = jobs.add_parser("run", help="train the seeds, then collect")
    job.add_argument("algo")
    job.add_argument("env")
    job.add_argument("--preset", default="small")
    job.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    job.add_argument("--steps", type=int)
    job.add_argument("--set", nargs="*", default=[])
    job.add_argument("--name")
    job.add_argument("--out", type=Path, required=True)
    job.set_defaults(call=run)
    job = jobs.add_parser("collect", help="summarise runs that exist")
    job.add_argument("name")
    job.add_argument("runs", type=Path, nargs="+")
    job.set_defaults(call=lambda a: collect(a.name, a.runs))
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
