"""``Model.evaluate`` and ``Model.record_video``: episodes that leave training as it was."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import gymnasium
import numpy as np

from fewstep import envs, foreign
from fewstep.config import RunConfig
from fewstep.training import saved_policy
from fewstep.training.device.trainer import AnyTrainer
from fewstep.training.evaluation import video
from fewstep.training.evaluation.evaluate import Evaluator
from fewstep.training.run.progress import cut_note
from fewstep.training.trainer import Trainer


def evaluate(
    trainer: AnyTrainer, config: RunConfig, lent: Trainer | None, own: envs.Given, other: envs.Given | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of the episodes that ``config`` asks for.

    Args:
        trainer: what has learned.
        config: its config, for this evaluation.
        lent: the trainer, if ``own`` is the user's. It may be played on: it is brought back afterwards.
        own, other: the environment of training, and what to play on instead.
    """
    elsewhere = lent is not None or other is not None
    judged = own if other is None else other
    beside = trainer.envs if lent is None else None
    evaluator = Evaluator.of(config, trainer.algorithm, judged, beside, elsewhere, trainer.info)
    try:
        with _left_as_it_was(lent, own, other), nullcontext() if elsewhere else trainer.lent() as shared:
            row = evaluator.evaluate(trainer.policy, trainer.env_steps, trainer.updates, on=shared)[0]
    finally:
        evaluator.close()
    if cut := cut_note(row):
        foreign.tell(f"{cut}: their returns are those of unfinished episodes")
    return np.array(row["returns"]), np.array(row["lengths"])


def record(
    trainer: AnyTrainer,
    seed: int,
    lent: Trainer | None,
    own: envs.Given,
    other: envs.Given | None,
    path: Path,
) -> float:
    """Film an episode on ``other``, or on ``own``, that of training; gives its return."""
    algorithm, training = trainer.algorithm, trainer.config.training
    mode = algorithm.native(trainer.config.algorithm)
    limits = (training.max_episode_steps, training.action_repeat, training.eval_max_steps)
    judged = own if other is None else other
    with _left_as_it_was(lent, own, other):
        played = video.record(saved_policy.of(trainer), path, mode, seed, *limits, env=judged)
    return float(played.returns[0])


@contextmanager
def _left_as_it_was(lent: Trainer | None, own: envs.Given, other: envs.Given | None) -> Generator[None]:
    """Whatever is played on the environments of training meanwhile, their episodes then go on."""
    try:
        yield
    finally:
        if lent is not None and (other is None or _overlap(own, other)):
            lent.take_back()


def _overlap(own: envs.Given, other: envs.Given) -> bool:
    """Whether an environment of ``own`` is in ``other``, whatever is wrapped around it."""
    objects = [one.unwrapped for one in envs.several(other) if isinstance(one, gymnasium.Env)]
    return any(one.unwrapped is each for one in envs.several(own) for each in objects)
