"""Seconds that an executor takes for a run that does nothing.

    python -m benchmarks.executor_overhead local --jobs 500
    python -m benchmarks.executor_overhead ray --jobs 500
    python -m benchmarks.executor_overhead slurm --cluster local --jobs 100

The scheduler of ``fewstep experiment`` runs ``--jobs`` processes ``fewstep --version`` as it runs any: two
side by side, each on a core of its own. Time per run is the whole time, divided by the number; "alone" is
that of one such process, started and waited for directly. What is between is what the engine, the
scheduler's pauses and the other process on the machine cost. The start of the engine is a row of its own.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from fewstep.config import resolve
from fewstep.experiments import executors, schedule
from fewstep.experiments.process import Work
from fewstep.experiments.spec import Resources


@dataclass(frozen=True)
class NoOp:
    """Stands for a job; no checkpoint is ever found for it, so the scheduler calls it failed."""

    path: Path
    config: Any

    @property
    def name(self) -> str:
        return self.path.name

    def work(self, logs: Path, folder: Path, gpus: float = 0.0) -> Work:
        words = ("--version",)
        return Work(self.path, words, words, logs / f"{self.path.name}.txt", folder, gpus)


def alone(times: int = 10) -> float:
    """Mean seconds of one process."""
    begun = time.perf_counter()
    for _ in range(times):
        subprocess.run([sys.executable, "-m", "fewstep", "--version"], check=True, capture_output=True)
    return (time.perf_counter() - begun) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("executor", choices=sorted(executors.BUILT_IN))
    parser.add_argument("--cluster", choices=("slurm", "local"), default="slurm", help="of submitit")
    parser.add_argument("--jobs", type=int, default=500)
    arguments = parser.parse_args()
    name = arguments.executor
    options = {"ray": {"address": "local"}, "slurm": {"cluster": arguments.cluster}}
    resources = Resources(jobs=2, executor=name, options=options)
    single = alone()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        begun = time.perf_counter()
        executor = executors.get(name)(resources, root / "logs")
        connected = time.perf_counter()
        # As in `fewstep experiment`: an engine is started before anything imports jax.
        from fewstep.algos import registry

        config = resolve("sac", registry.get("sac").config, "toy/bandit", seed=0, preset="small")
        jobs: list[Any] = [NoOp(root / f"run-{index}", config) for index in range(arguments.jobs)]
        started = time.perf_counter()
        entries = schedule.run(jobs, executor, lambda entries: None, lambda: None)
        each = (time.perf_counter() - started) / len(jobs)
    printed = {entry.message for entry in entries}
    assert len(printed) == 1, printed  # every process has printed the version, and nothing else
    row = {
        "jobs": arguments.jobs,
        "seconds_per_run": each,
        "seconds_alone": single,
        "seconds_to_start_the_engine": connected - begun,
    }
    record.update("executor_overhead", name if name != "slurm" else f"slurm ({arguments.cluster})", row)


if __name__ == "__main__":
    main()
