"""Ready callbacks for ``Model.learn``, and the record that one of your own is.

model.learn(100_000, [stop_on_return(-200), keep_best("best")], eval_every=5_000)
"""

import os
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fewstep.api import Callback, Callbacks, Env, Model
from fewstep.api.callback import Row
from fewstep.config import settings
from fewstep.errors import UsageError

__all__ = ["Callback", "Callbacks", "checkpoint_every", "keep_best", "record_video", "stop_on_return"]


def stop_on_return(value: float) -> Callback:
    """End ``learn`` once the mean return of an evaluation is at least ``value``.

    Of several ways of choosing actions the first of ``training.eval_modes`` counts.

    Raises:
        UsageError: ``value`` is not a number.
    """
    counts, value = _first_of_each(), settings.convert(value, float, "value")

    def evaluation(model: Model, row: Row) -> bool:
        return not counts(model, row) or float(np.mean(row["returns"])) < value

    return Callback(evaluation=evaluation)


def keep_best(path: str | Path) -> Callback:
    """Save the model whenever the mean return of an evaluation is the best so far; ``fewstep.load`` opens it.

    Of several ways of choosing actions the first of ``training.eval_modes`` counts.
    """
    counts, folder = _first_of_each(), Path(path).absolute()
    best = -np.inf

    def evaluation(model: Model, row: Row) -> None:
        nonlocal best
        value = float(np.mean(row["returns"]))
        if counts(model, row) and value > best:
            model.save(folder)
            best = value

    return Callback(evaluation=evaluation)


def checkpoint_every(steps: int, folder: str | Path, replay: bool = False) -> Callback:
    """Save the model every so many environment steps, as ``folder/step-STEPS``; ``replay`` as in
    ``Model.save``."""
    where = Path(folder).absolute()

    def save(model: Model) -> None:
        model.save(where / f"step-{model.num_timesteps:09d}", replay)

    return Callback(step=_every(steps, save))


def record_video(steps: int, folder: str | Path, env: Env | None = None, suffix: str = ".mp4") -> Callback:
    """Film an episode every so many environment steps, to ``folder/step-STEPS.mp4`` (or ``.gif``), on ``env``
    as in ``Model.record_video``."""
    where = Path(folder).absolute()

    def film(model: Model) -> None:
        os.makedirs(where, exist_ok=True)
        model.record_video(where / f"step-{model.num_timesteps:09d}{suffix}", env)

    return Callback(step=_every(steps, film))


def _first_of_each() -> Callable[[Model, Row], bool]:
    """Whether a row is the first of its evaluation: of this model, after so many steps and updates."""
    of: weakref.ref[Model] | None = None
    last: tuple[int, int] | None = None

    def is_first(model: Model, row: Row) -> bool:
        nonlocal of, last
        when = row["env_steps"], row["updates"]
        seen = of is not None and of() is model and when == last
        of, last = weakref.ref(model), when
        return not seen

    return is_first


def _every(steps: int, act: Callable[[Model], None]) -> Callable[[Model], None]:
    """``act`` where a multiple of ``steps`` has been reached or passed since the step before."""
    every = settings.convert(steps, int, "steps")
    if every < 1:
        raise UsageError(f"steps must be at least 1, got {every}")
    last: int | None = None

    def step(model: Model) -> None:
        nonlocal last
        now, training = model.num_timesteps, model.config.training
        # Before the first call: one step of all environments, or on the device at most one log interval.
        at_once = training.envs if training.device_env is None else max(training.envs, training.log_every)
        before = max(0, now - at_once) if last is None or last > now else last
        last = now
        if now // every > before // every:
            act(model)

    return step
