"""Tables as CSV and LaTeX, figures as SVG and PDF: what goes from a report into a paper."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib.figure import Figure

from fewstep.analysis.figures import aggregates as comparison_figures
from fewstep.analysis.figures import style
from fewstep.analysis.figures.curves import learning_figure
from fewstep.analysis.report import comparison as comparison_section
from fewstep.analysis.report.html import Page
from fewstep.analysis.report.sheets import to_csv, to_latex
from fewstep.analysis.runs.summary import Group, modes
from fewstep.analysis.statistics.comparison import Comparison
from fewstep.errors import FewstepError

FIGURES = ("svg", "pdf")
CURVE = (7.2, 3.4)
"""Inches of a learning curve on its own."""

PROFILE = (5.5, 3.2)


def export(page: Page, groups: Sequence[Group], found: Sequence[Comparison], folder: Path) -> list[Path]:
    """Write every table of the page, the scores behind comparisons, and the figures of returns.

    Files of the same names are replaced, others left alone.

    Raises:
        FewstepError: ``folder`` cannot be written.
    """
    several = len({comparison.simulator for comparison in found}) > 1
    stems = [(comparison, comparison_section.stem(comparison, several)) for comparison in found]
    sheets = [
        *page.sheets(),
        *(comparison_section.scores_sheet(comparison, stem) for comparison, stem in stems),
    ]
    drawn: list[tuple[str, Figure]] = []
    with style.styled():
        for group in groups:
            if modes(group.runs):
                versions = {other.simulator for other in groups if other.env == group.env}
                version = f"-{(group.simulator or '').lower()}" if len(versions) > 1 else ""
                drawn.append((f"learning-{group.env}{version}", learning_figure(group, CURVE)))
        for comparison, stem in stems:
            curves = comparison_section.curves_figure(comparison)(comparison_section.WIDE)
            drawn.append((f"{stem}-curves", curves))
            if comparison.scales:
                aggregates = comparison_section.aggregate_figure(comparison)(comparison_section.WIDE)
                drawn.append((f"{stem}-aggregates", aggregates))
                drawn.append((f"{stem}-profiles", comparison_figures.profiles(comparison.entries, PROFILE)))
        files = []
        for name, sheet in _named((sheet.name, sheet) for sheet in sheets):
            files += [(f"{name}.csv", to_csv(sheet).encode()), (f"{name}.tex", to_latex(sheet).encode())]
        for name, figure in _named(drawn):
            files += [(f"{name}.{kind}", style.to_file(figure, kind)) for kind in FIGURES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files:
            (folder / name).write_bytes(data)
    except OSError as error:
        raise FewstepError(f"cannot write tables to {folder}: {error.strerror}") from error
    return [folder / name for name, _ in files]


Item = TypeVar("Item")


def _named(items: Iterable[tuple[str, Item]]) -> list[tuple[str, Item]]:
    """File names of letters, digits, dots and dashes; where two would be equal, a number sets them apart."""
    taken: dict[str, Item] = {}
    for title, item in items:
        name = stem = re.sub(r"[^\w.-]+", "-", title)
        while name in taken:
            name = f"{stem}-{len(taken)}"
        taken[name] = item
    return list(taken.items())
