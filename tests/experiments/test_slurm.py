"""Slurm as the executor: submitit's own executors, and a real Slurm of one node where its programs are."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

from fewstep.cli import main
from tests.e2e.helpers import one_line
from tests.experiments.common import (
    assert_same_end,
    finished,
    killed,
    run_of,
    start,
    steps_saved,
    wait_for,
    written,
)

pytest.importorskip("submitit", reason="needs pip install 'fewstep[slurm]'")

STEPS = 8_000
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue")
needs_slurm = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)) or os.getuid() != 0,
    reason="needs Slurm's own programs (Debian: slurm-wlm) and root, to start a cluster of one node",
)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The same experiment by the local executor, undisturbed."""
    folder = written(tmp_path_factory.mktemp("calm"), STEPS)
    finished(folder)
    return folder


def at_work(folder):
    return lambda: all(0 < steps_saved(folder, seed) < STEPS for seed in (0, 1))


def log(folder, seed):
    path = run_of(folder, seed) / "log.txt"
    return path.read_text() if path.exists() else ""


OPTIONS = """gpus_per_job = 0.5
cores_per_job = 3
memory_gb_per_job = 1.5
jobs = 1
[resources.slurm]
time = 240
partition = "gpu"
account = "robots"
reservation = "week"
"""


def test_a_dry_run_prints_the_batch_script_and_writes_nothing(tmp_path, capsys):
    """The seeds of two runs share a GPU: one job with the cores and the memory of both."""
    spec = written(tmp_path / "it", 100, OPTIONS) / "it.toml"
    words = ["experiment", str(spec), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main([*words, "--on", "slurm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = ("time=240", "partition=gpu", "account=robots", "reservation=week", "requeue", "signal=USR2@90")
    for option in (*expected, "cpus-per-task=6", "gpus-per-node=1", "mem=3000M"):
        assert f"#SBATCH --{option}" in lines
    assert not any("--array" in line for line in lines)
    (command,) = (line for line in lines if line.startswith("srun "))
    assert "--cpus-per-task=6" in command
    spec.write_text(spec.read_text().replace("gpus_per_job = 0.5", "gpus_per_job = 2"))
    assert main([*words, "--on", "slurm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for option in ("array=0-1%1", "cpus-per-task=3", "gpus-per-node=2", "mem=1500M"):
        assert f"#SBATCH --{option}" in lines
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        ("slurm.time = 0", ["time, in minutes, must be at least 1"]),
        ('slurm.cluster = "sge"', ["unknown cluster", "known: debug, local, slurm"]),
        ("slurm = 3", ["slurm must be a table"]),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path, capsys, table, parts):
    spec = written(tmp_path / "it", 100, table) / "it.toml"
    for more in ([], ["--dry-run"]):
        words = ["experiment", str(spec), "--out", str(tmp_path / "out"), "--on", "slurm", *more]
        assert main(words) == 2
        one_line(capsys.readouterr().err, *parts)
    assert not (tmp_path / "out").exists()


def test_where_there_is_no_slurm_or_it_does_not_answer(tmp_path, capsys, monkeypatch):
    spec = written(tmp_path / "it", 100) / "it.toml"
    words = ["experiment", str(spec), "--out", str(tmp_path / "out"), "--on", "slurm"]
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    assert main(words) == 2
    one_line(capsys.readouterr().err, "there is no Slurm on this machine", "--dry-run")
    for name in ("sbatch", "srun", "squeue"):
        (programs / name).write_text("#!/bin/sh\necho 'squeue: error: Unable to contact controller' >&2; exit 1")
        (programs / name).chmod(0o755)
    assert main(words) == 2
    one_line(capsys.readouterr().err, "Slurm does not answer", "Unable to contact controller")
    assert not (tmp_path / "out").exists()


def test_runs_in_this_process(tmp_path):
    """submitit's debug executor, with two runs to a job."""
    folder = written(tmp_path / "debug", 600, 'gpus_per_job = 0.5\nslurm.cluster = "debug"')
    assert "2 of 2 runs are finished" in finished(folder, "--on", "slurm")
    assert [steps_saved(folder, seed) for seed in (0, 1)] == [600, 600]


@pytest.mark.slow
def test_preempted_killed_and_stopped_under_submitit_it_ends_as_if_undisturbed(calm, tmp_path):
    """Its local executor: SIGUSR2 has a job save and be started again, as Slurm's requeueing does."""
    folder = written(tmp_path / "disturbed", STEPS, 'slurm.cluster = "local"')
    running = start(folder, "--on", "slurm")
    wait_for(at_work(folder))
    submitted = json.loads((folder / "out" / "logs" / "slurm" / "submitted.json").read_text())
    os.kill(int(submitted[str(run_of(folder, 0))][0]), signal.SIGUSR2)  # controllers do not pass it on, so:
    killed(running)
    again = start(folder, "--on", "slurm")
    wait_for(lambda: "waiting" in again.stderr.readline() or "running" in again.stderr.readline())
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=120)
    assert again.returncode == 143
    finished(folder, "--on", "slurm")
    assert_same_end(calm, folder)
