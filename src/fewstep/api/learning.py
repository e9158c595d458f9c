"""``Model.learn``: what was asked for as a plan, and the loop of every run to carry it out."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fewstep.api.callback import Callback, Calling
from fewstep.api.writing import Opened
from fewstep.config import RunConfig, TrainingConfig, settings
from fewstep.errors import UsageError
from fewstep.training.device.trainer import AnyTrainer
from fewstep.training.evaluation.evaluate import Evaluator
from fewstep.training.run import loop
from fewstep.training.run.progress import RunReporter, Screen
from fewstep.training.signals import Check

if TYPE_CHECKING:
    from fewstep.api.model import Model


@dataclass(frozen=True)
class Plan:
    """What one call of ``learn`` is to do.

    Attributes:
        config: the model's, up to the steps and with the evaluations that were asked for.
        callbacks: what is called on the way.
        evaluator: what judges.
    """

    config: RunConfig
    callbacks: tuple[Callback, ...]
    evaluator: Evaluator

    @property
    def goal(self) -> int:
        """Environment steps at which it ends."""
        return self.config.training.steps

    @staticmethod
    def of(
        trainer: AnyTrainer,
        steps: int,
        callbacks: tuple[Callback, ...],
        eval_every: int | None,
        env: Any,
        eval_env: Any,
        recorded: bool,
    ) -> "Plan":
        """``steps`` more; ``env`` is that of training, and ``recorded``: a run is written.

        Raises:
            UsageError: something would wait for what does not happen, or there can be no environment to
                evaluate on.
        """
        before = trainer.config
        every = _eval_every(before.training, eval_every, callbacks, eval_env is not None, recorded)
        training = replace(before.training, steps=trainer.env_steps + steps, eval_every=every)
        config = replace(before, training=training)
        elsewhere = eval_env is not None
        judged = eval_env if elsewhere else env
        evaluator = Evaluator.of(config, trainer.algorithm, judged, trainer.envs, elsewhere, trainer.info)
        if every:
            evaluator.try_another()
        return Plan(config, callbacks, evaluator)


def _eval_every(
    training: TrainingConfig,
    asked: int | None,
    callbacks: tuple[Callback, ...],
    has_env: bool,
    recorded: bool,
) -> int:
    """Steps between evaluations, 0 for none: as asked, else as the config says where there is reason to."""
    every = training.eval_every if has_env or recorded else 0
    if asked is not None:
        every = settings.convert(asked, int, "eval_every")
    if every < 0:
        raise UsageError(f"eval_every must be at least 0, got {every}")
    waits = any(one.evaluation is not None for one in callbacks)
    if not every and (waits or has_env):
        what = "a callback waits for evaluations" if waits else "there is an eval_env"
        raise UsageError(f"{what}, but nothing is evaluated: give learn(..., eval_every=STEPS)")
    if not recorded and any(one.checkpoint is not None for one in callbacks):
        raise UsageError("a callback waits for checkpoints, which a run has: learn(..., run=FOLDER)")
    return every


def train(
    model: "Model", trainer: AnyTrainer, plan: Plan, opened: Opened | None, screen: Screen, check: Check
) -> None:
    """Carry it out; ``opened`` is the run that is written, if one is."""
    run, marks = (None, None) if opened is None else (opened.run, opened.marks)
    with RunReporter(None if run is None else run.log, plan.goal, screen) as reporter:
        told = Calling(model, plan.callbacks, reporter)
        loop.train(trainer, run, told, check, marks, plan.evaluator, lambda: told.stopped)
