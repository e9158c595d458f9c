"""The records of finished runs, without checkpoints: small enough for a repository, and enough for a report.

``KEEP/<env>/<label>/seed-<S>`` holds the configuration, the provenance, the metrics and every evaluation of
one run. What is recorded is not run again, so an experiment that takes longer than a machine lasts goes on
elsewhere. A run that another experiment has made already, under whatever label, is the same run where its
configuration is the same: a run is a function of its configuration.
"""

import json
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from shlex import join, split
from uuid import uuid4

from fewstep.config import RunConfig
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
        known: folders with runs or records of other experiments, at any depth.
    """

    def __init__(self, root: Path, keep: Path, known: Sequence[Path] = ()) -> None:
        self._root = root
        self._keep = keep
        self._known = known
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
        return _evaluated(self.path(job)) >= job.config.training.steps

    def twin(self, job: Job) -> Path | None:
        """A finished run of exactly the job's configuration, steps and seed included, in the known folders.

        Raises:
            UsageError: a known folder does not exist, or a configuration in it cannot be read.
        """
        for config, folder in self._runs:
            if config == job.config and _evaluated(folder) >= config.training.steps:
                return folder
        return None

    def adopt(self, job: Job, twin: Path) -> None:
        """Record the run in the folder ``twin`` as the job's; its provenance says how it was made."""
        self._copy(job, twin)

    def take(self, entries: Sequence[Tracked]) -> None:
        """Record every finished run that is not recorded yet."""
        for entry in entries:
            if entry.standing is Standing.FINISHED and entry.job.path not in self._taken:
                if not self.holds(entry.job):
                    self._copy(entry.job, entry.job.path)
                self._taken.add(entry.job.path)

    @cached_property
    def _runs(self) -> list[tuple[RunConfig, Path]]:
        """The runs of the known folders."""
        found: list[tuple[RunConfig, Path]] = []
        for folder in self._known:
            if not folder.is_dir():
                raise UsageError(f"{folder} is no folder; --known names folders with runs or records")
            for path in sorted(folder.rglob("seed-*/config.toml")):
                found.append((plan.config_of(path), path.parent))
        return found

    def _copy(self, job: Job, folder: Path) -> None:
        run, final = RunDir(folder), self.path(job)
        # Of this process alone: another one with the same records may copy the same run at this moment.
        new = final.with_name(f".{final.name}.{uuid4().hex}.tmp")
        try:
            new.mkdir(parents=True)
            for file in (run.config, run.metrics, run.evaluations):
                shutil.copyfile(file, new / file.name)
            write_text(new / run.provenance.name, _placeless(run.provenance, folder))
            aside = replace_folder(new, final)
            if aside is not None:
                shutil.rmtree(aside)
            for file in folder.parent.parent.glob("*.json"):  # the task's: the return of random actions
                shutil.copyfile(file, final.parent.parent / file.name)
        except OSError as error:
            raise UsageError(
                f"cannot write to {self._keep}: {error.strerror}; choose another --records"
            ) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _placeless(provenance: Path, folder: Path) -> str:
    """The provenance of the run in ``folder``, its command without the folder that the experiment had on this
    machine, or had before it was moved here."""
    told = json.loads(provenance.read_text(encoding="utf-8"))
    place = folder.parts[-3:]
    words = ["/".join(place) if Path(word).parts[-3:] == place else word for word in split(told["command"])]
    return json.dumps(told | {"command": join(words)}, indent=1) + "\n"


def _evaluated(folder: Path) -> int:
    """Environment steps at the last evaluation of a run or record, 0 without one."""
    return int(last_row(RunDir(folder).evaluations).get("env_steps", 0))
