"""Who runs an experiment: names, what is missing, GPUs, and how a worker of an engine holds a run."""

import importlib.metadata
import os
import signal
import subprocess
import sys
import time

import pytest

from fewstep.cli import main
from fewstep.errors import UsageError
from fewstep.experiments import executors, local, process, spec, tied
from fewstep.experiments.process import Work
from tests.e2e.helpers import one_line
from tests.experiments.common import wait_for, written


@pytest.fixture
def words(tmp_path):
    file = written(tmp_path / "it", 100) / "it.toml"
    return ["experiment", str(file), "--out", str(tmp_path / "out")]


def test_a_name_that_is_unknown(words, tmp_path, capsys):
    for more in ([], ["--dry-run"]):
        assert main([*words, "--on", "slrum", *more]) == 2
        one_line(capsys.readouterr().err, "unknown executor 'slrum'; did you mean 'slurm'?")
    written(tmp_path / "it", 100, 'executor = "rya"')
    assert main(words) == 2
    one_line(capsys.readouterr().err, "resources: unknown executor 'rya'; did you mean 'ray'?")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_extra_that_is_not_installed(words, tmp_path, capsys, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"fewstep.experiments.{name}", raising=False)
    assert main([*words, "--on", name]) == 2
    one_line(capsys.readouterr().err, f"needs {package}: pip install 'fewstep[{name}]'")
    assert not (tmp_path / "out").exists()


class Elsewhere:
    """An executor of another package: it runs jobs in this process, and its option is where to say so."""

    slots = 1

    def __init__(self, resources, logs, jobs=0):
        self.ran = resources.options["elsewhere"]["ran"]

    @staticmethod
    def preview(resources, logs, jobs, most=0):
        return f"{len(jobs)} jobs elsewhere\n"

    def has_room(self, running):
        return True

    def start(self, job):
        assert main(job.words) == 0
        with open(self.ran, "a") as file:
            print(job.name, file=file)
        return Over()


class Over:
    def exit_status(self):
        return 0


def test_one_of_another_package(words, tmp_path, capsys, monkeypatch):
    name = f"{__name__}:Elsewhere"
    point = importlib.metadata.EntryPoint("elsewhere", name, executors.GROUP)
    monkeypatch.setattr(executors, "entry_points", lambda group: [point] if group == point.group else [])
    executors.names.cache_clear()
    ran = tmp_path / "ran"
    written(tmp_path / "it", 100, f'executor = "elsewhere"\nelsewhere.ran = "{ran}"')
    try:
        assert main([*words, "--dry-run"]) == 0
        assert capsys.readouterr().out.endswith("2 jobs elsewhere\n")
        assert main(words) == 0
    finally:
        executors.names.cache_clear()
    assert ran.read_text() == "tiny toy/bandit seed 0\ntiny toy/bandit seed 1\n"


@pytest.mark.parametrize(
    ("gpus", "visible", "slots", "expected"),
    [
        (0.0, "0,1", 4, ["", "", "", ""]),
        (1.0, "3,5", 2, ["3", "5"]),
        (2.0, "0,1,2,3", 2, ["0,1", "2,3"]),
        (0.5, "GPU-a,GPU-b", 4, ["GPU-a", "GPU-a", "GPU-b", "GPU-b"]),
        (0.3, "7", 3, ["7", "7", "7"]),
    ],
)
def test_which_gpus_a_run_of_this_machine_sees(tmp_path, monkeypatch, gpus, visible, slots, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    executor = local.LocalExecutor(spec.Resources(gpus_per_job=gpus), tmp_path)
    assert executor.slots == slots
    seen = [executor._visible(slot).get("CUDA_VISIBLE_DEVICES", "") for slot in range(slots)]
    assert seen == expected


def test_gpus_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "dev").mkdir()
    monkeypatch.setattr(local, "DEVICES", tmp_path / "dev")
    with pytest.raises(UsageError, match=r"1 jobs of 0\.5 GPU.* do not fit on this machine's 0"):
        local.LocalExecutor(spec.Resources(gpus_per_job=0.5), tmp_path)
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / "dev" / name).touch()
    assert local.gpus() == ["0", "1"]
    for gpus in (1.5, 1e-320, 1e9):
        with pytest.raises(UsageError, match=r"gpus_per_job must be a whole number or a share of one GPU"):
            spec.resources_of({"gpus_per_job": gpus}, "it.toml: resources")
    with pytest.raises(UsageError, match=r"\[resources\.local\] takes no settings, got partition"):
        local.LocalExecutor(spec.resources_of({"local": {"partition": "a"}}, "it.toml"), tmp_path)


def test_runs_that_share_a_gpu_share_its_memory(monkeypatch):
    for name in ("XLA_CLIENT_MEM_FRACTION", process.OLD_FRACTION):
        monkeypatch.delenv(name, raising=False)
    assert process.share_of_gpu(0.25) == {"XLA_CLIENT_MEM_FRACTION": "0.225"}
    assert process.share_of_gpu(0) == process.share_of_gpu(1) == process.share_of_gpu(2) == {}
    monkeypatch.setenv(process.OLD_FRACTION, "0.1")  # the user's own; jax refuses both
    assert process.share_of_gpu(0.25) == {}


def test_no_two_workers_hold_one_core(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cores = sorted(os.sched_getaffinity(0))
    with process.free_cores(1) as one:
        assert one == cores[:1]
        with process.free_cores(len(cores)) as all_of_them:
            assert all_of_them == []
        with process.free_cores(len(cores) - 1) as others:
            assert others == cores[1:]
    with process.free_cores(len(cores)) as all_of_them:
        assert all_of_them == cores


SLEEP = "import time; time.sleep(60)"


def test_a_tied_process_is_interrupted_when_its_parent_ends(tmp_path):
    """The parent of it, which starts it and is killed."""
    program = (
        "import os, subprocess, sys, time\n"
        f"words = [sys.executable, '-I', '-S', {tied.__file__!r}, str(os.getpid()), sys.executable, '-c']\n"
        f"print(subprocess.Popen([*words, {SLEEP!r}]).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())

    def command():
        try:
            with open(f"/proc/{child}/cmdline") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # empty for a moment while it becomes the command
    wait_for(lambda: (line := command()) and "tied.py" not in line, seconds=20)
    assert SLEEP in command()
    parent.kill()
    parent.wait(20)
    parent.stdout.close()
    wait_for(lambda: SLEEP not in command(), seconds=20)


TRAIN = ("train", "tests.e2e.tiny_algorithm:ALGORITHM", "toy/bandit", "--quiet", "--steps", "10000000")


def test_a_workers_run_hears_one_interrupt_and_none_of_the_engines_signals(tmp_path, monkeypatch):
    """What Slurm sends to every process of a job does not reach it, so nothing cuts its saving short."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    path = tmp_path / "run"
    sets = ("--set", "training.log_every=100", "training.eval_every=0", "replay.learning_starts=50")
    work = Work(path, (*TRAIN, "--out", str(path), *sets), (), tmp_path / "log", tmp_path)
    run = process.of_a_worker(work)
    try:
        wait_for(lambda: (path / "metrics.jsonl").exists())
        for number in process.WORKERS_OWN:
            os.kill(run._process.pid, number)
        time.sleep(0.5)
        assert run.exit_status() is None
        run.stop()
        assert wait_for(run.exit_status, seconds=60) == 130
    finally:
        if run.exit_status() is None:
            os.kill(run._process.pid, signal.SIGKILL)
    assert list((path / "checkpoints").glob("*/manifest.json"))
    assert run.last_words() == "fewstep: stopped by SIGINT"
