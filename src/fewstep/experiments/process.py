"""A run as a process: started by this one, or by a worker of an engine on whatever machine it chose."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fewstep.experiments import tied
from fewstep.runs.layout import RunDir

PAUSE = 0.2
"""Seconds between two looks at a process."""
WORKERS_OWN = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals of an engine to its worker. Slurm sends them to every process of a job, and a run that hears a
second one leaves without saving; so its worker alone receives them, and interrupts the run once."""
GPU_SHARE = 0.9
"""Of a GPU's memory, what the runs on it allocate together; the rest is for their programs and contexts."""

OLD_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"


@dataclass(frozen=True)
class Work:
    """One job in plain values, as an engine sends them to a machine with the same file system.

    Attributes:
        path: its run directory.
        train: arguments of ``fewstep`` that start it.
        resume: those that go on with it.
        log: file for what it prints.
        folder: working folder, where the user's modules are.
        gpus: GPUs it has; a fraction is a share of the memory of one.
    """

    path: Path
    train: tuple[str, ...]
    resume: tuple[str, ...]
    log: Path
    folder: Path
    gpus: float = 0.0

    @property
    def words(self) -> tuple[str, ...]:
        """What to call now."""
        return self.resume if RunDir(self.path).config.exists() else self.train


class Process:
    """One ``fewstep train`` or ``fewstep resume`` in a session of its own.

    Args:
        work: the job.
        environment: variables in addition to this process's.
        stops_by: the signal that asks the run to save and leave.
        bound: whether the run ends with the process that starts it, and no signal of ``WORKERS_OWN``
            reaches it.
    """

    def __init__(
        self,
        work: Work,
        environment: Mapping[str, str] | None = None,
        stops_by: int = signal.SIGTERM,
        bound: bool = False,
    ) -> None:
        self._log, self._stops_by = work.log, stops_by
        work.log.parent.mkdir(parents=True, exist_ok=True)
        before = [sys.executable, "-I", "-S", tied.__file__, str(os.getpid())] if bound else []
        blocked = signal.pthread_sigmask(
            signal.SIG_BLOCK, WORKERS_OWN if bound else ()
        )  # a child inherits it
        try:
            with open(work.log, "ab") as output:
                self._process = subprocess.Popen(
                    [*before, sys.executable, "-m", "fewstep", *work.words],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    cwd=work.folder,
                    env=os.environ | share_of_gpu(work.gpus) | dict(environment or {}),
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to finish its step, save and leave."""
        if self._process.poll() is None:
            self._process.send_signal(self._stops_by)

    def last_words(self) -> str:
        """The last line of its output."""
        return last_line(self._log)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty; nothing of one that is not there."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "")


def share_of_gpu(gpus: float) -> dict[str, str]:
    """Variables by which runs that share a GPU share its memory, unless the user has set them: by default jax
    takes three quarters."""
    if not 0 < gpus < 1 or not {"XLA_CLIENT_MEM_FRACTION", OLD_FRACTION}.isdisjoint(os.environ):
        return {}
    return {"XLA_CLIENT_MEM_FRACTION": f"{GPU_SHARE * gpus:.3f}"}


def is_busy(work: Work) -> bool:
    """Whether the run is being written: by what an attempt on a lost machine has left behind."""
    run = RunDir(work.path)
    return run.config.exists() and run.is_locked()


def of_a_worker(work: Work) -> Process:
    """The run started, or gone on with, by a worker of an engine."""
    return Process(work, stops_by=signal.SIGINT, bound=True)


def carry_out(work: Work, cores: int) -> int:
    """Run a job to its end in a worker, on ``cores`` cores that no other one has; gives its exit status.

    Whatever interrupts it, such as KeyboardInterrupt, stops the run, waits for it and is raised again.
    """
    while is_busy(work):
        time.sleep(PAUSE)
    with free_cores(cores) as mine:
        with on_cores(mine):
            process = of_a_worker(work)
        try:
            while (status := process.exit_status()) is None:
                time.sleep(PAUSE)
        except BaseException:
            process.stop()
            while process.exit_status() is None:
                time.sleep(PAUSE)
            raise
        return status


@contextmanager
def on_cores(cores: Sequence[int]) -> Generator[None]:
    """What is started in the block runs on these cores, if any are given.

    A child inherits the cores of the thread that starts it, with no code between fork and exec.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def free_cores(number: int) -> Generator[list[int]]:
    """Cores of this machine that no other worker of this user holds while the block runs; none if there are
    not so many, because the engine was told of more cores than there are."""
    folder = Path(tempfile.gettempdir()) / f"fewstep-cores-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    held: dict[int, int] = {}
    with open(folder / "choice", "wb") as choice:
        fcntl.flock(choice, fcntl.LOCK_EX)  # one chooses at a time
        for core in sorted(os.sched_getaffinity(0)):
            if len(held) < number:
                handle = os.open(folder / str(core), os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held[core] = handle
                except BlockingIOError:
                    os.close(handle)
    try:
        yield list(held) if len(held) == number else []
    finally:
        for handle in held.values():
            os.close(handle)
