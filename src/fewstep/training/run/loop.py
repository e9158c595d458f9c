"""The loop of every run, of ``fewstep train`` and ``Model.learn``: advance and, when due, log, evaluate and
save; whatever happens, leave a recorded run resumable."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fewstep import foreign
from fewstep.algos import numerics
from fewstep.algos.contract import Algorithm
from fewstep.config import RunConfig
from fewstep.envs.registry import packages_used
from fewstep.runs import provenance
from fewstep.runs.layout import RunDir
from fewstep.training.collect.return_scale import BOUND
from fewstep.training.device import trainer as device
from fewstep.training.device.trainer import AnyTrainer
from fewstep.training.evaluation.evaluate import Evaluator
from fewstep.training.run.crash import Diverged
from fewstep.training.run.progress import Reporter
from fewstep.training.run.recorder import Marks, Recorder
from fewstep.training.signals import Check, Interrupted


def start(config: RunConfig, algorithm: Algorithm, run_path: Path) -> tuple[AnyTrainer, RunDir]:
    """Build a trainer and, once that has worked, its run directory.

    Raises:
        UsageError: the environment, a setting or the directory is not usable; nothing has been written then.
    """
    RunDir.refuse_existing(run_path)
    trainer = build(config, algorithm)
    try:
        return trainer, create(trainer, run_path)
    except BaseException:
        trainer.close()
        raise


def build(config: RunConfig, algorithm: Algorithm) -> AnyTrainer:
    """A new trainer.

    Raises:
        UsageError: the environment or a setting is not usable.
        FewstepError: evaluation needs environments beside those of training, and there cannot be any.
    """
    judge = Evaluator.of(config, algorithm)
    trainer = device.make(config, algorithm)
    try:
        if config.training.eval_every:
            judge.try_another()  # rather now than after the steps to the first evaluation
        return trainer
    except BaseException:
        trainer.close()
        raise


def create(trainer: AnyTrainer, run_path: Path) -> RunDir:
    """A new run directory with all that is known before the first step."""
    config = trainer.config
    found = provenance.collect(config.sha256, numerics.device(), packages_used(config.env))
    if trainer.dataset is not None:
        found["dataset"] = asdict(trainer.dataset)
    return RunDir.create(run_path, config.to_toml(), json.dumps(found, indent=1) + "\n")


def train(
    trainer: AnyTrainer,
    run: RunDir | None,
    reporter: Reporter,
    check: Check,
    marks: Marks | None = None,
    evaluator: Evaluator | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Go on until the config's number of environment steps, or until it is ``stopped``, then evaluate and
    save once more.

    Whatever ends it early (a signal, a failing environment, a number that is not finite), what was learned so
    far is saved first. The caller holds the run's lock and closes the trainer. Without a ``run`` nothing is
    written.

    Raises:
        Interrupted: a signal came.
        Diverged: a metric or the state stopped being finite.
        FewstepError: the environment failed, or the disk did.
    """
    recorder = Recorder(trainer, run, reporter, marks or Marks.now(trainer), evaluator)
    with nullcontext() if run is None else foreign.heard_by(reporter.note):
        _train(trainer, recorder, reporter, check, stopped)


def _train(
    trainer: AnyTrainer, recorder: Recorder, reporter: Reporter, check: Check, stopped: Callable[[], bool]
) -> None:
    total = trainer.config.training.steps
    try:
        note_what_is_ahead(trainer, reporter)
        while True:
            check()
            final = trainer.env_steps >= total or stopped()
            recorder.due(check, final=final)
            if final:
                return
            if stopped():
                continue
            trainer.advance()
            reporter.step(trainer.env_steps, trainer.updates)
    except BaseException as error:
        try:
            recorder.rescue()
        except Exception as second:
            if isinstance(error, Interrupted):
                raise second from error  # the user was promised a saved run
            if isinstance(second, Diverged):
                raise Diverged(f"{error}; {second}") from error
            reporter.note(str(second))
        raise
    finally:
        recorder.close()


def note_what_is_ahead(trainer: AnyTrainer, reporter: Reporter) -> None:
    """Say so if the run begins with recorded data, ends before its first update, or divides rewards whose
    returns then fall between two atoms of the critics."""
    if trainer.clock < 0 and trainer.dataset is not None:
        data = trainer.dataset
        reporter.note(
            f"{-trainer.clock:,} updates on recorded data before the first step: {data.episodes:,} episodes, "
            f"{data.transitions:,} transitions of {data.source}"
        )
    total = trainer.config.training.steps
    first, cause = trainer.first_update()
    if first > total:
        reporter.note(f"no update will happen: the first could be at step {first:,} of {total:,} ({cause})")
    if text := _too_wide(trainer.config):
        reporter.note(text)


def _too_wide(config: RunConfig) -> str:
    """What to do where a categorical critic's grid is that of raw rewards; empty if it is not."""
    critic: Any = getattr(config.algorithm, "critic", None)
    if config.replay is None or config.replay.reward == "raw":
        return ""
    if getattr(critic, "head", None) != "categorical" or critic.v_max - critic.v_min <= 10 * 2 * BOUND:
        return ""
    return (
        f"replay.reward divides rewards so that returns are about {BOUND:g} in size, but the critics' atoms "
        f"lie between {critic.v_min:g} and {critic.v_max:g}: set critic.v_min={-BOUND:g} "
        f"critic.v_max={BOUND:g}"
    )
