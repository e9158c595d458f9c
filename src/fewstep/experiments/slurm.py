"""Runs as job arrays of Slurm, through submitit; also by submitit's own ``local`` and ``debug`` executors."""

import getpass
import importlib
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewstep.errors import UsageError, unknown
from fewstep.experiments import process
from fewstep.experiments.plan import Job
from fewstep.experiments.process import Process, Work
from fewstep.experiments.spec import Resources, number_of
from fewstep.runs.files import read_json, write_text

submitit: Any = importlib.import_module("submitit")
CLUSTERS = ("slurm", "local", "debug")
SLOTS = 1000
"""Runs in Slurm's queue at once: arrays of more elements are refused where MaxArraySize is left as it is."""
TIME = 60
"""Minutes after which a job saves and goes back into the queue, where the experiment does not say."""
TIMEOUTS = 1000
"""How often."""
LOOK, POLL, POLL_STOPPING = 2.0, 30.0, 2.0
"""Seconds between two looks for results, two calls of squeue (one for all jobs), and those of the end."""
GRACE = 600.0
"""Seconds that a worker waits to be killed after SIGTERM."""


class Worker:
    """What a job of Slurm does: one run, or those that share its GPU.

    SIGUSR2 comes before the time limit, and before preemption where Slurm is set so: save, and back into the
    queue. SIGTERM comes before a kill, after which Slurm itself requeues what it has preempted; a job that
    had ended by then would count as done. SIGUSR1 is ours: save and end.
    """

    def __call__(self, works: Sequence[Work]) -> list[int]:
        """Start or go on with the runs; gives their exit statuses."""
        came: list[int] = []
        own = process.WORKERS_OWN
        earlier = {number: signal.signal(number, lambda number, _: came.append(number)) for number in own}
        try:
            statuses = self._run(works, came)
            until = time.monotonic() + GRACE
            while _is_to_be_killed(came) and any(statuses) and time.monotonic() < until:
                time.sleep(process.PAUSE)
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
        requeue = earlier[signal.SIGUSR2]
        if signal.SIGUSR2 in came and any(statuses) and callable(requeue):
            requeue(signal.SIGUSR2, None)  # submitit's: asks for the checkpoint, and exits
        return statuses

    def _run(self, works: Sequence[Work], came: list[int]) -> list[int]:
        while not came and any(map(process.is_busy, works)):
            time.sleep(process.PAUSE)
        if came:
            return [128 + signal.SIGINT] * len(works)
        processes = [process.of_a_worker(work) for work in works]
        statuses, asked = _statuses(processes), False
        while None in statuses:
            if came and not asked:
                asked = True
                for one in processes:
                    one.stop()
            time.sleep(process.PAUSE)
            statuses = _statuses(processes)
        return [status for status in statuses if status is not None]

    def checkpoint(self, works: Sequence[Work]) -> Any:
        """What submitit puts back into the queue."""
        return submitit.helpers.DelayedSubmission(self, works)


def _statuses(processes: Sequence[Process]) -> list[int | None]:
    return [one.exit_status() for one in processes]


def _is_to_be_killed(came: Sequence[int]) -> bool:
    return signal.SIGTERM in came and signal.SIGUSR2 not in came and "SLURM_JOB_ID" in os.environ


class Submitted:
    """A run that is submitted, or will be with all that are started in the same look."""

    def __init__(self, executor: "SlurmExecutor", work: Work) -> None:
        self.executor, self.work = executor, work
        self.job: Any = None
        self.index = 0  # among the runs of its job
        self.failure = ""

    def exit_status(self) -> int | None:
        """None while it is queued or runs."""
        return self.executor.status_of(self)

    def stop(self) -> None:
        """Take it from the queue, or have it save and leave."""
        self.executor.stop(self)

    def last_words(self) -> str:
        """What Slurm or submitit say of its job, or the last line of its output."""
        return self.failure or process.last_line(self.work.log)


