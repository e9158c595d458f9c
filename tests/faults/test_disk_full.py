"""A disk that fills up during training: one line, exit status 1, the older checkpoint can be resumed."""

import resource
import signal

from fewstep.cli import main
from fewstep.runs import checkpoint
from tests.e2e.helpers import one_line, train


def test_no_room_for_the_next_checkpoint(tmp_path, capsys):
    """A limit on file sizes stands in for the full disk: the replay buffer outgrows it at the third save."""
    run = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        status = train(run, steps=1200, sets=["training.eval_every=0", "training.checkpoint_every=300"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert status == 1
    one_line(capsys.readouterr().err, "cannot save checkpoint", "older checkpoints are intact")
    found = checkpoint.load_newest(run / "checkpoints", print)
    assert found is not None
    assert found.env_steps == 600
    assert main(["resume", str(run), "--quiet"]) == 0
    assert (run / "checkpoints" / "000001200").is_dir()
