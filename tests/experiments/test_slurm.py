"""Slurm as the executor: submitit's own executors, and a real Slurm of one node where its programs are."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

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
    expected = (
        "time=240",
        "partition=gpu",
        "account=robots",
        "reservation=week",
        "requeue",
        "signal=USR2@90",
    )
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
        (programs / name).write_text(
            "#!/bin/sh\necho 'squeue: error: Unable to contact controller' >&2; exit 1"
        )
        (programs / name).chmod(0o755)
    assert main(words) == 2
    one_line(capsys.readouterr().err, "Slurm does not answer", "Unable to contact controller")
    assert not (tmp_path / "out").exists()


def test_runs_in_this_process(tmp_path):
    """submitit's debug executor, with two runs to a job."""
    folder = written(tmp_path / "debug", 600, 'gpus_per_job = 0.5\nslurm.cluster = "debug"')
    assert "2 of 2 runs are finished" in finished(folder, "--on", "slurm")
    assert [steps_saved(folder, seed) for seed in (0, 1)] == [600, 600]


def submitted(folder):
    return json.loads((folder / "out" / "logs" / "slurm" / "submitted.json").read_text())


def resumed(folder, seed):
    return lambda: "resumed at" in log(folder, seed)


@pytest.mark.slow
def test_preempted_and_killed_under_submitit_it_ends_as_if_undisturbed(calm, tmp_path):
    """Its local executor: SIGUSR2 has a job save and be started again, as Slurm's requeueing does."""
    folder = written(tmp_path / "disturbed", STEPS, 'slurm.cluster = "local"')
    running = start(folder, "--on", "slurm")
    wait_for(at_work(folder))
    controller = submitted(folder)[str(run_of(folder, 0))][0]
    (worker,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(worker), signal.SIGUSR2)
    wait_for(resumed(folder, 0))
    killed(running)
    assert "2 of 2 runs are finished" in finished(folder, "--on", "slurm")
    assert submitted(folder)[str(run_of(folder, 0))][0] == controller  # waited for, not started twice
    assert_same_end(calm, folder)


@pytest.mark.slow
def test_stopped_under_submitit_it_saves_and_goes_on(calm, tmp_path):
    folder = written(tmp_path / "disturbed", STEPS, 'slurm.cluster = "local"')
    running = start(folder, "--on", "slurm")
    wait_for(at_work(folder))
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 143, errors
    assert all("saved at step" in log(folder, seed) for seed in (0, 1))
    assert "2 of 2 runs are finished" in finished(folder, "--on", "slurm")
    assert_same_end(calm, folder)


CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={port}
SlurmdPort={other}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes={host} PriorityTier=10
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm of this machine alone, with a core per run; gives the environment that its programs need."""
    folder = tmp_path_factory.mktemp("slurm")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)  # munged insists
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0)), two.bind(("127.0.0.1", 0))
        port, other = one.getsockname()[1], two.getsockname()[1]
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    cores = min(2, os.cpu_count() or 1)
    text = CONFIGURATION.format(host=host, folder=folder, port=port, other=other, cores=cores)
    (folder / "slurm.conf").write_text(text)
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o600)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munged = ["munged", "--force"]
    munged += [f"--{name}-file={folder / name}" for name in ("key", "pid", "log", "seed")]
    daemons = []
    try:
        for command in (
            [*munged, f"--socket={folder}/munge.socket", "-F"],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            with open(folder / f"{command[0]}.out", "wb") as output:
                daemons.append(
                    subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
                )
            time.sleep(1)
        idle = ["sinfo", "--noheader", "--format=%t", "--partition=main"]
        wait_for(lambda: subprocess.run(idle, env=environment, capture_output=True).stdout.strip() == b"idle")
        yield {"SLURM_CONF": environment["SLURM_CONF"]}
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)


def asked(slurm, *command):
    done = subprocess.run(command, env=os.environ | slurm, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def queue(slurm):
    return set(asked(slurm, "squeue", "--noheader", "--array", "--format=%i").split())


def begin_now(slurm, *jobs):
    """Slurm lets a requeued job wait for two minutes."""
    pending = ("squeue", "--noheader", "--array", "--state=PENDING", "--format=%i")
    for job in jobs:
        wait_for(lambda job=job: job in asked(slurm, *pending).split())
        asked(slurm, "scontrol", "update", f"JobId={job}", "StartTime=now")


@needs_slurm
@pytest.mark.slow
def test_at_its_time_limit_a_job_is_requeued_and_a_killed_experiment_finds_it(slurm, calm, tmp_path):
    """SIGUSR2 is what Slurm sends before the limit, to every process of the job."""
    folder = written(tmp_path / "disturbed", STEPS)
    running = start(folder, "--on", "slurm", env=slurm)
    wait_for(at_work(folder))
    ids = submitted(folder)
    job = ids[str(run_of(folder, 0))][0]
    assert queue(slurm) == {number for number, _ in ids.values()}
    asked(slurm, "scancel", "--signal=USR2", job)
    wait_for(lambda: "saved at step" in log(folder, 0))
    killed(running)
    begin_now(slurm, job)
    output = finished(folder, "--on", "slurm", env=slurm)
    assert "2 of 2 runs are finished" in output
    assert submitted(folder) == ids  # the same jobs
    assert resumed(folder, 0)()
    assert not resumed(folder, 1)()
    assert_same_end(calm, folder)


@needs_slurm
@pytest.mark.slow
def test_preempted_by_slurm_a_run_saves_and_goes_on(slurm, calm, tmp_path):
    """SIGTERM at once, SIGKILL after the partition's grace time, and the job is in the queue again."""
    folder = written(tmp_path / "disturbed", STEPS)
    running = start(folder, "--on", "slurm", env=slurm)
    wait_for(at_work(folder))
    asked(slurm, "sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait_for(lambda: all("saved at step" in log(folder, seed) for seed in (0, 1)))
    begin_now(slurm, *(number for number, _ in submitted(folder).values()))
    output, errors = running.communicate(timeout=400)
    assert running.returncode == 0, output + errors
    for seed in (0, 1):
        assert "saved at step" in log(folder, seed)
        assert resumed(folder, seed)()
    assert_same_end(calm, folder)


@needs_slurm
@pytest.mark.slow
def test_stopped_it_empties_the_queue_and_goes_on(slurm, calm, tmp_path):
    """One run saves, the other has not begun."""
    folder = written(tmp_path / "disturbed", STEPS, "jobs = 1")
    running = start(folder, "--on", "slurm", env=slurm)
    wait_for(lambda: steps_saved(folder, 0) > 0)
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 143, errors
    assert "saved at step" in log(folder, 0)
    wait_for(lambda: not queue(slurm))
    finished(folder, "--on", "slurm", env=slurm)
    assert not resumed(folder, 1)()
    assert_same_end(calm, folder)
