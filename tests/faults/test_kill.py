"""``kill -9`` in the middle of saving: the run resumes from a whole checkpoint, nothing is left about."""

import random
import signal

import pytest

from fewstep.cli import main
from fewstep.runs import checkpoint
from tests.e2e.helpers import TINY, process, rows

SETS = [
    "training.batch_size=8",
    "training.learning_starts=20",
    "training.log_every=10",
    "training.eval_every=0",
    "training.checkpoint_every=10",
    "training.replay_capacity=20000",
    "training.keep_checkpoints=1",
]


def test_killed_while_saving_all_the_time(tmp_path):
    """Checkpoints every ten steps: most of the process's life is spent saving."""
    run = tmp_path / "run"
    running = process("train", TINY, "Humanoid-v4", "--steps", "100000", "--out", run, "--set", *SETS)
    chance = random.Random(0)
    for kill in range(3):
        lines = chance.randint(5, 25)
        for line in running.stderr:
            lines -= line.startswith("step ")
            if lines <= 0:
                break
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=60)
        saved = checkpoint.load_newest(run / "checkpoints", pytest.fail)
        assert saved is not None
        assert saved.env_steps % 10 == 0
        if kill < 2:
            running = process("resume", run)
    total = saved.env_steps + 20
    assert main(["resume", str(run), "--steps", str(total), "--quiet"]) == 0
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"{total:09d}"]
    assert [row["env_steps"] for row in rows(run / "metrics.jsonl")] == list(range(10, total + 1, 10))


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
