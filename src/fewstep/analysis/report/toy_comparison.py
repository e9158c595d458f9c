"""Several runs on ``toy/bandit`` side by side: which policies can hold all modes."""

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from markupsafe import Markup

from fewstep.analysis.figures import toys as toy_figures
from fewstep.analysis.numbers import number
from fewstep.analysis.report import toys
from fewstep.analysis.report.html import Panel, Section
from fewstep.analysis.runs.reading import Run, load_array
from fewstep.analysis.runs.summary import Variant
from fewstep.errors import UsageError

COLUMNS, NARROW_COLUMNS = 4, 2


def section(variants: Sequence[Variant], prefix: str) -> Section:
    """The comparison; empty unless two variants have samples and a temperature.

    Policies of one temperature share a target and a picture; the first seed of each variant is shown.
    """
    shown = [(variant.label, variant.runs[0]) for variant in variants if variant.runs[0].env == "toy/bandit"]
    shown = [(name, run) for name, run in shown if run.actions and math.isfinite(toys.final_alpha(run))]
    if len(shown) < 2:
        return Section()
    panels = []
    alphas = sorted({round(toys.final_alpha(run), 6) for _, run in shown})
    for index, alpha in enumerate(alphas):
        here = [(name, run) for name, run in shown if round(toys.final_alpha(run), 6) == alpha]
        rows = densities(here, alpha)
        panels += [_panel(rows, alpha, f"{prefix}{index}")] if rows else []
    return Section("Learned densities beside the true one", figures=panels)


def densities(shown: Sequence[tuple[str, Run]], alpha: float) -> list[toys.Density]:
    """The true density, the best Gaussian, then every run's last samples under its label."""
    found: list[toys.Density] = []
    for name, run in shown:
        with suppress(ValueError, UsageError):  # damaged samples: the run's own section says so
            learned, true, gaussian, _ = toys.compare(load_array(list(run.actions.values())[-1]), alpha)
            found = found or [true, gaussian]
            found.append(toys.Density(name, learned.density, learned.total_variation, learned.shares))
    return found


def picture(rows: Sequence[toys.Density], columns: int, width: float, name: str) -> Markup:
    """All densities on one colour scale, the total variation of each in its title."""
    return toy_figures.densities(titled(rows), columns, width, name, brightest(rows))


def brightest(rows: Sequence[toys.Density]) -> float:
    """End of the colour scale: above the truth's, but a collapsed policy must not dim the rest."""
    return 1.5 * float(rows[0].density.max())


def titled(rows: Sequence[toys.Density]) -> list[tuple[str, np.ndarray, Sequence[float]]]:
    """Title, density and shares of each row, as ``toy_figures.densities`` takes them."""

    def title(row: toys.Density) -> str:
        return row.name if row.name == "true" else f"{row.name} · TV {row.total_variation:.2f}"

    return [(title(row), row.density, row.shares) for row in rows]


def _panel(rows: Sequence[toys.Density], alpha: float, prefix: str) -> Panel:
    caption = (
        f"Target exp(reward / α) / Z at α = {number(alpha)}. Numbers: share of actions nearest to each bump. "
        "TV: total variation to the target, 0 identical and 1 disjoint. Colour: square root of density, cut "
        "at 1.5 times the target's highest."
    )
    wide = picture(rows, min(COLUMNS, len(rows)), toys.WIDE, f"{prefix}w")
    return Panel(wide, caption, picture(rows, NARROW_COLUMNS, toys.NARROW, f"{prefix}n"), wide=True)
