"""The way from a checkpoint to the update that made a run diverge (``training.run.crash``)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fewstep.errors import FewstepError, NonFiniteError
from fewstep.runs import arrays, checkpoint
from fewstep.runs.layout import RunDir
from fewstep.training import state_io
from fewstep.training.device import trainer as device
from fewstep.training.device.trainer import DeviceTrainer
from fewstep.training.run import crash, resume
from fewstep.training.signals import Check
from fewstep.training.trainer import Trainer


@dataclass(frozen=True)
class Finding:
    """The failing update.

    Attributes:
        update, env_steps: which one it is (updates from 1), and when.
        names: the leaves and metrics that are not finite after it, with the share of bad entries.
        batch: field of the data -> (smallest, mean, largest, number of entries that are not finite).
        file: the state before it and its data; None if the update itself was sound.
    """

    update: int
    env_steps: int
    names: dict[str, float]
    batch: dict[str, tuple[float, float, float, int]]
    file: Path | None


def replay(path: Path, check: Check, tell: Callable[[str], None]) -> Finding | None:
    """Go from the checkpoint to the failing update. Only ``crash/`` is written to.

    Args:
        path: ``RUN/crash/divergence.json``.
        check: called at every step.
        tell: hears one line on where it starts, and one for every episode that could not be restored.

    Returns:
        None if every update up to the recorded one was sound this time.

    Raises:
        UsageError: the file is not one of ours.
        FewstepError: the checkpoint is gone or damaged.
    """
    found = crash.read(path)
    run = RunDir.open(path.resolve().parent.parent)
    config, algorithm = resume.read_config(run)
    trainer = device.make(config, algorithm)
    try:
        if found.checkpoint:
            saved = checkpoint.load(run.checkpoints / f"{found.checkpoint:09d}")
            for note in trainer.restore(saved):
                tell(note)
        tell(f"from {trainer.progress} to step {found.env_steps:,}: {found.message}")
        if isinstance(trainer, DeviceTrainer):
            tell("on the device the updates of an iteration are made together: it is one of the last of them")
            return _by_iterations(trainer, found.env_steps, check)
        watch = _Watch(trainer, run.crash)
        reached = (found.env_steps, found.updates)
        while (trainer.env_steps, trainer.updates) < reached and watch.finding is None:
            check()
            try:
                trainer.advance()
            except NonFiniteError as error:  # finite parameters, and yet an action or an observation is not
                return Finding(trainer.updates, trainer.env_steps, {str(error): 1.0}, {}, None)
        return watch.finding
    finally:
        trainer.close()


def _by_iterations(trainer: DeviceTrainer, env_steps: int, check: Check) -> Finding | None:
    """The first iteration that leaves numbers that are not finite."""
    while trainer.env_steps < env_steps:
        check()
        trainer.advance(1)
        bad = _bad(trainer.learner.snapshot()[0])
        if bad:
            return Finding(trainer.updates, trainer.env_steps, bad, {}, None)
    return None


class _Watch:
    """Stands between a trainer and its learner, and looks at every dispatch."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.finding: Finding | None = None
        self._trainer, self._folder = trainer, folder
        self._learn = trainer.learner.learn
        trainer.learner.learn = self._watched

    def _watched(self, data: Any) -> None:
        learner = self._trainer.learner
        before = learner.snapshot()
        self._learn(data)
        if not _bad(learner.snapshot()[0]):
            return
        # The dispatch holds the failing update: one at a time from the state before it.
        learner.restore(*before, "the state before the dispatch")
        for index in range(len(jax.tree.leaves(data)[0])):
            one = jax.tree.map(lambda field, at=index: field[at : at + 1], data)
            before = learner.snapshot()
            self._learn(one)
            bad = _bad(learner.snapshot()[0])
            if bad:
                self.finding = self._describe(before[0], one, bad)
                return
        raise FewstepError("the updates failed together and not one by one; this crash cannot be narrowed")

    def _describe(self, before: dict[str, np.ndarray], data: Any, bad: dict[str, float]) -> Finding:
        batch = {name: np.asarray(value)[0] for name, value in state_io.to_arrays({"batch": data}).items()}
        update = self._trainer.updates
        path = self._folder / f"update-{update:09d}.safetensors"
        path.unlink(missing_ok=True)
        arrays.write(path, before | batch)
        described = {name.removeprefix("batch/"): _summary(value) for name, value in batch.items()}
        return Finding(update, self._trainer.env_steps, bad, described, path)


def _bad(named: dict[str, np.ndarray]) -> dict[str, float]:
    shares = {name: state_io.finite_share(array) for name, array in named.items()}
    return {name: 1.0 - share for name, share in shares.items() if share < 1.0}


def _summary(value: np.ndarray) -> tuple[float, float, float, int]:
    numbers = value.astype(np.float64)
    return (
        float(numbers.min()),
        float(numbers.mean()),
        float(numbers.max()),
        int((~np.isfinite(numbers)).sum()),
    )
