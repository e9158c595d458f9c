"""``kill -9`` in the middle of saving: the run resumes from a whole checkpoint, nothing is left about."""

import random
import signal
import time

import numpy as np
import pytest

from fewstep.cli import main
from fewstep.runs import checkpoint
from tests.e2e.helpers import TINY, process, without_clock

SETS = [
    "replay.batch_size=8",
    "replay.learning_starts=20",
    "training.log_every=10",
    "training.eval_every=0",
    "training.checkpoint_every=10",
    "replay.capacity=300",
    "training.keep_checkpoints=1",
]
SMALL_SEGMENTS = "tests.faults.small_segments:ALGORITHM"
KILLS = 5


def test_killed_while_saving_all_the_time_ends_as_if_undisturbed(tmp_path):
    """Checkpoints every ten steps: most of the process's life is spent saving. The ring goes round, too."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    start = ["train", SMALL_SEGMENTS, "Humanoid-v4", "--set", *SETS]
    running = process(*start, "--steps", "100000", "--out", run)
    chance = random.Random(0)
    for kill in range(KILLS):
        lines = chance.randint(5, 25)
        for line in running.stderr:
            lines -= line.startswith("step ")
            if lines <= 0:
                break
        time.sleep(chance.uniform(0, 0.05))
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=60)
        saved = checkpoint.load_newest(run / "checkpoints", pytest.fail)
        assert saved is not None
        assert saved.env_steps % 10 == 0
        if kill < KILLS - 1:
            running = process("resume", run)
    total = max(saved.env_steps + 20, 320)
    for words in (["resume", run], [*start, "--out", whole]):
        finishing = process(*words, "--steps", total, "--quiet")
        _, errors = finishing.communicate(timeout=120)
        assert finishing.returncode == 0, errors
    assert without_clock(run / "metrics.jsonl") == without_clock(whole / "metrics.jsonl")
    assert names(run / "checkpoints") == names(whole / "checkpoints")
    for folder in ("segments", f"{total:09d}"):
        assert names(run / "checkpoints" / folder) == names(whole / "checkpoints" / folder)
    left, right = (checkpoint.load_newest(path / "checkpoints", pytest.fail) for path in (run, whole))
    for group, arrays in left.groups.items():
        for name, array in arrays.items():
            assert np.array_equal(array, right.groups[group][name]), name


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_process_on_the_same_run_is_refused(tmp_path, capsys):
    run = tmp_path / "run"
    running = process(
        "train", TINY, "Pendulum-v1", "--steps", "100000000", "--out", run, "--set", "training.log_every=100"
    )
    for line in running.stderr:
        if line.startswith("step "):
            break
    try:
        assert main(["resume", str(run), "--quiet"]) == 1
        assert "is being written by another process" in capsys.readouterr().err
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode == 130
