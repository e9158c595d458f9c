"""Ctrl-C and SIGTERM: saved, resumable, the shell's exit status; a second signal does not wait."""

import signal

import pytest

from fewstep.cli import main
from fewstep.runs import checkpoint
from fewstep.training.signals import Interrupted, watched
from tests.e2e.helpers import TINY, process, rows

ENDLESS = ["--steps", "100000000", "--set", "replay.batch_size=8", "replay.capacity=1000"]


def start(run, *sets):
    """A training process, returned once it is well into its steps."""
    return process("train", TINY, "Pendulum-v1", "--out", run, *ENDLESS, *sets)


def wait_for(running, text):
    """Read the process's lines until one holds ``text``."""
    for line in running.stderr:
        if text in line:
            return
    pytest.fail(f"the process ended without saying {text!r}")


@pytest.mark.parametrize(
    ("number", "status", "during", "sets"),
    [
        (signal.SIGINT, 130, "step 500", ["training.log_every=500", "replay.learning_starts=100"]),
        (signal.SIGTERM, 143, "step 500", ["training.log_every=500"]),  # still in warm-up
    ],
)
def test_a_signal_saves_and_the_run_goes_on(number, status, during, sets, tmp_path):
    run = tmp_path / "run"
    running = start(run, *sets, "training.eval_every=0", "training.checkpoint_every=0")
    wait_for(running, during)
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == status
    assert f"fewstep: stopped by {number.name}" in errors
    assert f"fewstep resume {run}" in errors
    saved = checkpoint.load_newest(run / "checkpoints", pytest.fail)
    assert saved is not None
    assert saved.env_steps >= 500
    total = saved.env_steps + 100
    assert main(["resume", str(run), "--steps", str(total), "--quiet"]) == 0
    assert rows(run / "metrics.jsonl")[-1]["env_steps"] == total


def test_a_signal_during_evaluation_saves_too_and_the_evaluation_is_done_again(tmp_path):
    run = tmp_path / "run"
    sets = ["training.eval_every=300", "training.log_every=300", "training.eval_episodes=1"]
    # One evaluated episode of ten million steps: the signal cannot come anywhere else.
    running = start(run, *sets, "training.max_episode_steps=10000000", "training.checkpoint_every=0")
    wait_for(running, "step 300")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    saved = checkpoint.load_newest(run / "checkpoints", pytest.fail)
    assert saved is not None
    assert saved.env_steps == 300
    assert saved.meta["marks"]["logged"] == 300
    assert saved.meta["marks"]["evaluated"] == 0


def test_the_first_signal_is_raised_at_the_next_check_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with watched() as check:
        check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted) as stopped:
            check()
    assert stopped.value.exit_status == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_leaves_at_once(tmp_path):
    program = (
        "import signal\n"
        "from fewstep.training.signals import watched\n"
        "with watched():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('still here', flush=True)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('not here', flush=True)\n"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143
    assert done.stdout == "still here\n"
