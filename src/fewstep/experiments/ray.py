"""Runs as tasks of a Ray cluster: that of an address, or one that is started on this machine."""

import importlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewstep.errors import UsageError
from fewstep.experiments import process
from fewstep.experiments.plan import Job
from fewstep.experiments.spec import Resources

ray: Any = importlib.import_module("ray")
SLOTS = 1000
"""Runs given to Ray at once where the experiment does not say: it starts those it has room for."""
RETRIES = 100
"""How often a run goes on elsewhere after its node was lost."""
PATIENCE = 10.0
"""Seconds in which the head of a cluster must answer: Ray itself ends the process after a minute or two."""


class RayExecutor:
    """Hands jobs to Ray, which starts them where there are cores, GPUs and memory for them.

    A task runs ``fewstep train`` or ``resume`` as a process of its own. All nodes need the same installation
    and see the experiment's folder under the same path.

    Args:
        resources: what the experiment asks for; of ``[resources.ray]`` the key ``address``.
        logs: folder for what the runs print.
        jobs: runs side by side in place of the experiment's own number; 0 keeps it.

    Raises:
        UsageError: the cluster cannot be reached, or none of its nodes has room for one run.
    """

    def __init__(self, resources: Resources, logs: Path, jobs: int = 0) -> None:
        table = resources.options.get("ray", {})
        if not set(table) <= {"address"}:
            raise UsageError(f"resources: ray: only address is known, got {', '.join(table)}")
        self.slots = jobs or resources.jobs or SLOTS
        self._logs, self._folder, self._gpus = logs, Path.cwd(), resources.gpus_per_job
        needs: dict[str, float] = {"CPU": resources.cores_per_job, "GPU": resources.gpus_per_job}
        if resources.memory_gb_per_job is not None:
            needs["memory"] = resources.memory_gb_per_job * 1e9
        _connect(table.get("address"))
        _require_room(needs)
        task: Any = ray.remote(
            num_cpus=needs["CPU"], num_gpus=needs["GPU"], memory=needs.get("memory"), max_retries=RETRIES
        )
        self._task: Any = task(process.carry_out)
        self._cores = resources.cores_per_job

    @staticmethod
    def preview(resources: Resources, logs: Path, jobs: Sequence[Job], most: int = 0) -> str:
        """Nothing: the runs and their directories say all."""
        return ""

    def has_room(self, running: int) -> bool:
        """Ray queues what does not fit."""
        return True

    def start(self, job: Job) -> "Task":
        """Hand the job to Ray."""
        work = job.work(self._logs, self._folder, self._gpus)
        return Task(self._task.options(name=job.name).remote(work, self._cores), work)


class Task:
    """A run that Ray has, queued or at work."""

    def __init__(self, reference: Any, work: process.Work) -> None:
        self._reference, self._work, self._failure = reference, work, ""

    def exit_status(self) -> int | None:
        """None while it is queued or runs."""
        done, _ = ray.wait([self._reference], timeout=0)
        if not done:
            return None
        try:
            return ray.get(self._reference)
        except ray.exceptions.TaskCancelledError:
            return 130
        except ray.exceptions.RayError as error:
            self._failure = f"Ray: {' '.join(str(error).split())}"
            return 1

    def stop(self) -> None:
        """Take it from the queue, or interrupt its worker, which has the run save and leave."""
        ray.cancel(self._reference, force=False)

    def last_words(self) -> str:
        """The last line of the run's output, or what Ray says has happened to its task."""
        return self._failure or process.last_line(self._work.log)


def _connect(address: str | None) -> None:
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    address = address or os.environ.get("RAY_ADDRESS")
    host, _, port = (address or "").rpartition(":")
    try:
        if host and not host.startswith("ray"):  # not ray://, whose own messages are clear and quick
            socket.create_connection((host, int(port)), PATIENCE).close()
        own = {} if address not in (None, "local") else {"include_dashboard": False}
        ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"no Ray cluster answers at {address!r}: {reason}; start one with `ray start --head`, or leave "
            "address out to have one on this machine"
        ) from error


def _require_room(needs: dict[str, float]) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in needs.items()) for node in nodes):
        wanted = ", ".join(f"{name} {amount:g}" for name, amount in needs.items() if amount)
        raise UsageError(
            f"none of the {len(nodes)} node(s) of the Ray cluster has what one run needs ({wanted}); lower "
            "cores_per_job, gpus_per_job or memory_gb_per_job"
        )