class SlurmExecutor:
    """Submits what is started in one look of the scheduler as one job array.

    Args:
        resources: what the experiment asks for; of ``[resources.slurm]`` the keys ``cluster`` and ``time``
            (minutes), and every other as an option of sbatch.
        logs: folder for what the runs print; submitit's files are in its ``slurm``.
        jobs: runs side by side in place of the experiment's own number; 0 keeps it.

    Raises:
        UsageError: a value that cannot be, no Slurm on this machine, or one that does not answer.
    """

    def __init__(self, resources: Resources, logs: Path, jobs: int = 0) -> None:
        self._cluster = _cluster(resources)
        options = _options(resources, jobs)
        self._pack, self._gpus = _pack(resources), resources.gpus_per_job
        self._logs, self._folder = logs, Path.cwd()
        self._files = logs / "slurm"
        self.slots = SLOTS
        if self._cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise UsageError(
                "there is no Slurm on this machine (no sbatch, no srun); start the experiment where jobs are "
                "submitted from, or look at its batch script with --dry-run"
            )
        if self._cluster != "slurm":  # submitit's own start all at once
            cores = len(os.sched_getaffinity(0)) // resources.cores_per_job
            self.slots = jobs or resources.jobs or max(1, cores)
        minutes = options.pop("time")
        self._submitter = submitit.AutoExecutor(
            self._files, cluster=self._cluster, slurm_max_num_timeout=TIMEOUTS
        )
        self._submitter.update_parameters(
            timeout_min=minutes,
            gpus_per_node=options.pop("gpus_per_node", None),
            **{f"slurm_{name}": value for name, value in options.items()},
        )
        self._waiting: list[Submitted] = []
        self._stopping: list[Submitted] = []
        self._results: set[str] = set()
        self._queued = _queued() if self._cluster == "slurm" else set[str]()
        self._looked, self._polled, self._poll = -math.inf, time.monotonic(), POLL
        self._record = self._files / "submitted.json"
        self._ids: dict[str, Any] = read_json(self._record) if self._record.exists() else {}

    @staticmethod
    def preview(resources: Resources, logs: Path, jobs: Sequence[Job], most: int = 0) -> str:
        """The batch script, as it would be submitted."""
        _cluster(resources)
        number = math.ceil(min(len(jobs), SLOTS) / _pack(resources))
        if number == 0:
            return ""
        files = logs / "slurm"
        command = shlex.join([sys.executable, "-u", "-m", "submitit.core._submit", str(files)])
        make = importlib.import_module("submitit.slurm.slurm")._make_sbatch_string
        array = {"map_count": number} if number > 1 else {}
        return "\n" + make(command=command, folder=files, **array, **_options(resources, most))

    def has_room(self, running: int) -> bool:
        """Slurm queues what does not fit."""
        return True

    def start(self, job: Job) -> Submitted:
        """Have it submitted at the next look, unless an earlier start of this experiment left it queued."""
        run = Submitted(self, job.work(self._logs, self._folder, self._gpus))
        number, index = self._ids.get(str(job.path), ("", 0))
        if number in self._queued:
            run.job, run.index = submitit.SlurmJob(self._files, number), index
        else:
            self._waiting.append(run)
        return run

    def status_of(self, run: Submitted) -> int | None:
        """The exit status of a run, None while it is queued or runs."""
        self._submit()
        self._stop()
        if run.failure:
            return 1
        if self._is_on_its_way(run.job):
            return None
        if self._cluster != "debug" and not run.job.paths.result_pickle.exists():
            run.failure = f"job {run.job.job_id} ended without a result; see {run.job.paths.stderr}"
            return 1
        try:
            return run.job.result()[run.index]
        except (RuntimeError, OSError) as error:  # submitit's, with the traceback of the worker
            run.failure = f"job {run.job.job_id}: {_last(error)}"
            return 1

    def stop(self, run: Submitted) -> None:
        """Have it stopped at the next look."""
        if run in self._waiting:
            self._waiting.remove(run)
            run.failure = "stopped before it was submitted"
        else:
            self._stopping.append(run)

    def _submit(self) -> None:
        runs, self._waiting = self._waiting, []
        packs = [runs[at : at + self._pack] for at in range(0, len(runs), self._pack)]
        if not packs:
            return
        try:
            self._files.mkdir(parents=True, exist_ok=True)
            jobs = self._submitter.map_array(Worker(), [[run.work for run in pack] for pack in packs])
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            for run in runs:
                run.failure = f"cannot be submitted: {_last(error)}"
            return
        for job, pack in zip(jobs, packs, strict=True):
            self._queued.add(job.job_id)
            for index, run in enumerate(pack):
                run.job, run.index = job, index
                self._ids[str(run.work.path)] = job.job_id, index
        write_text(self._record, json.dumps(self._ids))

    def _stop(self) -> None:
        runs, self._stopping = self._stopping, []
        ids = sorted({run.job.job_id for run in runs if run.job is not None})
        if not ids:
            return
        if self._cluster == "slurm":
            for which in ("--state=PENDING", f"--signal={signal.SIGUSR1.name[3:]}"):
                subprocess.run(["scancel", which, *ids], capture_output=True, check=False)
            self._poll = POLL_STOPPING
        for run in runs if self._cluster == "debug" else ():
            run.failure = "stopped"
        for number in ids if self._cluster == "local" else ():
            os.kill(int(number), signal.SIGTERM)  # its controller, not waited for yet; it passes this on

    def _is_on_its_way(self, job: Any) -> bool:
        if self._cluster != "slurm":
            return not job.done()
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            self._results = {path.name for path in self._files.glob("*_result.pkl")}
        if now - self._polled > self._poll:
            self._polled = now
            try:
                self._queued = _queued()
            except UsageError:  # does not answer for a while: what was queued is taken to be
                return job.paths.result_pickle.name not in self._results
        return job.paths.result_pickle.name not in self._results and job.job_id in self._queued


