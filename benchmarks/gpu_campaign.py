"""Everything that is to be measured on a GPU, in slices of minutes: each call goes on where the last stopped.

    python -m benchmarks.gpu_campaign --out DIR                       # once, and again until nothing is left
    python -m benchmarks.gpu_campaign --out DIR --only speed
    python -m benchmarks.gpu_campaign --out DIR --scale tiny          # the same on a CPU, to try it

    checks   ``fewstep doctor``, and the tests marked ``gpu``
    speed    ``benchmarks.seed_costs``: SAC, SMFP and MFPO with every critic, 1, 4 and 16 seeds
    device   ``benchmarks.device_speed``, and training on tasks of toys, Brax and Playground in jax
    runs     SMFP and MFPO for a million steps, five seeds in one process, environments on the host

Every step is a process of its own, so that none holds the GPU's memory for another. A training run whose time
is up is sent SIGTERM, saves, and is resumed by the next call. Small files lie in DIR, and what they say
together in ``campaign.json``; runs, with their replay buffers, in ``--runs`` (DIR/runs). The exit status is 1
if a step has failed; that step is tried again by the next call.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import seed_costs

ROOT = Path(__file__).parents[1]
PAUSE = 0.1
"""Seconds between two looks at a process."""
GRACE = 60.0
"""Seconds that a process has to save and leave once it was asked to."""


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        name: of its part and itself.
        needs: seconds without which it is not begun.
        go: ``(step, places, seconds) -> what came of it``, with ``state`` done, partial or failed.
        words: what it runs.
        seeds: of a training run; 0: it is alone in its process.
        package: without which it is left out.
    """

    name: str
    needs: float
    go: Callable[["Step", "Places", float], dict[str, Any]]
    words: tuple[str, ...]
    seeds: int = 0
    package: str | None = None


@dataclass(frozen=True)
class Places:
    """Folders for small files and for runs."""

    out: Path
    runs: Path


def plan(scale: str) -> list[Step]:
    """All steps, in their order."""
    python = sys.executable
    pytest = (python, "-m", "pytest", "-v", "-rs", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu")
    costs = (python, "-m", "benchmarks.seed_costs")
    if scale == "tiny":
        tiny = "tests.e2e.tiny_algorithm:ALGORITHM"
        small = ("--set", "replay.batch_size=8", "replay.learning_starts=50", "training.log_every=100")
        small += ("training.eval_every=500", "training.eval_episodes=1", "training.checkpoint_every=0")
        return [
            Step("checks: doctor", 0, command, (python, "-m", "fewstep", "doctor")),
            Step("checks: tests", 0, command, (*pytest, "--rehearse", "-k", "doctor")),
            Step("speed: costs", 0, speed, (*costs, "--tiny", "--repeats=2", "--only=sac own", "--seeds=2")),
            Step("device: toys", 0, train, (tiny, "toy/bandit", "--steps", "500", *small, *on_device())),
            Step("runs: tiny", 0, train, (tiny, "toy/multigoal", "--steps", "1500", *small), 2),
        ]
    jax_envs = ("training.envs=128", "replay.updates_per_step=0.0625", "training.log_every=12800")
    jax_envs += ("training.eval_every=0", "training.checkpoint_every=128000", "--steps", "1280000")
    runs = [(algo, env) for env in ("HalfCheetah-v4", "Hopper-v4") for algo in ("smfp", "mfpo")]
    return [
        Step("checks: doctor", 60, command, (python, "-m", "fewstep", "doctor")),
        Step("checks: tests", 240, command, pytest),
        Step("speed: costs", 90, speed, costs),
        Step("device: speed", 180, command, (python, "-m", "benchmarks.device_speed", "--only=sac")),
        *(
            Step(
                f"device: sac {env}",
                120,
                train,
                ("sac", env, "--preset", "small", "--set", *jax_envs),
                package=package,
            )
            for env, package in (("brax/inverted_pendulum", "brax"), ("mjx/CheetahRun", "mujoco_playground"))
        ),
        *(
            Step(
                f"runs: {algo} {env}",
                120,
                train,
                (algo, env, "--preset", seed_costs.PRESETS[algo], "--steps", "1000000"),
                5,
            )
            for algo, env in runs
        ),
    ]


def on_device() -> tuple[str, ...]:
    return ("training.device_env=toy/bandit", "training.envs=4", "replay.capacity=400")


def command(step: Step, places: Places, seconds: float) -> dict[str, Any]:
    """A command that is done or not; what it printed is kept."""
    log = places.out / f"{file_name(step)}.txt"
    words = step.words
    if "benchmarks.device_speed" in words:
        words = (*words, "--out", str(places.out))
    status, timed_out = run(words, log, seconds)
    text = log.read_text().strip().splitlines()
    found = {"state": "failed" if status or timed_out else "done", "last_line": text[-1] if text else ""}
    return found | ({"timed_out": True} if timed_out else {})


def speed(step: Step, places: Places, seconds: float) -> dict[str, Any]:
    """Rows of ``benchmarks.seed_costs``, as many as there is time for."""
    asked = seed_costs.parser().parse_args(step.words[3:])
    wanted = seed_costs.rows(asked.only, asked.seeds)
    words = (*step.words, "--out", str(places.out), "--seconds", str(max(0.0, seconds - step.needs)))
    status, timed_out = run(words, places.out / f"{file_name(step)}.txt", seconds)
    left = seed_costs.missing(places.out, wanted)
    state = "failed" if status and not timed_out else "partial" if left else "done"
    return {"state": state, "rows": len(wanted) - len(left), "rows_left": len(left)}


def train(step: Step, places: Places, seconds: float) -> dict[str, Any]:
    """``fewstep train``, or ``fewstep resume`` of what an earlier call began."""
    folder = places.runs / file_name(step)
    seeds = [folder / f"seed-{seed}" for seed in range(max(1, step.seeds))]
    if all((path / "config.toml").exists() for path in seeds):
        words = ("resume", *map(str, seeds))
    elif step.seeds:
        words = ("train", *step.words, "--seeds", f"0..{step.seeds - 1}", "--out", str(folder))
    else:
        words = ("train", *step.words, "--seed", "0", "--out", str(seeds[0]))
    log = places.out / f"{file_name(step)}.txt"
    status, timed_out = run((sys.executable, "-m", "fewstep", *words), log, seconds)
    rows = [read_rows(path / "metrics.jsonl") for path in seeds]
    total = int(step.words[step.words.index("--steps") + 1])
    steps = min((each[-1]["env_steps"] if each else 0) for each in rows)
    stopped = timed_out and status in (128 + signal.SIGTERM, -signal.SIGTERM)
    state = "partial" if stopped else "failed" if status else "done"
    timings = [row["wall_env_steps_per_second"] for row in rows[0] if row.get("wall_env_steps_per_second")]
    curves = {path.name: evaluations(path / "evaluations.jsonl") for path in seeds}
    found = {"state": state, "env_steps": steps, "env_steps_left": total - steps, "status": status}
    return found | {"env_steps_per_second": timings[-1] if timings else None, "evaluations": curves}


def evaluations(path: Path) -> list[tuple[int, float]]:
    """Steps and mean return of every evaluation, in the algorithm's own way to act, which comes first."""
    found: dict[int, float] = {}
    for row in read_rows(path):
        found.setdefault(row["env_steps"], round(sum(row["returns"]) / len(row["returns"]), 2))
    return list(found.items())


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def file_name(step: Step) -> str:
    return step.name.replace(": ", "-").replace(" ", "-").replace("/", "_")


def run(words: tuple[str, ...], log: Path, seconds: float) -> tuple[int, bool]:
    """A process; after ``seconds`` it is asked to save and leave. Gives its status, and whether it was."""
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH"))))
    # Without XLA_FLAGS the tests would set those that make a CPU compile fast.
    environment = {"XLA_FLAGS": ""} | os.environ | {"PYTHONPATH": path}
    end = time.monotonic() + seconds
    with log.open("a") as file:
        process = subprocess.Popen(
            words, env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
        )
        try:
            while process.poll() is None and not is_over(end, log):
                time.sleep(PAUSE)
            return ended(process)
        except KeyboardInterrupt:
            ended(process)
            raise


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, bool]:
    """Ask a process to save and leave if it is still there; its status, and whether it had to be asked."""
    if process.poll() is not None:
        return process.returncode, False
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(GRACE), True
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(), True


