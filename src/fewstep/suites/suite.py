"""What fewstep knows of a suite of environments."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fewstep.errors import UsageError


@dataclass(frozen=True)
class Suite:
    """Environments from one source.

    Attributes:
        name: what it is called in lists, and what its ids begin with where they have a prefix.
        title: what it is called in sentences.
        tasks: id to one line on the task.
        excluded: ids that the source has too, to the reason why they cannot be trained on.
        packages: distributions, beside Gymnasium, whose versions decide what an episode gives.
        modules: what must be importable; empty where fewstep's own installation has it.
        install: the commands that bring it.
        folder: environment variable that may name a folder to import the first of ``modules`` from.
        entry_point: ``module:function`` that builds a task from its name behind the prefix (or a class, but
            no wrapper's: Gymnasium 1.3 refuses it); empty where the ids are registered elsewhere.
        limits: steps per episode of each task with an ``entry_point``, by id.
        peaks: whether the highest reward of a step says how near an episode came to success, where its
            return does not.
        ends: returns that are the score 0 and 1 of every task, where the suite says so. Otherwise 0 is what
            random actions give and 1 the best of a comparison.
    """

    name: str
    title: str
    tasks: Mapping[str, str]
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    install: str = ""
    folder: str = ""
    entry_point: str = ""
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    peaks: bool = False
    ends: tuple[float, float] | None = None

    @property
    def installed(self) -> bool:
        """Whether its packages are there; nothing is imported."""
        self._find()
        return all(importlib.util.find_spec(module) is not None for module in self.modules)

    def require(self, env_id: str) -> None:
        """Raise a UsageError that says why ``env_id`` is not usable, or what to install for it."""
        if reason := self.excluded.get(env_id):
            raise UsageError(f"{env_id} cannot be trained on: {reason}")
        if not self.installed:
            raise UsageError(f"{env_id} belongs to {self.title}, which is not installed: {self.install}")

    def _find(self) -> None:
        """Put the folder that the user names on the path of imports."""
        named = os.environ.get(self.folder) if self.folder else None
        if not named:
            return
        folder = str(Path(named).expanduser().absolute())
        if not (Path(folder) / self.modules[0] / "__init__.py").is_file():
            raise UsageError(f"{self.folder} is {named}, which holds no package {self.modules[0]}")
        if folder not in sys.path:
            sys.path.insert(0, folder)
