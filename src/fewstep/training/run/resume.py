"""Going on with a run that was stopped, killed or finished."""

import dataclasses
import shlex
from contextlib import suppress
from typing import Any

from fewstep.algos import registry
from fewstep.algos.contract import Algorithm
from fewstep.config import RunConfig, from_file
from fewstep.envs.registry import packages_used
from fewstep.errors import FewstepError, UsageError
from fewstep.runs import checkpoint, provenance
from fewstep.runs.checkpoint import Checkpoint
from fewstep.runs.files import read_json, write_text
from fewstep.runs.layout import RunDir
from fewstep.runs.metrics import last_step, truncate_rows
from fewstep.training.device import trainer as device
from fewstep.training.device.trainer import AnyTrainer
from fewstep.training.run import loop
from fewstep.training.run.progress import Reporter, RunReporter, Screen
from fewstep.training.run.recorder import Marks
from fewstep.training.signals import Check
from fewstep.training.trainer import Trainer


def resume(run: RunDir, steps: int | None, quiet: bool, check: Check, experience: bool = True) -> None:
    """Continue to the configured number of environment steps, or to a new total.

    ``experience`` False leaves the saved data out, for a run whose replay is damaged: it goes on with what it
    has learned and collects new transitions before it learns further.

    Everything goes on as if nothing had happened, the running episodes included where the environment is
    deterministic under its seed (``training.collect.episodes``). A finished run without a new total is left
    as it is.

    Raises:
        UsageError: the new total is less than the run already has.
        FewstepError: the checkpoints are damaged or do not fit the config.
    """
    config, algorithm = read_config(run)
    if steps is not None:
        config = with_steps(config, steps)
    total = config.training.steps
    with (
        run.locked(),
        Screen(total, quiet) as screen,
        RunReporter(run.log, total, screen) as reporter,
    ):
        trainer, marks = reopen(run, config, algorithm, reporter, experience)
        try:
            if steps is not None:
                refuse_fewer(run, trainer, steps)
                write_text(run.config, config.to_toml())
            reporter.note(resumed(trainer))
            loop.train(trainer, run, reporter, check, marks)
        finally:
            trainer.close()


def resumed(trainer: AnyTrainer) -> str:
    """The line that says where a run goes on."""
    of = f" of {trainer.config.training.steps:,}" if trainer.clock >= 0 else ""
    return f"resumed at {trainer.progress}{of}"


def with_steps(config: RunConfig, steps: int) -> RunConfig:
    """``config`` for another total."""
    return dataclasses.replace(config, training=dataclasses.replace(config.training, steps=steps))


def refuse_fewer(run: RunDir, trainer: AnyTrainer, steps: int) -> None:
    """Raise UsageError if the run is beyond the new total."""
    if steps < trainer.env_steps:
        raise UsageError(f"{run.path} already has {trainer.env_steps} steps; --steps {steps} is less")


def read_config(run: RunDir) -> tuple[RunConfig, Algorithm]:
    """The resolved config of a run and its algorithm."""
    config = from_file(run.config, lambda name: registry.get(name).config)
    return config, registry.get(config.algo)


def _refuse_other_data(run: RunDir, trainer: AnyTrainer) -> None:
    """Without a checkpoint it is the provenance that knows what data the run was started with."""
    if not isinstance(trainer, Trainer) or trainer.dataset is None or not run.provenance.is_file():
        return
    sha256 = None
    with suppress(OSError, ValueError, KeyError, TypeError):  # damaged: it has nothing to compare with
        sha256 = str(read_json(run.provenance)["dataset"]["sha256"])
    if sha256 is not None:
        trainer.refuse_other_data(sha256)


def _other_versions(run: RunDir, env: str) -> str:
    """The note that the run was started under other versions of what its numbers depend on, empty if not."""
    recorded: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):  # damaged or absent: nothing to compare with
        recorded = dict(read_json(run.provenance)["versions"])
    now = provenance.versions((*provenance.PACKAGES, *packages_used(env)))
    changed = provenance.differences(recorded, now)
    return f"other versions than at the start ({changed}): results may differ" if changed else ""


def marks_of(saved: Checkpoint, trainer: AnyTrainer) -> Marks:
    """Those that a run's checkpoint holds. A model saved from Python has none: it was logged and evaluated
    wherever its user did so.

    Raises:
        FewstepError: they make no sense.
    """
    if "marks" not in saved.meta:
        return Marks.now(trainer)
    try:
        marks = Marks(**saved.meta["marks"])
        logged, evaluated, written = (int(step) for step in (marks.logged, marks.evaluated, marks.saved))
        return Marks(logged, evaluated, written, float(marks.wall_seconds))
    except (TypeError, ValueError, OverflowError) as error:
        raise FewstepError(f"the marks of the checkpoint do not make sense: {error}") from error


def reopen(
    run: RunDir, config: RunConfig, algorithm: Algorithm, reporter: Reporter, experience: bool = True
) -> tuple[AnyTrainer, Marks]:
    """A trainer that goes on from the newest intact checkpoint; rows written after it are dropped.

    The caller holds the run's lock.
    """
    saved = checkpoint.load_newest(
        run.checkpoints,
        warn=reporter.note,
        wanted=lambda group: experience or group in ("state", "episodes"),
    )
    if saved is None:
        _refuse_results_alone(run, config)
    trainer = device.make(config, algorithm)
    if changed := _other_versions(run, config.env):
        reporter.note(changed)
    marks = Marks.now(trainer)
    if saved is None:
        _refuse_other_data(run, trainer)
        reporter.note("no checkpoint was saved yet; starting from step 0")
    else:
        try:
            for note in trainer.restore(saved):
                reporter.note(note)
            marks = marks_of(saved, trainer)
        except BaseException:
            trainer.close()
            raise
        checkpoint.set_aside_newer(run.checkpoints, saved.env_steps)
    drop_later_rows(run, marks, trainer.updates)
    return trainer, marks


def _refuse_results_alone(run: RunDir, config: RunConfig) -> None:
    """A run that was fetched, a record of one, or one whose checkpoints are gone: to start it from step 0
    would erase what it has. One that was killed before its first checkpoint has a log and no end."""
    record = run.metrics.is_file() and not run.log.is_file()
    asked = read_config(run)[0].training.steps  # on disk: ``resume --steps`` has not changed it yet
    gone = not run.checkpoints.exists() and last_step(run.evaluations) >= asked
    if not (run.sums.is_file() or record or gone):
        return
    how = "was fetched without" if run.sums.is_file() else "has results and no"
    raise UsageError(
        f"{run.path} {how} checkpoints and cannot go on; train anew with --config "
        f"{shlex.quote(str(run.config))} --seed {config.seed} --out DIR"
    )


def drop_later_rows(run: RunDir, marks: Marks, updates: int) -> None:
    """Leave the rows up to the checkpoint; before the first step they differ in their updates alone."""
    truncate_rows(run.metrics, max(0, marks.logged), updates)
    truncate_rows(run.evaluations, max(0, marks.evaluated), updates)
