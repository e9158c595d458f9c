"""A disk that fills up during training: one line, exit status 1, the older checkpoint can be resumed."""

import resource
import signal
import subprocess

import pytest

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


def test_no_room_for_several_seeds(tmp_path, capsys):
    """The same for two seeds side by side: both stop, named, and both go on once there is room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sets = ["training.eval_every=0", "training.checkpoint_every=300"]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        status = train(tmp_path, "--seeds", "0,1", steps=1200, sets=sets)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert status == 1
    parts = [
        "2 of 2 seeds failed: seed 0",
        "cannot save checkpoint",
        "older checkpoints are intact",
        "also: 1",
    ]
    one_line(capsys.readouterr().err, *parts)
    runs = [tmp_path / "seed-0", tmp_path / "seed-1"]
    for run in runs:
        found = checkpoint.load_newest(run / "checkpoints", pytest.fail)
        assert found is not None
        assert found.env_steps == 600
    assert main(["resume", *map(str, runs), "--quiet"]) == 0
    assert all((run / "checkpoints" / "000001200").is_dir() for run in runs)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte; skipped where mounting is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if mounted.returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path):
    with open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1000)


def test_a_disk_that_is_really_full(small_disk, capsys):
    """Something else fills the disk; once it is gone, the run goes on."""
    run = small_disk / "run"
    sets = ["training.eval_every=0", "training.checkpoint_every=100"]
    assert train(run, steps=300, sets=sets) == 0
    with pytest.raises(OSError):
        fill(small_disk / "hog")
    capsys.readouterr()
    assert main(["resume", str(run), "--steps", "600", "--quiet"]) == 1
    one_line(capsys.readouterr().err, "No space left")
    found = checkpoint.load_newest(run / "checkpoints", print)
    assert found is not None
    assert found.env_steps == 300
    (small_disk / "hog").unlink()
    assert main(["resume", str(run), "--steps", "600", "--quiet"]) == 0
    assert (run / "checkpoints" / "000000600").is_dir()


def test_a_disk_that_is_mounted_read_only(small_disk, capsys):
    """Unlike permissions, it holds for root too. What only reads still works."""
    run = small_disk / "run"
    assert train(run, steps=100) == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    capsys.readouterr()
    assert main(["resume", str(run), "--steps", "200", "--quiet"]) in (1, 2)
    one_line(capsys.readouterr().err, str(run))
    assert main(["evaluate", str(run), "--episodes", "1", "--actions", "mode", "--json"]) == 0
    capsys.readouterr()
    assert train(small_disk / "another", steps=100) in (1, 2)
    one_line(capsys.readouterr().err, "another", "ead-only")
