"""The two figures of a comparison: aggregates with their intervals, and performance profiles."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fewstep.analysis.figures import style
from fewstep.analysis.statistics.aggregates import STATISTICS, Estimate, performance_profile
from fewstep.analysis.statistics.comparison import Entry

WRAP = 22
"""Letters of a name on one line."""

THRESHOLDS = 201


def aggregates(entries: Sequence[Entry], width: float, columns: int) -> Figure:
    """Point and interval per variant, one panel per statistic; to be called inside ``styled()``."""
    names = ["\n".join(textwrap.wrap(entry.label, WRAP)) for entry in entries]
    found = [entry.aggregates() for entry in entries]
    left = 0.2 + 0.072 * max(len(line) for name in names for line in name.split("\n"))
    top, bottom, gap, row = style.TOP, style.BOTTOM, 0.22, 0.33
    tall, rows = row * len(entries), math.ceil(len(STATISTICS) / columns)
    wide = (width - left - 0.1) / columns - gap
    height = rows * (top + tall + bottom)
    figure = Figure(figsize=(width, height))
    for index, statistic in enumerate(STATISTICS):
        x = left + (index % columns) * (wide + gap)
        y = height - (index // columns) * (top + tall + bottom) - top - tall
        axes = figure.add_axes((x / width, y / height, wide / width, tall / height))
        for place, estimates in enumerate(found):
            colour = style.SERIES[place % len(style.SERIES)]
            at = estimates[statistic]
            if math.isfinite(at.low):
                axes.plot([at.low, at.high], [place, place], color=colour, lw=5, alpha=0.35)
            axes.plot([at.value], [place], "|", color=colour, ms=11, mew=2.2)
        axes.set_title(statistic)
        axes.set_xlabel("normalised score")
        axes.set_ylim(len(entries) - 0.5, -0.5)
        axes.set_yticks(range(len(entries)), names if index % columns == 0 else [""] * len(entries))
        axes.spines["left"].set_visible(False)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.margins(x=0.12)
        if np.ptp(_ends([estimates[statistic] for estimates in found])) < 1e-9:
            centre = found[0][statistic].value
            axes.set_xlim(centre - 0.5, centre + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(3 if wide < 2.2 else 5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(style.Ticks())
    return figure


def profiles(entries: Sequence[Entry], size: tuple[float, float]) -> Figure:
    """Share of runs above every score, with pointwise intervals; to be called inside ``styled()``."""
    legend = 0.19 * len(entries) + 0.1
    figure, axes = style.panel((size[0], size[1] + legend))
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, box.width, box.height - legend / (size[1] + legend)))
    every = np.concatenate([runs for entry in entries for runs in entry.scores.values()])
    taus = np.linspace(min(0.0, every.min()), max(1.0, every.max()) * 1.02, THRESHOLDS)
    for place, entry in enumerate(entries):
        colour = style.SERIES[place % len(style.SERIES)]
        profile = performance_profile(list(entry.scores.values()), taus)
        if np.isfinite(profile.low).all():
            axes.fill_between(taus, profile.low, profile.high, color=colour, alpha=0.15, lw=0)
        axes.plot(taus, profile.above, color=colour, lw=1.8, label=entry.label)
    axes.set_title("Share of runs with a score above τ")
    style.quantity(axes, "share of runs")
    axes.set_xlabel("normalised score τ")
    axes.set_xlim(taus[0], taus[-1])
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(style.Ticks())
    axes.yaxis.set_major_formatter(style.Ticks())
    height = axes.get_position().height * figure.get_figheight()
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1 + 0.3 / height), borderaxespad=0, labelspacing=0.3)
    return figure


def _ends(found: Sequence[Estimate]) -> np.ndarray:
    ends = np.array([[e.value, e.low, e.high] for e in found])
    return ends[np.isfinite(ends)]
