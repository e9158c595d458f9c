"""Runs of the command line, inside this process where possible."""

import json
import os
import subprocess
import sys
from pathlib import Path

from fewstep.cli import main

TINY = "tests.e2e.tiny_algorithm:ALGORITHM"
FAST = (
    "replay.learning_starts=50",
    "replay.batch_size=8",
    "training.log_every=100",
    "training.eval_every=200",
    "training.eval_episodes=2",
    "training.checkpoint_every=200",
)
ROOT = Path(__file__).parents[2]


def train(out, *arguments, env="toy/multigoal", steps=400, sets=(), algo=TINY):
    """``fewstep train``; gives the exit status."""
    words = ["train", algo, env, "--steps", str(steps), "--out", str(out), "--quiet"]
    return main([*words, *arguments, "--set", *FAST, *sets])


def process(*words, **options):
    """A command line in a process of its own."""
    path = os.pathsep.join(filter(None, (f"{ROOT}/src", str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path} | options.pop("env", {})
    command = [sys.executable, "-m", "fewstep", *map(str, words)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def rows(path):
    """The rows of a JSON-lines file without the fields that depend on the clock."""
    parsed = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith("wall_")} for row in parsed]


def without_clock(path):
    """The bytes of a JSON-lines file with the values of ``wall_`` fields removed."""
    lines = []
    for line in Path(path).read_text().splitlines():
        fields = [part for part in line.split(", ") if not part.lstrip("{").startswith('"wall_')]
        lines.append(", ".join(fields))
    return "\n".join(lines)


def one_line(captured, *parts):
    """Assert that standard error is one line of ours that holds all ``parts``."""
    lines = captured.splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("fewstep: ")
    for part in parts:
        assert part in lines[0], lines[0]
