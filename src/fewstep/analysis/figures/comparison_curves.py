"""The learning curves of a comparison: a panel per task, a colour per variant."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fewstep.analysis.figures import style
from fewstep.analysis.figures.curves import RETURN
from fewstep.analysis.runs.summary import Curve, common_mean
from fewstep.analysis.statistics.comparison import Entry

HEIGHT = 2.3
"""Of a panel, in inches, title and axis included."""
ROW = 0.2
"""Of a row of the legend."""
DASHES = ("solid", (0, (4, 2)), (0, (1, 1.5)))
"""Of the first six variants, the next six, and the rest: there are six colours."""


def curves(entries: Sequence[Entry], tasks: Sequence[str], width: float, columns: int) -> Figure:
    """Mean over seeds with a band from the lowest seed to the highest; to be called inside ``styled()``."""
    rows = math.ceil(len(tasks) / columns)
    columns = math.ceil(len(tasks) / rows)  # no row much shorter than the others
    left, right, top, bottom = style.LEFT, 0.12, style.TOP, style.BOTTOM
    each = width / columns
    across = max(1, int(width / (0.5 + 0.085 * max(len(entry.label) for entry in entries))))
    legend = ROW * math.ceil(len(entries) / across) + 0.1
    height = rows * HEIGHT + legend
    figure = Figure(figsize=(width, height))
    for index, task in enumerate(tasks):
        x = (index % columns) * each + left
        y = height - legend - (index // columns + 1) * HEIGHT + bottom
        axes = figure.add_axes(
            (x / width, y / height, (each - left - right) / width, (HEIGHT - top - bottom) / height)
        )
        for place, entry in enumerate(entries):
            colour = style.SERIES[place % len(style.SERIES)]
            steps, low, mean, high = spread(entry.curves[task])
            axes.fill_between(steps, low, high, color=colour, alpha=0.16, lw=0)
            axes.plot(steps, mean, color=colour, lw=1.8, ls=dash(place))
            if len(steps) == 1:
                style.dots(axes, steps, mean, colour, 5, 1)
        axes.set_title(task)
        if index % columns == 0:
            style.quantity(axes, RETURN)
        ends = [curve[0][-1] for entry in entries for curve in entry.curves[task] if len(curve[0])]
        style.step_axis(axes, max(ends, default=0), entries[0].step_unit)
    handles = [
        Line2D([], [], color=style.SERIES[place % len(style.SERIES)], lw=2, ls=dash(place), label=entry.label)
        for place, entry in enumerate(entries)
    ]
    figure.legend(
        handles=handles, loc="upper left", ncols=across, bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1
    )
    return figure


def dash(place: int) -> object:
    """The line of the variant at ``place``."""
    return DASHES[place // len(style.SERIES) % len(DASHES)]


def spread(found: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``(steps, lowest, mean, highest)`` over curves at the steps that all of them have."""
    filled = [curve for curve in found if len(curve[0])]
    steps, mean = common_mean(filled)
    rows = np.array([values[np.isin(at, steps)] for at, values in filled] or [mean])
    return steps, rows.min(axis=0), mean, rows.max(axis=0)
