"""A disk slower than the checkpoints asked for: training does not wait for it beyond the allowance."""

import time

import pytest

from fewstep.runs import checkpoint
from fewstep.training import allowance
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
    """Every write takes a fifth of a second and 60 are asked for; the rows are those of a fast disk."""
    sets = ["training.eval_every=0", "training.replay_capacity=300"]
    assert train(tmp_path / "fast", steps=600, sets=[*sets, "training.checkpoint_every=0"]) == 0
    written, real = [], checkpoint._commit

    def slowly(*arguments):
        time.sleep(0.2)
        written.append(arguments[1])
        return real(*arguments)

    monkeypatch.setattr(checkpoint, "_commit", slowly)
    monkeypatch.setattr(allowance, "GRACE_SECONDS", 0.1)
    began = time.monotonic()
    assert train(tmp_path / "slow", steps=600, sets=[*sets, "training.checkpoint_every=10"]) == 0
    assert len(written) <= 2 + (time.monotonic() - began) / 0.2 / 2
    assert written[-1] == 600
    assert (tmp_path / "slow" / "log.txt").read_text().count("checkpoints come later") == 1
    newest = [
        checkpoint.load_newest(tmp_path / name / "checkpoints", pytest.fail) for name in ("slow", "fast")
    ]
    assert newest[0].env_steps == newest[1].env_steps == 600
    assert without_clock(tmp_path / "slow" / "metrics.jsonl") == without_clock(
        tmp_path / "fast" / "metrics.jsonl"
    )
