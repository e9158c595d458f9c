"""What fewstep knows of a suite of environments."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field

import gymnasium

from fewstep.errors import UsageError


@dataclass(frozen=True)
class Suite:
    """Environments from one source.

    Attributes:
        name: what it is called in lists, and what its ids begin with where they have a prefix.
        title: what it is called in sentences.
        tasks: id to one line on the task.
        packages: distributions, beside Gymnasium, whose versions decide what an episode gives.
        module: the module that must be importable; empty where fewstep's own installation has it.
        install: the command that brings it.
        entry_point: ``module:function`` that builds a task from its name behind the prefix; empty where the
            ids are registered elsewhere.
        limits: steps per episode of each task with an ``entry_point``, by id.
        ends: returns that are the score 0 and 1 of every task, where the suite says so. Otherwise 0 is what
            random actions give and 1 the best of a comparison.
    """

    name: str
    title: str
    tasks: Mapping[str, str]
    packages: tuple[str, ...] = ()
    module: str = ""
    install: str = ""
    entry_point: str = ""
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    ends: tuple[float, float] | None = None

    @property
    def installed(self) -> bool:
        """Whether its package is there; nothing is imported."""
        return not self.module or importlib.util.find_spec(self.module) is not None

    def require(self, env_id: str) -> None:
        """Raise a UsageError that says what to install if the suite's package is missing."""
        if not self.installed:
            raise UsageError(f"{env_id} belongs to {self.title}, which is not installed: {self.install}")

    def register(self) -> None:
        """Make its tasks known to Gymnasium."""
        for env_id in self.tasks if self.entry_point else ():
            name = env_id.removeprefix(f"{self.name}/")
            gymnasium.register(
                env_id,
                entry_point=self.entry_point,
                max_episode_steps=self.limits[env_id],
                kwargs={"name": name},
            )
