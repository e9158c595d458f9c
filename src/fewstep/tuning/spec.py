"""The file of a search: the algorithm and its task as in an experiment, and what is searched."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fewstep.algos import registry
from fewstep.config import RunConfig, TrainingConfig, known_settings, resolve, settings
from fewstep.errors import UsageError, shown
from fewstep.experiments import plan, spec
from fewstep.experiments.spec import Entry, Resources
from fewstep.tuning import space
from fewstep.tuning.space import Domain

TOP = (
    "algo",
    "preset",
    "env",
    "seeds",
    "steps",
    "set",
    "search",
    "trials",
    "batch",
    "rungs",
    "sampler_seed",
    "resources",
)
TASK = ("steps", "max_episode_steps", "action_repeat")
"""Settings of ``training`` that scores do not compare under different values of; so are all ``eval_*``."""


@dataclass(frozen=True)
class Search:
    """A whole search.

    Attributes:
        entry: the runs that all trials have in common: algorithm, preset, environment, seeds, fixed settings.
        base: the configuration without what is searched.
        space: setting -> what it may be.
        trials: how many in all, pruned and failed ones included.
        batch: trials that are suggested together, and run side by side.
        rungs: steps at which the worse trials are pruned, each ``reduction`` times the one before it.
        steps: of a trial that is not pruned, per seed.
        sampler_seed: decides the suggestions, together with the scores.
        resources: as of an experiment.
    """

    entry: Entry
    base: RunConfig
    space: Mapping[str, Domain]
    trials: int
    batch: int
    rungs: tuple[int, ...]
    steps: int
    sampler_seed: int
    resources: Resources

    @property
    def reduction(self) -> int:
        """Of the trials that reach a rung, one in so many goes on."""
        return self.steps // self.rungs[-1]

    @property
    def identity(self) -> dict[str, str]:
        """All that decides the trials, but for how many they are: what a search that goes on must share."""
        return {
            "algo": self.entry.algo,
            "preset": self.entry.preset,
            "env": self.entry.envs[0],
            "seeds": str(list(self.entry.seeds)),
            "steps": str(self.steps),
            "set": str(sorted(self.entry.settings.items())),
            "search": str(sorted((name, str(domain)) for name, domain in self.space.items())),
            "batch": str(self.batch),
            "rungs": str(list(self.rungs)),
            "sampler_seed": str(self.sampler_seed),
        }


def read(path: Path) -> Search:
    """Read the file of a search.

    Raises:
        UsageError: the file cannot be read, or says something that is not known or cannot be; the message
            names the file and the place.
    """
    return parse(spec.tree_of(path), str(path))


def parse(tree: Mapping[str, Any], source: str) -> Search:
    """The search of parsed TOML; ``source`` names it in messages."""
    spec.only(tree, TOP, source)
    if not isinstance(tree.get("env"), str):
        raise UsageError(f"{source}: env must be an environment id, got {shown(tree.get('env'))}")
    run = {key: tree[key] for key in ("algo", "preset", "seeds", "steps", "set") if key in tree}
    entry = spec.entry_of(run | {"envs": [tree["env"]], "label": "trial"}, {}, source)
    algorithm = registry.get(entry.algo).config
    known = known_settings(algorithm)
    ranges = settings.all_ranges(TrainingConfig, "training.") | settings.all_ranges(algorithm)
    found = space.parse(tree.get("search"), known, ranges, f"{source}: search")
    fixed = settings.checked(entry.settings, known, f"{source}: set")
    _refuse_task(found, fixed, source)
    steps = {} if entry.steps is None else {"training.steps": entry.steps}
    base = resolve(
        entry.algo,
        algorithm,
        entry.envs[0],
        preset=entry.preset,
        overrides=fixed | steps,
        origin=f"{source}: set",
    )
    plan.require_env(entry.envs[0], source)
    every = base.training.eval_every
    if not 0 < every <= base.training.steps:
        raise UsageError(
            f"{source}: training.eval_every is {every:,}; a score needs evaluations within the "
            f"{base.training.steps:,} steps"
        )
    numbers = {
        name: spec.number_of(tree[name], int, least, f"{source}: {name}")
        for name, least in (("trials", 1), ("batch", 1), ("sampler_seed", 0))
        if name in tree
    }
    if "trials" not in numbers:
        raise UsageError(f"{source}: no trials; say how many, such as trials = 30")
    return Search(
        replace(entry, settings=fixed),
        base,
        found,
        numbers["trials"],
        numbers.get("batch", 1),
        _rungs(tree.get("rungs", []), base, f"{source}: rungs"),
        base.training.steps,
        numbers.get("sampler_seed", 0),
        spec.resources_of(tree.get("resources", {}), f"{source}: resources"),
    )


def _refuse_task(found: Mapping[str, Domain], fixed: Mapping[str, Any], source: str) -> None:
    for name in found:
        section, _, key = name.partition(".")
        if section == "training" and (key in TASK or key.startswith("eval_")):
            raise UsageError(
                f"{source}: search: {name} cannot be searched: scores under different values do not compare"
            )
        if name in fixed:
            raise UsageError(f"{source}: {name} is both set and searched; leave one of them out")


def _rungs(value: Any, base: RunConfig, source: str) -> tuple[int, ...]:
    """Steps of the rungs: with the steps of a whole trial a geometric series, as of successive halving."""
    if not isinstance(value, list):
        raise UsageError(f"{source} must be a list of steps, such as [2000, 8000], got {shown(value)}")
    rungs = tuple(spec.number_of(each, int, 1, source) for each in value)
    if not rungs:
        return ()
    steps, every = base.training.steps, base.training.eval_every
    all_steps = (*rungs, steps)
    factor = steps // rungs[-1]
    if factor < 2 or any(b != a * factor for a, b in zip(rungs, all_steps[1:], strict=True)):
        raise UsageError(
            f"{source} and steps must grow by one whole factor from 2, such as [2000, 8000] with steps = "
            f"32000; got {list(rungs)} with {steps}"
        )
    if any(each % every for each in rungs):
        raise UsageError(
            f"{source} must be multiples of training.eval_every ({every}), where runs are evaluated; "
            f"got {list(rungs)}"
        )
    return rungs
