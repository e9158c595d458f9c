"""The report's tables: numbers of runs as sheets, which the page shows and ``--tables`` writes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fewstep.analysis.numbers import span
from fewstep.analysis.report.sheets import Sheet, filled
from fewstep.analysis.runs.reading import Run
from fewstep.analysis.runs.summary import (
    Group,
    Result,
    Variant,
    cost,
    differences,
    flat,
    modes,
    results,
)
from fewstep.analysis.statistics.aggregates import Estimate
from fewstep.analysis.statistics.proportion import wilson

FILES_SHOWN = 200
SUCCESS = "success [95 %]"
PEAK = "highest reward of a step"
PACKAGES = ("fewstep", "python", "jax", "numpy", "gymnasium")


def each_run(groups: Sequence[Group]) -> Iterator[tuple[Group, Variant, Run]]:
    """Every run with where it belongs."""
    for group in groups:
        for variant in group.variants:
            for run in variant.runs:
                yield group, variant, run


def run_name(variant: Variant, run: Run) -> str:
    """``mfpo, seed 0``: how a run is called in words."""
    seed = f", seed {run.seed}" if run.seed else ""
    return variant.label + seed + (f" ({run.path})" if _twin(variant, run) else "")


def last_column(found: Sequence[Result]) -> str:
    """``last 10``, or how many evaluations there really are to take the mean of."""
    return f"last {span(result.averaged for result in found)}"


def runs_sheet(groups: Sequence[Group]) -> Sheet:
    """One row per run and action mode, with a dot in the colour of its curve."""
    names = {id(group): modes(group.runs) for group in groups}
    rows, colours, found = [], [], []
    for group, variant, run in each_run(groups):
        for result in results(run):
            found.append(result)
            single = len(group.variants) == 1
            place = names[id(group)].index(result.actions) if single else group.variants.index(variant)
            colours.append(place)
            success = wilson(sum(result.success), len(result.success)) if result.success else None
            told = (*_returns(result), success, result.peak, group.simulator)
            rows.append((*_who(group, variant, run), result.actions, *told))
    head = ("variant", "environment", "seed", "run", "actions", "final", last_column(found), "best", "area")
    more = ("evaluations", "episodes each", SUCCESS, PEAK, "simulator")
    return filled(Sheet("runs", "Mean return per episode, every run", (*head, *more), rows, colours))


def _who(group: Group, variant: Variant, run: Run) -> tuple[str, str, str, str]:
    """What tells a run apart from all others; the path only where nothing else does."""
    return variant.label, group.env, run.seed, str(run.path) if _twin(variant, run) else ""


def _twin(variant: Variant, run: Run) -> bool:
    return sum(other.seed == run.seed for other in variant.runs) > 1


def _returns(result: Result) -> tuple[float, ...]:
    returns = (result.final, result.last, result.best, result.area)
    return (*returns, result.evaluations, result.episodes)


def seeds_sheet(groups: Sequence[Group]) -> Sheet:
    """Mean over seeds with the lowest and the highest seed; no rows where no variant has two seeds."""
    rows, every = [], []
    for group in groups:
        for variant in group.variants:
            for mode in modes(variant.seeds):
                found = [r for run in variant.seeds for r in results(run) if r.actions == mode]
                every += found
                columns = ([r.final for r in found], [r.last for r in found], [r.area for r in found])
                spread = map(over_seeds, columns)
                shares = [float(np.mean(r.success)) for r in found if r.success]
                peaks = [r.peak for r in found if np.isfinite(r.peak)]
                told = (*(over_seeds(each) if each else None for each in (shares, peaks)), group.simulator)
                rows.append((variant.label, group.env, mode, len(found), *spread, *told))
    if not any(row[3] > 1 for row in rows):
        rows = []
    head = (
        "variant",
        "environment",
        "actions",
        "seeds",
        "final",
        last_column(every),
        "area",
        "success",
        PEAK,
        "simulator",
    )
    return filled(Sheet("seeds", "Mean return over seeds [lowest seed, highest seed]", head, rows))


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over seeds; the interval is the range from the lowest to the highest, absent with one seed."""
    ends = (min(values), max(values)) if len(values) > 1 else (np.nan, np.nan)
    return Estimate(float(np.mean(values)), *map(float, ends))


