"""The experiment file: algorithms x environments x seeds, as TOML."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewstep.config import parse_toml, seed_of, settings
from fewstep.errors import UsageError, shown, unknown
from fewstep.experiments import executors

TOP = ("envs", "seeds", "steps", "set", "resources", "run")
RUN = ("algo", "preset", "label", "envs", "seeds", "steps", "set")
RESOURCES = ("jobs", "cores_per_job", "memory_gb_per_job", "gpus_per_job")
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Resources:
    """What the runs may use.

    Attributes:
        jobs: runs side by side; 0 means as many as there is room for.
        cores_per_job: cores a run is pinned to.
        memory_gb_per_job: memory a run needs; None: the executor's own default.
        gpus_per_job: GPUs of a run; a fraction is a share of one, 0 leaves GPUs as they are.
        executor: name of who runs them.
        options: the tables of executors, by their names.
    """

    jobs: int = 0
    cores_per_job: int = 1
    memory_gb_per_job: float | None = None
    gpus_per_job: float = 0.0
    executor: str = "local"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: an algorithm with a preset and settings, on environments, with seeds.

    ``config.settings`` are by dotted name; ``source`` names file and entry in messages.
    """

    source: str
    algo: str
    preset: str
    label: str
    envs: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Spec:
    """A whole experiment."""

    entries: tuple[Entry, ...]
    resources: Resources


def read(path: Path) -> Spec:
    """Read an experiment file.

    Raises:
        UsageError: the file cannot be read, or says something that is not known or cannot be; the message
            names the file and the place.
    """
    return parse(tree_of(path), str(path))


def tree_of(path: Path) -> dict[str, Any]:
    """A TOML file, parsed. Raises UsageError if it cannot be read or is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return parse_toml(text, str(path))


def parse(tree: Mapping[str, Any], source: str) -> Spec:
    """The spec of parsed TOML; ``source`` names it in messages."""
    only(tree, TOP, source)
    runs = tree.get("run")
    if not isinstance(runs, list) or not runs:
        raise UsageError(f'{source}: no [[run]]; each says which algo to run, such as algo = "smfp"')
    entries = tuple(entry_of(run, tree, f"{source}: run {index}") for index, run in enumerate(runs, start=1))
    labels = [entry.label for entry in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"{source}: {labels.count(label)} runs are called {label!r}; give each a label")
    return Spec(entries, resources_of(tree.get("resources", {}), f"{source}: resources"))


def only(table: Any, known: tuple[str, ...], source: str) -> None:
    """Raise a UsageError if ``table`` is none, or has a key that is not among ``known``."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{source} must be a table")
    for name in table:
        if name not in known:
            raise UsageError(f"{source}: {unknown('key', name, known)}")


def number_of(value: Any, kind: type, least: int, source: str) -> Any:
    """A number of the file, with TOML's ways of writing it (``100_000``, ``1e5``)."""
    number = settings.convert(value, kind, source)
    if not number >= least:
        raise UsageError(f"{source} must be at least {least}, got {shown(value)}")
    return number


def entry_of(run: Any, tree: Mapping[str, Any], source: str) -> Entry:
    """The entry of one table; what it leaves out comes from ``tree``."""
    only(run, RUN, source)
    algo, preset = run.get("algo"), run.get("preset", "default")
    if not isinstance(algo, str):
        raise UsageError(f"{source}: algo must be the name of an algorithm, got {algo!r}")
    if not isinstance(preset, str):
        raise UsageError(f"{source}: preset must be a name, got {preset!r}")
    chosen = _set(tree, source) | _set(run, source)
    if "training.steps" in chosen:
        raise UsageError(
            f"{source}: set: training.steps is not set here; write steps at the top of the file or in the run"
        )
    label = run.get("label", algo if preset == "default" else f"{algo}-{preset}")
    if not isinstance(label, str) or not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", label):
        raise UsageError(f"{source}: label must be letters, digits and . _ + -, got {label!r}")
    envs = run.get("envs", tree.get("envs"))
    if not isinstance(envs, list) or not envs or not all(isinstance(env, str) for env in envs):
        raise UsageError(f"{source}: envs must be a list of environment ids, got {envs!r}")
    steps = run.get("steps", tree.get("steps"))
    if steps is not None:
        steps = number_of(steps, int, 1, f"{source}: steps")
    seeds = _seeds(run.get("seeds", tree.get("seeds", [0])), source)
    for name, values in (("envs", envs), ("seeds", seeds)):
        if len(set(values)) < len(values):
            raise UsageError(f"{source}: {name} names the same twice: {list(values)}")
    return Entry(f"{source} ({label})", algo, preset, label, tuple(envs), seeds, steps, chosen)


def _set(table: Mapping[str, Any], source: str) -> settings.Flat:
    """The settings of a ``set``, dotted or nested, under their dotted names."""
    value = table.get("set", {})
    if not isinstance(value, Mapping):
        raise UsageError(f'{source}: set must be a table such as {{"critic.tau" = 0.01}}, got {shown(value)}')
    return settings.dotted(value, f"{source}: set")


def seed_range(text: str) -> tuple[int, ...]:
    """The seeds of ``"0..2"``, both ends included; none if it is no range.

    Raises:
        UsageError: they are too many for anything.
    """
    ends = text.split("..")
    try:
        first, last = (seed_of(settings.whole(end, "seed")) for end in ends)
    except (UsageError, ValueError):  # also more or fewer than two ends
        return ()
    if last - first >= MOST_SEEDS:
        raise UsageError(f"{text} names {last - first + 1:,} seeds, at most {MOST_SEEDS:,} are possible")
    return tuple(range(first, last + 1))


def _seeds(value: Any, source: str) -> tuple[int, ...]:
    """``[0, 1, 2]``, or ``"0..2"`` with both ends included."""
    seeds: tuple[int, ...] = ()
    if isinstance(value, str):
        try:
            seeds = seed_range(value)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from error
    elif isinstance(value, list):
        with suppress(UsageError):
            seeds = tuple(seed_of(settings.convert(seed, int, "seed")) for seed in value)
    if not seeds:
        raise UsageError(f'{source}: seeds must be a list of whole numbers or "0..4", got {shown(value)}')
    return seeds


def resources_of(table: Any, source: str) -> Resources:
    """What a table ``[resources]`` says."""
    only(table, (*RESOURCES, "executor", *executors.names()), source)
    kinds = (int, int, float, float)
    given = {
        name: number_of(table[name], kind, 0 if kind is float else 1, f"{source}: {name}")
        for name, kind in zip(RESOURCES, kinds, strict=True)
        if name in table
    }
    gpus = given.get("gpus_per_job", 0.0)
    if not (gpus in range(10_000) or 1e-3 <= gpus <= 1):
        raise UsageError(
            f"{source}: gpus_per_job must be a whole number or a share of one GPU, from 0.001, got {gpus}"
        )
    executor = table.get("executor", "local")
    if not isinstance(executor, str) or executor not in executors.names():
        raise UsageError(f"{source}: {unknown('executor', str(executor), executors.names())}")
    options = {name: table[name] for name in executors.names() if name in table}
    for name, value in options.items():
        if not isinstance(value, Mapping):
            raise UsageError(f"{source}: {name} must be a table of what this executor is told")
    return Resources(**given, executor=executor, options=options)
