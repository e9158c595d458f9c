"""Runs as processes of this machine, each pinned to its own cores."""

import os
from collections.abc import Sequence
from pathlib import Path

from fewstep.errors import UsageError
from fewstep.experiments.plan import Job
from fewstep.experiments.process import Process, on_cores
from fewstep.experiments.spec import Resources

MEMORY_INFO = Path("/proc/meminfo")
DEVICES = Path("/dev")
MEMORY_GB = 1.0
"""Needed by a run where the experiment does not say."""


class LocalExecutor:
    """Starts jobs on the cores this process may use, and on its GPUs if they need any.

    Args:
        resources: what the experiment asks for.
        logs: folder for what the processes print.
        jobs: runs side by side in place of the experiment's own number; 0 keeps it.

    Raises:
        UsageError: more cores or GPUs are asked for than there are.
    """

    def __init__(self, resources: Resources, logs: Path, jobs: int = 0) -> None:
        if told := resources.options.get("local"):
            raise UsageError(f"[resources.local] takes no settings, got {', '.join(told)}")
        self._cores = sorted(os.sched_getaffinity(0))
        self._each, self._gpus, self._logs = resources.cores_per_job, resources.gpus_per_job, logs
        given = resources.memory_gb_per_job
        self._memory = MEMORY_GB if given is None else given
        self._devices = gpus() if self._gpus else []
        most = len(self._cores) // self._each
        room = most if not self._gpus else min(most, _share(self._devices, self._gpus))
        wanted = jobs or resources.jobs or max(1, room)
        if wanted > most:
            raise UsageError(
                f"{wanted} jobs of {self._each} core(s) need {wanted * self._each} cores, this machine gives "
                f"{len(self._cores)}; lower jobs or cores_per_job"
            )
        if wanted > room:
            raise UsageError(
                f"{wanted} jobs of {self._gpus:g} GPU(s) do not fit on this machine's {len(self._devices)}; "
                "lower jobs or gpus_per_job"
            )
        self.slots = wanted
        self._taken: dict[int, Process] = {}
        self._folder = Path.cwd()  # that of the user's modules; looking at an environment may change it

    @staticmethod
    def preview(resources: Resources, logs: Path, jobs: Sequence[Job], most: int = 0) -> str:
        """Nothing: the runs and their directories say all. Raises UsageError as the constructor does."""
        LocalExecutor(resources, logs, most)
        return ""

    def has_room(self, running: int) -> bool:
        """Whether enough memory is free; one job may always run."""
        free = free_memory_gb()
        return running == 0 or free is None or free >= self._memory

    def start(self, job: Job) -> Process:
        """Start on cores that no running job has."""
        slot = next(i for i in range(self.slots) if i not in self._taken or self._is_free(i))
        with on_cores(self._cores[slot * self._each : (slot + 1) * self._each]):
            process = Process(job.work(self._logs, self._folder, self._gpus), self._visible(slot))
        self._taken[slot] = process
        return process

    def _visible(self, slot: int) -> dict[str, str]:
        if not self._gpus:
            return {}
        first = int(slot * self._gpus) if self._gpus >= 1 else slot // int(1 / self._gpus)
        mine = self._devices[first : first + max(1, int(self._gpus))]
        return {"CUDA_VISIBLE_DEVICES": ",".join(mine)}

    def _is_free(self, slot: int) -> bool:
        return self._taken[slot].exit_status() is not None


def gpus() -> list[str]:
    """Names of the NVIDIA GPUs that this process may use, as CUDA has them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    return [str(index) for index in range(len(list(DEVICES.glob("nvidia[0-9]*"))))]


def _share(devices: Sequence[str], gpus: float) -> int:
    """How many runs fit on the devices."""
    return len(devices) // int(gpus) if gpus >= 1 else len(devices) * int(1 / gpus)


def free_memory_gb() -> float | None:
    """Memory that new processes could have, in GB; None where the system does not say."""
    if not MEMORY_INFO.exists():
        return None
    for line in MEMORY_INFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1e6
    return None