def _cluster(resources: Resources) -> str:
    found = resources.options.get("slurm", {}).get("cluster", "slurm")
    if found not in CLUSTERS:
        raise unknown("cluster of resources: slurm", str(found), CLUSTERS)
    return found


def _pack(resources: Resources) -> int:
    """Runs of one job: Slurm gives whole GPUs, so those that share one are together."""
    return int(1 / resources.gpus_per_job) if 0 < resources.gpus_per_job < 1 else 1


def _options(resources: Resources, jobs: int) -> dict[str, Any]:
    """The options of sbatch in submitit's names; those that it does not know go through as they are."""
    pack = _pack(resources)
    cores = resources.cores_per_job * pack
    # srun does not take the cores over from sbatch.
    found: dict[str, Any] = {"job_name": "fewstep", "cpus_per_task": cores, "time": TIME}
    found["srun_args"] = [f"--cpus-per-task={cores}"]
    if resources.memory_gb_per_job is not None:
        found["mem"] = f"{math.ceil(resources.memory_gb_per_job * pack * 1000)}M"
    if resources.gpus_per_job:
        found["gpus_per_node"] = math.ceil(resources.gpus_per_job)
    if jobs or resources.jobs:
        found["array_parallelism"] = math.ceil((jobs or resources.jobs) / pack)
    else:
        found["array_parallelism"] = SLOTS
    given = {name: value for name, value in resources.options.get("slurm", {}).items() if name != "cluster"}
    if "time" in given:
        given["time"] = number_of(given["time"], int, 1, "resources: slurm: time, in minutes,")
    known = submitit.SlurmExecutor._valid_parameters()
    free = {name.replace("_", "-"): value for name, value in given.items() if name not in known}
    found |= {name: value for name, value in given.items() if name in known}
    return found | {"additional_parameters": {"requeue": True} | free}


def _queued() -> set[str]:
    """Ids of this user's jobs that are queued or run, by one call for all. Raises UsageError."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=POLL, check=True)
    except subprocess.CalledProcessError as error:
        raise UsageError(f"Slurm does not answer: {' '.join(error.stderr.split())}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"Slurm does not answer: {error}") from error
    return set(done.stdout.split())


def _last(error: BaseException) -> str:
    """The last line of an error's text that says something: submitit's are tracebacks of a worker."""
    lines = [line for line in str(error).splitlines() if line.strip(" -")]
    return lines[-1].strip() if lines else type(error).__name__
