"""The report's section on curves that others have released."""

from collections.abc import Sequence

import numpy as np

from fewstep.analysis.figures import comparison_curves, style
from fewstep.analysis.numbers import listing
from fewstep.analysis.report.html import Panel, Section
from fewstep.analysis.report.sheets import Cell, Sheet
from fewstep.analysis.report.tables import over_seeds
from fewstep.analysis.runs.released import Released
from fewstep.analysis.runs.summary import Curve, Group, mode_curve
from fewstep.analysis.statistics.comparison import Entry, native_mode

WARNING = (
    "Others' curves are as they were released. Machines, versions of the simulator, evaluation and what "
    "counts as a step may differ from ours, so a difference need not be the algorithm's."
)
NAME = "released"
SHARES = (0.25, 0.5, 1.0)
"""Of our steps, where returns are set side by side."""


def section(groups: Sequence[Group], files: Sequence[Released]) -> Section:
    """Ours beside theirs on every task that both have; a line for a file that has nothing to show."""
    parts = [part for index, group in enumerate(groups) if (part := _part(group, files, index))]
    unfit = [
        f"{file.source} has no curve of two evaluations or more on {listing(g.env for g in groups)} within "
        "the steps of these runs."
        for file in files
        if not any(_theirs(group, [file]) for group in groups)
    ]
    if not parts and not unfit:
        return Section()
    return Section("Beside released curves", warnings=[WARNING] * bool(parts) + unfit, parts=parts)


def _ours(group: Group) -> dict[str, tuple[Curve, ...]]:
    return {
        variant.label: tuple(mode_curve(run, native_mode(run)) for run in variant.seeds if run.evaluations)
        for variant in group.variants
        if any(run.evaluations for run in variant.seeds)
    }


def _end(ours: dict[str, tuple[Curve, ...]]) -> float:
    return max((curve[0][-1] for curves in ours.values() for curve in curves), default=-np.inf)


def _theirs(group: Group, files: Sequence[Released]) -> dict[str, Sequence[Curve]]:
    """Those of two evaluations or more as far as ours go: others have no curve to show."""
    end = _end(_ours(group))
    found = {f"{exp} ({file.source})": each for file in files for exp, each in file.of(group.env).items()}
    return {label: each for label, each in found.items() if max(len(_until(c, end)[0]) for c in each) > 1}


def _part(group: Group, files: Sequence[Released], index: int) -> Section:
    ours, theirs = _ours(group), _theirs(group, files)
    if not theirs:
        return Section()
    end = _end(ours)
    unit = group.runs[0].step_unit
    entries = [
        Entry(label, (), {}, {}, {group.env: tuple(_until(curve, end) for curve in curves)}, unit)
        for label, curves in {**ours, **theirs}.items()
    ]
    with style.styled():
        wide, narrow = (
            style.to_svg(comparison_curves.curves(entries, [group.env], width, 1), f"p{index}{mark}")
            for mark, width in (("w", 9.6), ("n", 4.7))
        )
    caption = "Mean over seeds, bands from the lowest to the highest; theirs up to where ours end."
    sheet = Sheet(
        f"{NAME}-{group.env}",
        "The last evaluation at or before a quarter, a half and all of our steps: mean over seeds [lowest, "
        "highest]",
        ("variant", "seeds", *(f"{share * end:,.0f} steps" for share in SHARES)),
        [_row(label, curves, end) for label, curves in {**ours, **theirs}.items()],
    )
    return Section(group.title, figures=[Panel(wide, caption, narrow, wide=True)], sheets=[sheet])


def _row(label: str, curves: Sequence[Curve], end: float) -> tuple[Cell, ...]:
    """A cell is absent where the last evaluation lies less than half as far as is asked for."""
    cells: list[Cell] = [label, len(curves)]
    for share in SHARES:
        reached = [_until(curve, share * end) for curve in curves]
        values = [float(each[-1]) for steps, each in reached if len(steps) and steps[-1] >= 0.5 * share * end]
        cells.append(over_seeds(values) if values else None)
    return tuple(cells)


def _until(curve: Curve, end: float) -> Curve:
    steps, values = curve
    kept = np.asarray(steps) <= end
    return steps[kept], values[kept]
