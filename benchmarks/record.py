"""Results as JSON: one file per benchmark, one entry per row, each with where and how it was measured."""

import fcntl
import json
import os
import platform
import shlex
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from fewstep.bench.machine import cores, processor
from fewstep.runs.files import write_text

FOLDER = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    """What a number depends on besides the code."""
    packages = {
        name: version(name) for name in ("fewstep", "jax", "numpy", "mujoco", "gymnasium", "onnxruntime")
    }
    return {"cpu": processor(), "cores_used": cores(), "python": platform.python_version(), **packages}


def command() -> str:
    """What this process was started with, quoted as a shell needs it."""
    return shlex.join(["python", "-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]])


def refuse_unlike(runs: Sequence[Path]) -> None:
    """End the process if run directories that are taken for seeds of one row differ in more than the seed."""
    settings = [tomllib.loads((run / "config.toml").read_text()) for run in runs]
    for run, own in zip(runs, settings, strict=True):
        if own | {"seed": 0} != settings[0] | {"seed": 0}:
            raise SystemExit(f"{run} and {runs[0]} differ in more than the seed: they are not one row")


def update(benchmark: str, row: str, result: dict[str, object], folder: Path = FOLDER) -> None:
    """Print one row and write it into the benchmark's file, keeping the other rows."""
    path = folder / f"{benchmark}.json"
    folder.mkdir(exist_ok=True)
    alone = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX)  # another benchmark may be adding a row
        table = json.loads(path.read_text()) if path.exists() else {}
        table[row] = {**result, "command": command(), "machine": machine()}
        write_text(path, json.dumps(table, indent=1) + "\n")
    finally:
        os.close(alone)
    print(f"{benchmark} | {row} | " + ", ".join(f"{k} {v}" for k, v in result.items()), flush=True)
