"""The report's tables: numbers from ``summary`` laid out by ``page``."""

from collections.abc import Sequence

import numpy as np

from fewstep.analysis.numbers import NOTHING, count, number, percent, size
from fewstep.analysis.report import html as page
from fewstep.analysis.report.html import Markup, text
from fewstep.analysis.runs.reading import Run
from fewstep.analysis.runs.summary import (
    LAST,
    Group,
    Result,
    Variant,
    cost,
    differences,
    flat,
    modes,
    results,
)

FILES_SHOWN = 200
PACKAGES = ("fewstep", "python", "jax", "numpy", "mujoco", "gymnasium")


def run_name(variant: Variant, run: Run) -> str:
    """``mfpo, seed 0``: how a run is called in tables."""
    twins = [other for other in variant.runs if other.seed == run.seed]
    return f"{variant.label}, seed {run.seed}" + (f" ({run.path})" if len(twins) > 1 else "")


def returns_table(group: Group) -> str:
    """One row per run and action mode."""
    names, rows = modes(group.runs), []
    for place, variant in enumerate(group.variants):
        for run in variant.runs:
            name = run_name(variant, run)
            found = results(run)
            for result in found:
                colour = names.index(result.actions) if len(group.variants) == 1 else place
                label = Markup(page.swatch(colour).html + text(result.actions))
                rows.append((name, label, *_returns(result), group.mujoco))
            if not found:
                rows.append((name, "no evaluation", *[NOTHING] * 5, group.mujoco))
    head = ("run", "actions", "final", f"last {LAST}", "best", "area", "evaluations", "mujoco")
    return page.table(head, rows, "llnnnnnl", f"Mean return on {group.title}")


def _returns(result: Result) -> tuple[str, ...]:
    figures = (result.final, result.last_ten, result.best, result.area)
    return (*map(number, figures), f"{result.evaluations:,} × {count(result.episodes, 'episode')}")


def seeds_table(group: Group) -> str:
    """Mean over seeds with the lowest and highest seed; empty where no variant has two seeds."""
    rows = []
    for variant in group.variants:
        if len(variant.runs) < 2:
            continue
        for mode in modes(variant.runs):
            found = [r for run in variant.runs for r in results(run) if r.actions == mode]
            columns = ([r.final for r in found], [r.last_ten for r in found], [r.area for r in found])
            rows.append((variant.label, mode, len(found), *map(_spread, columns)))
    if not rows:
        return ""
    head = ("over seeds", "actions", "seeds", "final", f"last {LAST}", "area")
    return page.table(head, rows, "llnnnn", "Mean over seeds [lowest seed, highest seed]")


def _spread(values: Sequence[float]) -> str:
    return f"{number(float(np.mean(values)))} [{number(min(values))}, {number(max(values))}]"


def costs_table(groups: Sequence[Group]) -> str:
    """Steps, updates, time and versions, one row per run."""
    rows = []
    several = len({group.env for group in groups}) > 1
    for group in groups:
        for variant in group.variants:
            for run in variant.runs:
                used = cost(run)
                name = run_name(variant, run) + (f", {run.env}" if several else "")
                numbers = (used.env_steps, used.updates, used.utd, used.minutes, used.steps_per_second)
                numbers += (used.update_ms, used.act_ms)
                versions = [run.version(package) for package in ("mujoco", "gymnasium", "jax")]
                rows.append((name, *map(number, numbers), *versions))
    head = ("run", "env steps", "updates", "UTD", "minutes", "steps / s", "ms / update", "ms / action")
    caption = "What it cost, and under which versions (UTD: updates per environment step; ms: medians)"
    return page.table((*head, "mujoco", "gymnasium", "jax"), rows, "lnnnnnnnlll", caption)


def differences_table(variants: Sequence[Variant]) -> str:
    """Configuration keys that are not the same everywhere, seeds apart; empty where there are none."""
    found = differences([variant.runs[0].config for variant in variants])
    rows = [(key, *map(setting, values)) for key, values in found.items() if key != "seed"]
    return (
        page.table(("setting", *(v.label for v in variants)), rows, "l" * (1 + len(variants))) if rows else ""
    )


def config_table(run: Run) -> str:
    """Every setting of a run but its seed."""
    rows = [(key, setting(value)) for key, value in flat(run.config).items() if key != "seed"]
    return page.table(("setting", "value"), rows, "lw")


def versions_table(named: Sequence[tuple[str, Run]]) -> str:
    """Package versions: one column if all runs agree, one per run otherwise."""
    columns = [[run.version(package) for package in PACKAGES] for _, run in named]
    if all(column == columns[0] for column in columns):
        named, columns = [("all runs" if len(named) > 1 else "version", named[0][1])], columns[:1]
    rows = [(package, *(column[i] for column in columns)) for i, package in enumerate(PACKAGES)]
    return page.table(("package", *(name for name, _ in named)), rows)


def provenance_table(run: Run) -> str:
    """Everything ``provenance.json`` holds but the versions shown elsewhere."""
    shown = {f"versions.{package}" for package in PACKAGES} | set(PACKAGES)
    rows = [(key, setting(value)) for key, value in flat(run.provenance).items() if key not in shown]
    return (
        page.table(("field", "value"), rows, "lw") if rows else page.paragraph("No provenance was recorded.")
    )


def files_table(run: Run) -> str:
    """Files of a run with their sizes; a long list is cut and says so."""
    rows: list[tuple[object, ...]] = [(name, size(count)) for name, count in run.files[:FILES_SHOWN]]
    more = run.files[FILES_SHOWN:]
    if more:
        rows.append((f"and {len(more):,} more", size(sum(count for _, count in more))))
    return page.table(("file", "size"), rows, "wn")


def setting(value: object) -> str:
    """A configuration value as one would type it; a dash where it is absent."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(setting(item) for item in value) + "]"
    return str(value)


def shares(values: Sequence[float]) -> str:
    """``24.1 %, 25.3 %, …``."""
    return ", ".join(percent(float(value)) for value in values)
