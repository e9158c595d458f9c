"""The run that ``learn`` writes: a new one, or the one that the model was opened from or wrote before."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from fewstep.errors import UsageError
from fewstep.runs import checkpoint
from fewstep.runs.checkpoint import Checkpoint
from fewstep.runs.files import write_text
from fewstep.runs.layout import RunDir
from fewstep.training.device.trainer import AnyTrainer
from fewstep.training.run import loop, resume
from fewstep.training.run.recorder import Marks


@dataclass
class Opened:
    """A run that a model belongs to.

    Attributes:
        run: its directory.
        newest: environment steps of its newest checkpoint, whatever its state; None if it has none.
        taken: those of the one that the model is, or has written.
        marks: when its duties were last done.
    """

    run: RunDir
    newest: int | None
    taken: int
    marks: Marks

    @staticmethod
    def of(run: RunDir, saved: Checkpoint, trainer: AnyTrainer) -> "Opened":
        """The run whose checkpoint ``trainer`` has taken over."""
        newest = checkpoint.newest_step(run.checkpoints)
        return Opened(run, newest, saved.env_steps, resume.marks_of(saved, trainer))


@contextmanager
def writing(trainer: AnyTrainer, path: Path, opened: Opened | None) -> Generator[Opened]:
    """The run at ``path``, made or continued, and locked while the block runs; its config is the trainer's.

    Raises:
        UsageError: something else is there, such as a run that is not this model's or has gone on without it.
    """
    if opened is None or opened.run.path != path:
        opened = _begun(trainer, path)
    run = opened.run
    with run.locked():
        if checkpoint.newest_step(run.checkpoints) != opened.newest:
            raise UsageError(f"{path} has gone on without this model: fewstep.load({str(path)!r}) opens it")
        checkpoint.set_aside_newer(run.checkpoints, opened.taken)
        resume.drop_later_rows(run, opened.marks, trainer.updates)
        if trainer.clock > opened.marks.saved:  # it has learned elsewhere since
            opened.marks = Marks(trainer.clock, trainer.clock, opened.marks.saved, opened.marks.wall_seconds)
        write_text(run.config, trainer.config.to_toml())
        try:
            yield opened
        finally:
            newest = checkpoint.newest_step(run.checkpoints)
            opened.newest, opened.taken = newest, newest or 0


def _begun(trainer: AnyTrainer, path: Path) -> Opened:
    """A new run. One of a model that has learned already begins with a checkpoint, to be repeatable from."""
    if (path / "config.toml").exists():
        raise UsageError(
            f"{path} already holds a run; fewstep.load({str(path)!r}).learn(STEPS, run={str(path)!r}) "
            "continues it"
        )
    run, marks = loop.create(trainer, path), Marks.now(trainer)
    if not trainer.env_steps and not trainer.updates:
        return Opened(run, None, 0, marks)
    groups, meta = trainer.snapshot()
    checkpoint.save(run.checkpoints, trainer.env_steps, groups, meta | {"marks": asdict(marks)}, keep=1)
    return Opened(run, trainer.env_steps, trainer.env_steps, marks)
