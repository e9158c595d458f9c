"""What ``learn`` calls on its way: functions of the user's that see the model, and may stop it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewstep.errors import UsageError, shown
from fewstep.foreign import brief
from fewstep.interrupts import at_once
from fewstep.training.run.progress import Reporter

if TYPE_CHECKING:
    from fewstep.api.model import Model

Row = dict[str, Any]


@dataclass(frozen=True)
class Callback:
    """Functions that ``learn`` calls with the model; those that are None it does not.

    The model is whole at each call: it predicts, evaluates, saves and exports. One that returns False ends
    ``learn``, as its last step would: with the last row of metrics, evaluation and checkpoint. What one
    raises comes out of ``learn``, and a run is saved before.

    Attributes:
        step: after every step of all environments; with ``training.device_env`` after every dispatch.
        metrics: with each row of metrics (``training.log_every``; the glossary says what is in it).
        evaluation: with each row of an evaluation: ``returns`` and ``lengths`` of the episodes, ``actions``,
            how they were chosen, and ``env_steps``. ``training.eval_modes`` may name several ways to choose:
            each gives a row.
        checkpoint: with the folder of each checkpoint of a run, once it is on disk.
    """

    step: "Callable[[Model], object] | None" = None
    metrics: "Callable[[Model, Row], object] | None" = None
    evaluation: "Callable[[Model, Row], object] | None" = None
    checkpoint: "Callable[[Model, Path], object] | None" = None


Callbacks = Callable[[Row], object] | Callback | Sequence[Callable[[Row], object] | Callback]
"""A ``Callback``; or a function, which gets each row of metrics; or a list of these."""


def callbacks_of(given: Any) -> tuple[Callback, ...]:
    """What was given to ``learn`` as records.

    Raises:
        UsageError: it is none of ``Callbacks``.
    """
    if given is None:
        return ()
    if isinstance(given, list | tuple):
        return tuple(one for part in given for one in callbacks_of(part))
    if isinstance(given, Callback):
        return (given,)
    if callable(given):
        return (Callback(metrics=lambda model, row: given(row)),)
    raise UsageError(
        "callback must be a function, which gets each row of metrics (lambda row: ...), a "
        f"fewstep.callbacks.Callback, or a list of these, got {shown(given)}"
    )


class Calling:
    """A reporter that calls callbacks beside what it passes on.

    Attributes:
        stopped: whether one of them has returned False.
    """

    def __init__(self, model: "Model", callbacks: Sequence[Callback], reporter: Reporter) -> None:
        self.stopped = False
        self._model, self._callbacks, self._reporter = model, callbacks, reporter
        self._at_steps = [one.step for one in callbacks if one.step is not None]

    def step(self, env_steps: int, updates: int) -> None:
        """One more step was taken."""
        self._reporter.step(env_steps, updates)
        for function in self._at_steps:
            self._call(function)

    def note(self, text: str) -> None:
        """One line worth keeping."""
        self._reporter.note(text)

    def interval(self, row: Row) -> None:
        """A row of metrics was written."""
        self._reporter.interval(row)
        for one in self._callbacks:
            self._call(one.metrics, row)

    def evaluated(self, row: Row) -> None:
        """A row of an evaluation was written."""
        self._reporter.evaluated(row)
        for one in self._callbacks:
            self._call(one.evaluation, row)

    def saved(self, path: Path) -> None:
        """A checkpoint is on disk."""
        self._reporter.saved(path)
        for one in self._callbacks:
            self._call(one.checkpoint, path)

    def _call(self, function: Callable[..., object] | None, *arguments: Any) -> None:
        if function is None:
            return
        try:
            answer = at_once(function, self._model, *arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._reporter.note(f"a callback raised {brief(error)} at step {self._model.num_timesteps:,}")
            raise
        self.stopped = self.stopped or (isinstance(answer, bool | np.bool_) and not answer)
