"""Which executors there are: those of entry points, too. No engine is imported before its use."""

import functools
import importlib
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fewstep import foreign
from fewstep.errors import UsageError, unknown

if TYPE_CHECKING:
    from fewstep.experiments.plan import Job
    from fewstep.experiments.schedule import Executor
    from fewstep.experiments.spec import Resources

BUILT_IN = {
    "local": "fewstep.experiments.local:LocalExecutor",
    "ray": "fewstep.experiments.ray:RayExecutor",
    "slurm": "fewstep.experiments.slurm:SlurmExecutor",
}
GROUP = "fewstep.executors"
"""Entry-point group by which other packages add executors: ``name = "module:ATTRIBUTE"``."""


class Engine(Protocol):
    """What is registered: a class of executors. Its own options are ``resources.options[NAME]``."""

    def __call__(self, resources: "Resources", logs: Path, jobs: int = 0) -> "Executor":
        """An executor, connected to whatever it needs.

        Args:
            resources: what the experiment asks for.
            logs: folder for what the runs print.
            jobs: runs side by side in place of the experiment's own number; 0 keeps it.

        Raises:
            UsageError: it asks for what is not there, or the engine cannot be reached.
        """
        ...

    def preview(self, resources: "Resources", logs: Path, jobs: "Sequence[Job]", most: int = 0) -> str:
        """What a dry run prints of ``jobs``, empty if nothing; connects to nothing."""
        ...


@functools.cache
def names() -> dict[str, str]:
    """Every executor, with where it is."""
    return {point.name: point.value for point in entry_points(group=GROUP)} | BUILT_IN


def get(name: str) -> Engine:
    """The executor called ``name``.

    Raises:
        UsageError: there is none, or the package it needs is not installed.
    """
    if name not in names():
        raise unknown("executor", name, names())
    module, _, attribute = names()[name].partition(":")
    if name not in BUILT_IN:
        return getattr(foreign.load(module, f"cannot load executor {name!r}"), attribute)
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise UsageError(f"executor {name!r} needs {error.name}: pip install 'fewstep[{name}]'") from error
