"""Other people's dashboards, filled from a run's JSON lines: during the run, or long after it."""

from collections.abc import Callable
from pathlib import Path

from fewstep import foreign
from fewstep.errors import FewstepError, UsageError, unknown
from fewstep.runs.layout import RunDir
from fewstep.sinks.points import Sink


def _tensorboard(run: RunDir, folder: Path, project: str) -> Sink:
    from fewstep.sinks import tensorboard

    return tensorboard.TensorBoard(run, folder)


def _wandb(run: RunDir, folder: Path, project: str) -> Sink:
    from fewstep.sinks import wandb

    return wandb.WeightsAndBiases(run, folder, project)


def _trackio(run: RunDir, folder: Path, project: str) -> Sink:
    from fewstep.sinks import trackio

    return trackio.Trackio(run, folder, project)


SINKS: dict[str, Callable[[RunDir, Path, str], Sink]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}
"""Name -> maker: ``(run, folder for what is written, project)``. A new sink is a line here."""


def make(name: str, run: RunDir, folder: Path, project: str) -> Sink:
    """Open the sink called ``name`` for one run.

    Raises:
        UsageError: there is none of this name, or the package it needs is not installed.
        FewstepError: the service refuses or cannot be reached, or what it left in ``folder`` is damaged.
    """
    require(name)
    try:
        return SINKS[name](run, folder, project)
    except ImportError as error:
        raise UsageError(f"{name} needs {error.name}: pip install 'fewstep[{name}]'") from error
    except FewstepError:
        raise
    except Exception as error:  # of the service's own classes: nobody is logged in, no network, ...
        raise FewstepError(f"{name} cannot be opened: {foreign.brief(error)}") from error


def require(name: str) -> None:
    """Raise a UsageError if no sink has this name."""
    if name not in SINKS:
        raise unknown("sink", name, SINKS)
