"""The records of finished runs, without checkpoints: small enough for a repository, and enough for a report.

``KEEP/<env>/<label>/seed-<S>`` holds the configuration, the provenance, the metrics and every evaluation of
one run. What is recorded is not run again, so an experiment that takes longer than a machine lasts goes on
elsewhere.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from fewstep.errors import UsageError
from fewstep.experiments import plan
from fewstep.experiments.plan import Job
from fewstep.experiments.schedule import Standing, Tracked
from fewstep.experiments.status import last_row
from fewstep.runs.files import replace_folder, write_text
from fewstep.runs.layout import RunDir


class Records:
    """The records of one experiment.

    Args:
        root: folder of the experiment's runs.
        keep: folder of the records; it need not exist.
    """

    def __init__(self, root: Path, keep: Path) -> None:
        self._root = root
        self._keep = keep
        self._taken: set[Path] = set()

    def path(self, job: Job) -> Path:
        """Where the job's record is or will be."""
        return self._keep / job.path.relative_to(self._root)

    def holds(self, job: Job) -> bool:
        """Whether the job need not run: its record holds the last evaluation that it asks for.

        Raises:
            UsageError: the record is of another configuration, or of more steps.
        """
        plan.refuse_other(job, self.path(job))
        last = last_row(RunDir(self.path(job)).evaluations)
        return last.get("env_steps", 0) >= job.config.training.steps

    def take(self, entries: Sequence[Tracked]) -> None:
        """Record every finished run that is not recorded yet."""
        for entry in entries:
            if entry.standing is Standing.FINISHED and entry.job.path not in self._taken:
                if not self.holds(entry.job):
                    self._copy(entry.job)
                self._taken.add(entry.job.path)

    def _copy(self, job: Job) -> None:
        run, final = RunDir(job.path), self.path(job)
        new = final.with_name(f".{final.name}.tmp")
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            for file in (run.config, run.metrics, run.evaluations):
                shutil.copyfile(file, new / file.name)
            # The command is repeated without the folder that the experiment had on this machine.
            text = run.provenance.read_text(encoding="utf-8")
            write_text(new / run.provenance.name, text.replace(f"{self._root}/", ""))
            aside = replace_folder(new, final)
            if aside is not None:
                shutil.rmtree(aside)
            for file in job.path.parent.parent.glob("*.json"):  # the task's: the return of random actions
                shutil.copyfile(file, final.parent.parent / file.name)
        except OSError as error:
            raise UsageError(
                f"cannot write to {self._keep}: {error.strerror}; choose another --records"
            ) from error
