"""A run held for writing where flock cannot be trusted: two writers, lost owners, clocks that disagree."""

import json
import multiprocessing
import os
import time

import pytest

from fewstep.cli import main
from fewstep.errors import FewstepError, UsageError
from fewstep.runs import lease
from fewstep.runs.layout import RunDir
from tests.e2e.helpers import one_line, process, rows, train


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "SETTLE", 0.2)


def left_by_a_lost_machine(file, age=2 * lease.STALE):
    file.write_text(json.dumps({"host": "gone", "pid": 7, "id": "0"}))
    os.utime(file, (time.time() - age,) * 2)


def test_a_second_writer_is_refused_and_the_file_is_given_back(tmp_path):
    file = tmp_path / ".lease"
    assert lease.owner(file) is None
    with lease.held(file):
        assert lease.owner(file) == f"process {os.getpid()} of {os.uname().nodename}"
        with pytest.raises(FewstepError, match=f"is being written by process {os.getpid()} of"):
            lease.held(file).__enter__()
        assert [path.name for path in tmp_path.iterdir()] == [".lease"]
    assert list(tmp_path.iterdir()) == []


def test_a_stale_owner_is_replaced_and_one_that_was_touched_is_not(tmp_path):
    file = tmp_path / ".lease"
    left_by_a_lost_machine(file, age=lease.STALE - 5)
    with pytest.raises(FewstepError, match="process 7 of gone"):
        lease.held(file).__enter__()
    left_by_a_lost_machine(file, age=lease.STALE + 5)
    assert lease.owner(file) is None
    with lease.held(file):
        assert lease.owner(file).startswith(f"process {os.getpid()} of")
    assert list(tmp_path.iterdir()) == []


def take(file, barrier, results, all_heard):
    lease.SETTLE = 0.5
    barrier.wait()
    try:
        with lease.held(file):
            results.put("held")
            all_heard.wait(60)
    except FewstepError:
        results.put("refused")


def outcomes(file, takers):
    context = multiprocessing.get_context("spawn")
    barrier, results, all_heard = context.Barrier(takers), context.Queue(), context.Event()
    processes = [
        context.Process(target=take, args=(file, barrier, results, all_heard)) for _ in range(takers)
    ]
    for one in processes:
        one.start()
    found = [results.get(timeout=60) for _ in processes]
    all_heard.set()
    for one in processes:
        one.join()
    return sorted(found)


@pytest.mark.parametrize("stale", [False, True], ids=["free", "stale"])
def test_of_several_processes_at_once_one_has_it(tmp_path, stale):
    file = tmp_path / ".lease"
    if stale:
        left_by_a_lost_machine(file)
    assert outcomes(file, 4) == ["held", "refused", "refused", "refused"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("skew", [-86_400, 86_400])
def test_a_clock_that_is_a_day_off_decides_nothing(tmp_path, monkeypatch, skew):
    """This machine's clocks: both that Python has. The file system's own go on as they are."""
    file, now = tmp_path / ".lease", time.time
    monkeypatch.setattr(time, "time", lambda: now() + skew)
    with lease.held(file):
        assert lease.owner(file) is not None
        with pytest.raises(FewstepError):
            lease.held(file).__enter__()
    monkeypatch.undo()
    left_by_a_lost_machine(file)
    monkeypatch.setattr(time, "time", lambda: now() + skew)
    assert lease.owner(file) is None


def test_the_file_systems_clock_is_the_one_that_counts(tmp_path, monkeypatch):
    """A server an hour ahead of this machine stamps the lease and the probe alike."""
    file, ahead = tmp_path / ".lease", time.time() + 3600
    with lease.held(file):
        os.utime(file, (ahead, ahead))
        monkeypatch.setattr(lease, "_now", lambda _: ahead + lease.STALE - 1)
        assert lease.owner(file) is not None
        monkeypatch.setattr(lease, "_now", lambda _: ahead + lease.STALE + 1)
        assert lease.owner(file) is None


def test_it_is_touched_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    file = tmp_path / ".lease"
    with lease.held(file):
        os.utime(file, (0, 0))
        until = time.monotonic() + 30
        while file.stat().st_mtime < 1 and time.monotonic() < until:
            time.sleep(0.05)
        assert time.time() - file.stat().st_mtime < 30


def test_an_owner_learns_that_it_has_been_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    file, heard = tmp_path / ".lease", []
    with lease.held(file, heard.append):
        left_by_a_lost_machine(file)
        until = time.monotonic() + 30
        while not heard and time.monotonic() < until:
            time.sleep(0.05)
    assert heard == ["process 7 of gone"]
    assert file.exists()  # it is the other one's


@pytest.mark.parametrize(
    ("kind", "needed"),
    [("nfs4", True), ("lustre", True), ("fuse.sshfs", True), ("ext4", False), ("tmpfs", False)],
)
def test_the_type_of_the_file_system_decides(tmp_path, monkeypatch, kind, needed):
    folder = tmp_path / "a b"
    folder.mkdir()
    place = str(folder.resolve()).replace(" ", "\\040")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/root / ext4 rw 0 0\nserver:/x {place} {kind} rw 0 0\n")
    monkeypatch.setattr(lease, "MOUNTS", mounts)
    monkeypatch.delenv(lease.CHOICE, raising=False)
    assert lease.is_needed(folder) is needed
    assert not lease.is_needed(tmp_path)
    monkeypatch.setenv(lease.CHOICE, "lease")
    assert lease.is_needed(tmp_path)
    monkeypatch.setenv(lease.CHOICE, "flock")
    assert not lease.is_needed(folder)
    monkeypatch.setenv(lease.CHOICE, "luck")
    with pytest.raises(UsageError, match="FEWSTEP_LOCK must be lease or flock, got 'luck'"):
        lease.is_needed(folder)


def test_a_run_under_a_lease(tmp_path, monkeypatch, capsys):
    """Whole runs: a second process is refused, a lost owner's run goes on, nothing is left about."""
    monkeypatch.setenv(lease.CHOICE, "lease")
    run = tmp_path / "run"
    assert train(run) == 0
    assert not RunDir(run).is_locked()
    with RunDir(run).locked():
        assert RunDir(run).is_locked()
        _, error = process("resume", run, "--steps", "500").communicate(timeout=120)
        one_line(error, "is being written by process", "wait for it or stop it")
    left_by_a_lost_machine(run / ".lease")
    assert main(["resume", str(run), "--steps", "500", "--quiet"]) == 0
    assert rows(run / "metrics.jsonl")[-1]["env_steps"] == 500
    assert not list(run.glob(".l*"))
