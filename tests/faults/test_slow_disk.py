"""A disk slower than the checkpoints asked for: each is written all the same, and the log says its price."""

import time

from fewstep.runs import checkpoint
from fewstep.training.run import recorder
from tests.e2e.helpers import train, without_clock


def test_every_checkpoint_is_written_and_slow_saving_is_said_once(tmp_path, monkeypatch):
    sets = ["training.eval_every=0", "replay.capacity=1000"]
    assert train(tmp_path / "fast", steps=60, sets=[*sets, "training.checkpoint_every=0"]) == 0
    written, commit = [], checkpoint._commit

    def slow(*arguments):
        time.sleep(0.05)
        written.append(arguments[1])
        return commit(*arguments)

    monkeypatch.setattr(checkpoint, "_commit", slow)
    monkeypatch.setattr(recorder, "SLOW_SECONDS", 0.1)
    monkeypatch.setattr(recorder, "SLOW_SHARE", 0.0)
    assert train(tmp_path / "slow", steps=60, sets=[*sets, "training.checkpoint_every=2"]) == 0
    assert written == list(range(2, 61, 2))
    assert (tmp_path / "slow" / "log.txt").read_text().count("training waits for the disk") == 1
    rows = [without_clock(tmp_path / name / "metrics.jsonl") for name in ("slow", "fast")]
    assert rows[0] == rows[1]
