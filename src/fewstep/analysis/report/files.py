"""Tables as CSV and LaTeX, figures as SVG and PDF: what goes from a report into a paper."""

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from fewstep.analysis.figures import aggregates as comparison_figures
from fewstep.analysis.figures import style
from fewstep.analysis.figures.curves import learning_figure
from fewstep.analysis.report import comparison as comparison_section
from fewstep.analysis.report.sheets import Sheet, to_csv, to_latex
from fewstep.analysis.runs.summary import Group, cost, modes, results
from fewstep.analysis.statistics.comparison import Comparison
from fewstep.errors import FewstepError

FIGURES = ("svg", "pdf")
CURVE = (7.2, 3.4)
"""Inches of a learning curve on its own."""

PROFILE = (5.5, 3.2)


def export(groups: Sequence[Group], found: Sequence[Comparison], folder: Path) -> list[Path]:
    """Write every table and figure; files of the same names are replaced, others left alone.

    Raises:
        FewstepError: ``folder`` cannot be written.
    """
    several = len({group.mujoco for group in groups}) > 1
    sheets = [(sheet.name, sheet) for sheet in (runs_sheet(groups), seeds_sheet(groups)) if sheet.rows]
    drawn: list[tuple[str, Figure]] = []
    with style.styled():
        for group in groups:
            if modes(group.runs):
                figure = learning_figure(group, CURVE)
                figure.axes[0].set_title(f"Return per episode, {group.title}")
                version = f"-mujoco-{group.mujoco}" if several else ""
                drawn.append((f"learning-{group.env}{version}", figure))
        for comparison in found:
            stem = f"comparison-{comparison.mode}" + (f"-mujoco-{comparison.mujoco}" if several else "")
            own = [*comparison_section.sheets(comparison), comparison_section.scores_sheet(comparison)]
            sheets += [(f"{stem}-{sheet.name}", sheet) for sheet in own]
            curves = comparison_section.curves_figure(comparison)(comparison_section.WIDE)
            drawn.append((f"{stem}-curves", curves))
            if comparison.scales:
                aggregates = comparison_section.aggregate_figure(comparison)(comparison_section.WIDE)
                drawn.append((f"{stem}-aggregates", aggregates))
                drawn.append((f"{stem}-profiles", comparison_figures.profiles(comparison.entries, PROFILE)))
        files = [(f"{_slug(name)}.csv", to_csv(sheet).encode()) for name, sheet in sheets]
        files += [(f"{_slug(name)}.tex", to_latex(sheet).encode()) for name, sheet in sheets]
        for name, figure in drawn:
            figure.set_facecolor("white")
            files += [(f"{_slug(name)}.{kind}", style.to_file(figure, kind)) for kind in FIGURES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files:
            (folder / name).write_bytes(data)
    except OSError as error:
        raise FewstepError(f"cannot write tables to {folder}: {error.strerror}") from error
    return [folder / name for name, _ in files]


def runs_sheet(groups: Sequence[Group]) -> Sheet:
    """One row per run and action mode: returns and cost."""
    rows = [
        (
            *(group.env, group.mujoco, variant.label, run.seed, result.actions),
            *(result.final, result.last_ten, result.best, result.area, result.evaluations, result.episodes),
            *(used.env_steps, used.updates, used.utd, used.minutes, used.update_ms, used.act_ms),
        )
        for group in groups
        for variant in group.variants
        for run in variant.runs
        for used in [cost(run)]
        for result in results(run)
    ]
    head = ("environment", "mujoco", "variant", "seed", "actions", "final", "last 10", "best", "area")
    more = ("evaluations", "episodes", "env steps", "updates", "UTD", "minutes")
    last = ("ms per update", "ms per action")
    return Sheet("runs", "Mean returns of every run, and what it cost", (*head, *more, *last), rows)


def seeds_sheet(groups: Sequence[Group]) -> Sheet:
    """Mean, lowest and highest seed of the mean over the last ten evaluations, per variant and mode."""
    rows = []
    for group in groups:
        for variant in group.variants:
            for mode in modes(variant.runs):
                tens = [r.last_ten for run in variant.runs for r in results(run) if r.actions == mode]
                spread = (sum(tens) / len(tens), min(tens), max(tens))
                rows.append((group.env, group.mujoco, variant.label, mode, len(tens), *spread))
    head = ("environment", "mujoco", "variant", "actions", "seeds", "mean", "lowest seed", "highest seed")
    return Sheet("seeds", "Mean return over the last ten evaluations, over seeds", head, rows)


def _slug(name: str) -> str:
    """A file name: letters, digits, dots, dashes."""
    return re.sub(r"[^\w.-]+", "-", name)
