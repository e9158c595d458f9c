"""The records of finished runs, without checkpoints: small enough for a repository, and enough for a report.

``KEEP/<env>/<label>/seed-<S>`` holds the configuration, the provenance, the metrics, every evaluation and, of
a toy, the last samples of one run. What is recorded is not run again, so an experiment that takes longer than
a machine lasts goes on elsewhere. A run that another experiment has made already, under whatever label, is
the same run where its configuration is the same: a run is a function of its configuration.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from shlex import join, split
from tempfile import TemporaryFile
from uuid import uuid4

from fewstep.config import RunConfig
from fewstep.errors import UsageError
from fewstep.experiments import plan
from fewstep.experiments.plan import Job
from fewstep.experiments.schedule import Standing, Tracked
from fewstep.runs.files import read_json, replace_folder, write_text
from fewstep.runs.layout import RANDOM_RETURN, RunDir
from fewstep.runs.metrics import last_step

LEFT_BEHIND = 3600.0
"""Seconds after which an unfinished copy is no other process's that is still at it."""
SAMPLES = ("actions-*.npy", "trajectories-*.npz")
"""What figures of the toys draw: of each the newest file is kept."""


class Records:
    """The records of one experiment.

    Args:
        root: folder of the experiment's runs.
        keep: folder of the records; it need not exist.
        known: folders with runs or records of other experiments, at any depth.

    Raises:
        UsageError: the records would lie among the runs.
    """

    def __init__(self, root: Path, keep: Path, known: Sequence[Path] = ()) -> None:
        if keep.resolve() == root.resolve():
            raise UsageError(f"{keep} is the folder of the runs; choose another --records")
        self._root = root
        self._keep = keep
        self._known = known
        self._taken: set[Path] = set()

    def prepare(self) -> None:
        """Make the folder, and remove what recordings that were killed have left in it.

        Raises:
            UsageError: it cannot be written to.
        """
        try:
            self._keep.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self._keep):
                pass
        except OSError as error:
            raise UsageError(
                f"cannot write to {self._keep}: {error.strerror}; choose another --records"
            ) from error
        for folder, inside, _ in os.walk(self._keep):
            for left in [
                Path(folder, name) for name in inside if name.startswith(".seed-") and ".tmp" in name
            ]:
                with suppress(OSError):  # another process may be removing it
                    if time.time() - left.stat().st_mtime > LEFT_BEHIND:
                        shutil.rmtree(left)

    def path(self, job: Job) -> Path:
        """Where the job's record is or will be."""
        return self._keep / job.path.relative_to(self._root)

    def holds(self, job: Job) -> bool:
        """Whether the job need not run: its record holds the last evaluation that it asks for, or where it
        asks for none, the last metrics.

        Raises:
            UsageError: the record is of another configuration, or of more steps.
        """
        plan.refuse_other(job, self.path(job))
        return is_whole(self.path(job), job.config)

    def twin(self, job: Job) -> Path | None:
        """A finished run of exactly the job's configuration, steps and seed included, in the known folders.

        Raises:
            UsageError: a known folder does not exist.
        """
        for config, folder in self._runs:
            if config == job.config and is_whole(folder, config):
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
            for run in sorted(_run_folders(folder)):
                with suppress(UsageError):  # of an earlier fewstep, say: no run of today's is the same
                    found.append((plan.config_of(run / "config.toml"), run))
        return found

    def _copy(self, job: Job, folder: Path) -> None:
        run, final = RunDir(folder), self.path(job)
        told = _placeless(run.provenance, folder)
        # Of this process alone: another one with the same records may copy the same run at this moment.
        new = final.with_name(f".{final.name}.{uuid4().hex}.tmp")
        try:
            new.mkdir(parents=True)
            for file in (run.config, run.metrics, run.evaluations):
                shutil.copyfile(file, new / file.name)
            for pattern in SAMPLES:
                for newest in sorted(run.samples.glob(pattern))[-1:]:
                    (new / run.samples.name).mkdir(exist_ok=True)
                    shutil.copyfile(newest, new / run.samples.name / newest.name)
            write_text(new / run.provenance.name, told)
            aside = replace_folder(new, final)
            if aside is not None:
                shutil.rmtree(aside)
            random = folder.parent.parent / RANDOM_RETURN
            if random.is_file():
                write_text(final.parent.parent / RANDOM_RETURN, random.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"cannot write to {self._keep}: {error.strerror}; choose another --records"
            ) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _placeless(provenance: Path, folder: Path) -> str:
    """The provenance of the run in ``folder``, its command without the folder that the experiment had on this
    machine, or had before it was moved here."""
    try:
        told = read_json(provenance)
        command = split(str(told["command"]))
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{folder} cannot be recorded: its provenance.json is missing or damaged ({error})"
        ) from error
    place = folder.parts[-3:]
    words = ["/".join(place) if Path(word).parts[-3:] == place else word for word in command]
    return json.dumps(told | {"command": join(words)}, indent=1) + "\n"


def _run_folders(folder: Path) -> Iterator[Path]:
    """The folders ``seed-*`` below it that hold a run. What vanishes meanwhile, because another process is
    writing there, is passed over."""
    for path, inside, files in os.walk(folder):
        if "config.toml" in files and Path(path).name.startswith("seed-"):
            yield Path(path)
            inside.clear()
        inside[:] = [name for name in inside if not name.startswith(".")]


def evaluated(folder: Path) -> int:
    """Environment steps at the last evaluation of a run or record, 0 without one."""
    return last_step(RunDir(folder).evaluations)


def is_whole(folder: Path, config: RunConfig) -> bool:
    """Whether a run or record of that configuration reached its last step."""
    run = RunDir(folder)
    return last_step(run.evaluations if config.training.eval_every else run.metrics) >= config.training.steps