def costs_sheet(groups: Sequence[Group]) -> Sheet:
    """Steps, updates, time, device and versions, one row per run that recorded any of them."""
    rows = []
    for group, variant, run in each_run(groups):
        used = cost(run)
        numbers = (used.env_steps, used.updates, used.utd, used.minutes, used.steps_per_second)
        numbers += (used.update_ms, used.act_ms)
        if np.isfinite(numbers).any():
            device = run.provenance.get("device")
            versions = [run.simulator, run.version("gymnasium"), run.version("jax")]
            where = device if isinstance(device, str) else None
            rows.append((*_who(group, variant, run), *numbers, where, *versions))
    head = ("variant", "environment", "seed", "run", "env steps", "updates", "UTD", "minutes", "steps / s")
    more = ("ms / update", "ms / action", "device", "simulator", "gymnasium", "jax")
    sheet = filled(Sheet("costs", "", (*head, *more), rows))
    known = {"UTD": "UTD: updates per environment step", "ms / update": "ms: medians"}
    explained = "; ".join(words for title, words in known.items() if title in sheet.head)
    versions = {"simulator", "gymnasium", "jax"} & set(sheet.head)
    caption = "What it cost" + (", and under which versions" if versions else "")
    caption += f" ({explained})" if explained else ""
    return Sheet(sheet.name, caption, sheet.head, sheet.rows)


def differences_sheet(groups: Sequence[Group]) -> Sheet:
    """Settings that are not the same everywhere, seeds apart; no rows where there are none."""
    named = _configurations(groups)
    found = differences([config for _, config in named])
    rows = [(key, *map(setting, values)) for key, values in found.items() if key != "seed"]
    head = ("setting", *(name for name, _ in named))
    return Sheet("settings-that-differ", "Settings that differ between these runs", head, rows)


def settings_sheet(groups: Sequence[Group]) -> Sheet:
    """Every setting but the seed, a column per variant."""
    named = [(name, flat(config)) for name, config in _configurations(groups)]
    return _side_by_side("settings", "Every setting but the seed", "setting", named)


def _configurations(groups: Sequence[Group]) -> list[tuple[str, dict[str, Any]]]:
    several = len(groups) > 1
    variants = [(group, variant) for group in groups for variant in group.variants]
    return [
        (variant.label + (f" on {group.title}" if several else ""), variant.runs[0].config)
        for group, variant in variants
        if variant.runs[0].config
    ]


def versions_sheet(groups: Sequence[Group]) -> Sheet:
    """Versions of the packages that the runs depend on."""
    named = [
        (name, {p: run.version(p) for p in (*PACKAGES, *run.packages) if run.version(p)})
        for name, run in _named(groups)
    ]
    return _side_by_side("software", "Versions", "package", named)


def provenance_sheet(groups: Sequence[Group]) -> Sheet:
    """Everything ``provenance.json`` holds but the versions that have their own table or do not matter."""
    packages = {*PACKAGES, *(package for group in groups for run in group.runs for package in run.packages)}
    hidden = {f"versions.{package}" for package in packages} | packages
    named = [
        (name, {key: value for key, value in flat(run.provenance).items() if key not in hidden})
        for name, run in _named(groups)
    ]
    return _side_by_side("provenance", "How the runs were made", "field", named)


def files_sheet(groups: Sequence[Group]) -> Sheet:
    """Files of every run with their sizes; a long list is cut and says so."""
    runs, rows = [run for _, _, run in each_run(groups)], []
    for run in runs:
        path = str(run.path) if len(runs) > 1 else ""
        rows += [(path, name, size) for name, size in run.files[:FILES_SHOWN]]
        more = [size for _, size in run.files[FILES_SHOWN:]]
        rows += [(path, f"and {len(more):,} more", sum(more))] if more else []
    where = "the runs" if len(runs) > 1 else str(runs[0].path)
    return filled(Sheet("files", f"Files of {where}", ("run", "file", "bytes"), rows))


def _named(groups: Sequence[Group]) -> list[tuple[str, Run]]:
    several = len(groups) > 1
    found = each_run(groups)
    return [
        (run_name(variant, run) + (f" on {group.title}" if several else ""), run)
        for group, variant, run in found
    ]


def _side_by_side(name: str, caption: str, first: str, named: Sequence[tuple[str, dict[str, Any]]]) -> Sheet:
    """A row per key, a column per table; one column where all tables are equal. Empty tables are left out."""
    named = [(title, table) for title, table in named if table]
    if len(named) > 1 and all(table == named[0][1] for _, table in named):
        named = [("all", named[0][1])]
    keys = dict.fromkeys(key for _, table in named for key in table)
    rows = [(key, *(setting(table.get(key)) for _, table in named)) for key in keys]
    single = ("value",) if len(named) == 1 else tuple(title for title, _ in named)
    return Sheet(name, caption, (first, *single), rows)


def setting(value: object) -> str | None:
    """A configuration value as one would type it; None where it is absent."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(setting(item) or "none" for item in value) + "]"
    return str(value)
