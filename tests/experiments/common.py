"""Experiments that are disturbed: a small one, and what it must be equal to in the end."""

import signal
import time

import numpy as np
import pytest

from fewstep.runs import checkpoint
from tests.e2e.helpers import process, rows

TINY = """
envs = ["toy/bandit"]
seeds = [0, 1]
steps = {steps}
set = {{"training.eval_every" = 1000, "training.checkpoint_every" = 500, "replay.learning_starts" = 50}}

[[run]]
algo = "tests.e2e.tiny_algorithm:ALGORITHM"
label = "tiny"

[resources]
"""


def written(folder, steps, resources=""):
    folder.mkdir(exist_ok=True)
    (folder / "it.toml").write_text(TINY.format(steps=steps) + resources)
    return folder


def start(folder, *words, **options):
    """``fewstep experiment`` of the folder, in a process of its own."""
    return process("experiment", folder / "it.toml", "--out", folder / "out", *words, **options)


def finished(folder, *words, **options):
    """The experiment run to its end; gives its output."""
    running = start(folder, *words, **options)
    output, errors = running.communicate(timeout=400)
    assert running.returncode == 0, output + errors
    return output + errors


def run_of(folder, seed):
    return folder / "out" / "toy_bandit" / "tiny" / f"seed-{seed}"


def wait_for(what, seconds=120):
    """Until ``what()`` is true; gives it."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)
    return found


def steps_saved(folder, seed):
    return checkpoint.newest_step(run_of(folder, seed) / "checkpoints") or 0


def killed(running):
    """``kill -9``, as a node of the login host may be."""
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)


def assert_same_end(left, right):
    """Every array of the last checkpoints, and every row but for the clock, are equal bit for bit."""
    for seed in (0, 1):
        one, other = run_of(left, seed), run_of(right, seed)
        for name in ("metrics.jsonl", "evaluations.jsonl"):
            assert rows(one / name) == rows(other / name)
        ends = [checkpoint.load_newest(path / "checkpoints", pytest.fail) for path in (one, other)]
        assert ends[0].env_steps == ends[1].env_steps
        for group, arrays in ends[0].groups.items():
            assert arrays.keys() == ends[1].groups[group].keys()
            for name, array in arrays.items():
                assert np.array_equal(array, ends[1].groups[group][name]), (group, name)
