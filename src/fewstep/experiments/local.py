"""Runs as processes of this machine, each pinned to its own cores."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from fewstep.errors import UsageError
from fewstep.experiments.plan import Job
from fewstep.experiments.spec import Resources

MEMORY_INFO = Path("/proc/meminfo")


class Process:
    """One ``fewstep train`` or ``fewstep resume`` in a session of its own: Ctrl-C reaches it through us."""

    def __init__(self, words: list[str], log: Path, folder: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fewstep", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder,
            )

    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """SIGTERM: it finishes its step, saves and leaves."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def last_words(self) -> str:
        """The last line of its output."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")


class LocalExecutor:
    """Starts jobs on the cores this process may use.

    Args:
        resources: what the experiment asks for.
        logs: folder for what the processes print.
        jobs: runs side by side in place of the experiment's own number; 0 keeps it.

    Raises:
        UsageError: more cores are asked for than there are.
    """

    def __init__(self, resources: Resources, logs: Path, jobs: int = 0) -> None:
        self._cores = sorted(os.sched_getaffinity(0))
        self._each, self._memory, self._logs = resources.cores_per_job, resources.memory_gb_per_job, logs
        most = len(self._cores) // self._each
        wanted = jobs or resources.jobs or max(1, most)
        if wanted > most:
            raise UsageError(
                f"{wanted} jobs of {self._each} core(s) need {wanted * self._each} cores, this machine gives "
                f"{len(self._cores)}; lower jobs or cores_per_job"
            )
        self.slots = wanted
        self._taken: dict[int, Process] = {}
        self._folder = Path.cwd()  # that of the user's modules; looking at an environment may change it

    def has_room(self, running: int) -> bool:
        """Whether enough memory is free; one job may always run."""
        free = free_memory_gb()
        return running == 0 or free is None or free >= self._memory

    def start(self, job: Job) -> Process:
        """Start on cores that no running job has."""
        slot = next(i for i in range(self.slots) if i not in self._taken or self._is_free(i))
        mine = set(self._cores[slot * self._each : (slot + 1) * self._each])
        log = self._logs / f"{job.path.parent.parent.name}-{job.entry.label}-{job.path.name}.txt"
        # A child inherits the cores of the thread that starts it, with no code between fork and exec.
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, mine)
        try:
            process = Process(job.words, log, self._folder)
        finally:
            os.sched_setaffinity(0, before)
        self._taken[slot] = process
        return process

    def _is_free(self, slot: int) -> bool:
        return self._taken[slot].exit_status() is not None


def free_memory_gb() -> float | None:
    """Memory that new processes could have, in GB; None where the system does not say."""
    if not MEMORY_INFO.exists():
        return None
    for line in MEMORY_INFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1e6
    return None
