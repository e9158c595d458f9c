"""A disk slower than the checkpoints asked for: training does not wait for it beyond the allowance."""

import threading
import time

import pytest

from fewstep.runs import checkpoint
from fewstep.training import allowance, loop
from fewstep.training.allowance import Allowance
from fewstep.training.background import Background
from tests.e2e.helpers import train, without_clock


def test_the_allowance_is_ten_seconds_and_a_hundredth_of_the_time(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(allowance.time, "monotonic", lambda: clock[0])
    allowed = Allowance()
    assert allowed.left == 10.0
    clock[0] += 1000.0
    assert allowed.left == pytest.approx(20.0)
    with allowed.spending():
        clock[0] += 25.0
    assert allowed.left == pytest.approx(10.0 + 0.01 * 1025.0 - 25.0)


def test_a_wait_that_is_too_long_is_given_up_and_the_job_goes_on():
    working, done = Background(), []
    working.start(lambda: (time.sleep(0.3), done.append(1))[1])
    assert not working.finish(0.01)
    assert not done
    assert working.finish()
    assert done


def test_checkpoints_come_later_instead_of_keeping_training_waiting(tmp_path, monkeypatch):
    """The first write hangs until training has come to its end, 59 more are asked for meanwhile; the rows are
    those of a fast disk."""
    sets = ["training.eval_every=0", "training.replay_capacity=1000"]
    assert train(tmp_path / "fast", steps=600, sets=[*sets, "training.checkpoint_every=0"]) == 0
    written, commit, due = [], checkpoint._commit, loop.Recorder.due
    at_the_end = threading.Event()

    def hanging(*arguments):
        assert at_the_end.wait(timeout=60), "training waits for the disk"
        written.append(arguments[1])
        return commit(*arguments)

    def watched(recorder, check, *, final):
        if final:
            at_the_end.set()
        due(recorder, check, final=final)

    monkeypatch.setattr(checkpoint, "_commit", hanging)
    monkeypatch.setattr(loop.Recorder, "due", watched)
    monkeypatch.setattr(allowance, "GRACE_SECONDS", 0.1)
    assert train(tmp_path / "slow", steps=600, sets=[*sets, "training.checkpoint_every=10"]) == 0
    first, last = written
    assert first < last == 600
    assert (tmp_path / "slow" / "log.txt").read_text().count("checkpoints come later") == 1
    newest = [
        checkpoint.load_newest(tmp_path / name / "checkpoints", pytest.fail) for name in ("slow", "fast")
    ]
    assert newest[0].env_steps == newest[1].env_steps == 600
    assert without_clock(tmp_path / "slow" / "metrics.jsonl") == without_clock(
        tmp_path / "fast" / "metrics.jsonl"
    )