def is_over(end: float, log: Path) -> bool:
    """Whether a process has had its time; ``log`` is what it has printed."""
    return time.monotonic() > end


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--runs", type=Path, help="folder of the training runs (DIR/runs)")
    parser.add_argument("--slice-seconds", type=float, default=540.0, help="of this call (540)")
    parser.add_argument("--scale", choices=("tiny", "full"), default="full")
    parser.add_argument("--only", default="", help="only steps whose name contains this text")
    arguments = parser.parse_args(words)
    end = time.monotonic() + arguments.slice_seconds
    places = Places(arguments.out.absolute(), (arguments.runs or arguments.out / "runs").absolute())
    places.out.mkdir(parents=True, exist_ok=True)
    file = places.out / "campaign.json"
    kept = json.loads(file.read_text()) if file.exists() else {"scale": arguments.scale, "steps": {}}
    if kept["scale"] != arguments.scale:
        parser.error(f"{places.out} is a campaign of --scale {kept['scale']}; choose another --out")
    steps = [step for step in plan(arguments.scale) if arguments.only in step.name]
    for step in steps:
        if kept["steps"].get(step.name, {}).get("state") in ("done", "left out"):
            continue
        seconds = end - time.monotonic() - GRACE * (arguments.scale == "full")
        if seconds < step.needs:
            continue
        if step.package is not None and find_spec(step.package) is None:
            found: dict[str, Any] = {"state": "left out", "why": f"{step.package} is not installed"}
        else:
            start = time.monotonic()
            found = step.go(step, places, seconds) | {"wall_seconds": round(time.monotonic() - start, 1)}
        kept["steps"][step.name] = found
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(kept, indent=1) + "\n")
        fresh.replace(file)
        shown = ", ".join(f"{key} {value}" for key, value in found.items() if key != "evaluations")
        print(f"{step.name}: {shown}", flush=True)
    states = {step.name: kept["steps"].get(step.name, {}).get("state", "not begun") for step in steps}
    left = [f"{name} ({state})" for name, state in states.items() if state not in ("done", "left out")]
    print("left: " + ("; ".join(left) if left else "nothing"))
    return int("failed" in states.values())


if __name__ == "__main__":
    sys.exit(main())
