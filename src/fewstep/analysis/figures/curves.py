"""Figures of training: one function per figure, each returning an ``<svg>`` element."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fewstep.analysis.figures import style
from fewstep.analysis.runs.reading import Run
from fewstep.analysis.runs.summary import Curve, Group, Variant, binned, common_mean, mode_curve, modes

BINS = 300
"""Points a line keeps: more rows than this are averaged in bins, with a band from lowest to highest."""

WIDE, NARROW = (9.6, 3.7), (4.7, 3.3)
DASHES = ("solid", (0, (4, 2)), (0, (1, 1.5)))


@dataclass(frozen=True)
class Line:
    """One quantity of one variant: a curve per seed, over steps of ``unit``."""

    label: str
    curves: Sequence[Curve]
    unit: str = "environment steps"


RETURN = "return per episode"
"""In the environment's units of reward, undiscounted."""


def learning_curve(group: Group, name: str, size: tuple[float, float] = WIDE) -> Markup:
    """Every evaluation of every run of a group: a dot per episode, a line through the means."""
    with style.styled():
        return style.to_svg(learning_figure(group, size), name)


def learning_figure(group: Group, size: tuple[float, float]) -> Figure:
    """The learning curve as a matplotlib figure, to be called inside ``styled()``.

    One variant: a colour per action mode. Several: a colour per variant, a dash pattern per mode.
    """
    names = modes(group.runs)
    single = len(group.variants) == 1
    drawn = [(variant, mode) for variant in group.variants for mode in names if mode in modes(variant.runs)]
    labels = [mode if single else f"{variant.label}, {mode}" for variant, mode in drawn]
    beside = len(labels) <= 6 and max(map(len, labels), default=0) <= 22
    width, height = size
    right = 0.25 + 0.078 * max(map(len, labels), default=0) if beside else 0.2
    figure, axes = style.panel((width, height if beside else height + 0.19 * len(labels)), right)
    ends = []
    for index, (variant, mode) in enumerate(drawn):
        place = index if single else group.variants.index(variant)
        colour = style.SERIES[place % len(style.SERIES)]
        dash = DASHES[0 if single else names.index(mode) % len(DASHES)]
        _mode_lines(axes, variant, mode, colour, dash, labels[index])
        shared = common_mean([mode_curve(run, mode) for run in variant.seeds])[1]
        if len(shared):
            ends.append((labels[index], float(shared[-1]), colour))
    axes.set_title(group.title)
    style.quantity(axes, RETURN)
    end = max((e.env_steps for run in group.runs for e in run.evaluations), default=0)
    style.step_axis(axes, end, group.runs[0].step_unit)
    if beside:
        style.end_labels(axes, ends)
    else:
        share = 1 - 0.19 * len(labels) / figure.get_figheight()
        box = axes.get_position()
        axes.set_position((box.x0, box.y0, box.width, box.height * share))
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.1), borderaxespad=0, labelspacing=0.3)
    return figure


def _mode_lines(axes: Axes, variant: Variant, mode: str, colour: str, dash: object, label: str) -> None:
    curves = [mode_curve(run, mode) for run in variant.seeds]
    found = [e for run in variant.runs for e in run.evaluations if e.actions == mode]
    steps = np.array([e.env_steps for e in found for _ in e.returns], float)
    returns = np.array([value for e in found for value in e.returns], float)
    style.dots(axes, steps, returns, colour, 2.4, 0.3)
    if len(curves) > 1:
        for curve in curves:
            axes.plot(*curve, color=colour, lw=0.7, alpha=0.55)
    mean = common_mean(curves)
    axes.plot(*mean, color=colour, lw=2, ls=dash, label=label)
    if len(mean[0]) == 1:
        style.dots(axes, *mean, colour, 6, 1)


def lines(
    title: str,
    series: Sequence[Line],
    name: str,
    axis: str,
    log: bool = False,
    reference: tuple[str, float] | None = None,
    floor: float | None = None,
    ceiling: float | None = None,
) -> Markup:
    """Metrics against steps: seeds thin, their mean thick.

    Args:
        title: the quantity, above the axes.
        series: the lines; several are labelled at their right end.
        name: prefix of the figure's ids.
        axis: what the heights are, in a word or two with the unit.
        log: logarithmic values.
        reference: label and height of a dashed line.
        floor, ceiling: fixed ends of the axis; None leaves them to the data.
    """
    with style.styled():
        labelled = [line.label for line in series if len(series) > 1] + ([reference[0]] if reference else [])
        right = 0.2 + 0.08 * max(map(len, labelled), default=0)
        figure, axes = style.panel(right=right)
        if log:
            axes.set_yscale("log")
        ends = []
        for index, line in enumerate(series):
            colour = style.SERIES[index % len(style.SERIES)]
            end = _metric_lines(axes, line, colour)
            if len(series) > 1 and end is not None:
                ends.append((line.label, end, colour))
        if reference:
            axes.axhline(reference[1], color=style.MUTED, lw=1, ls=(0, (4, 2)))
            ends.append((*reference, style.MUTED))
        axes.set_title(title)
        style.quantity(axes, axis)
        axes.set_ylim(floor, ceiling)
        end = max((float(steps[-1]) for line in series for steps, _ in line.curves), default=0)
        style.step_axis(axes, end, series[0].unit)
        style.end_labels(axes, ends)
        return style.to_svg(figure, name)


def _metric_lines(axes: Axes, line: Line, colour: str) -> float | None:
    """Draw one quantity; its value at the right end, None if there is nothing to draw."""
    curves = [curve for curve in line.curves if len(curve[0])]
    if not curves:
        return None
    if len(curves) > 1:
        for curve in curves:
            steps, mean, *_ = binned(*curve, bins=BINS)
            axes.plot(steps, mean, color=colour, lw=0.6, alpha=0.5)
    steps, mean, low, high = binned(*common_mean(curves), bins=BINS)
    if len(curves) == 1 and low is not mean:
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
    axes.plot(steps, mean, color=colour, lw=1.6)
    if len(steps) == 1:
        style.dots(axes, steps, mean, colour, 4, 1)
    return float(mean[-1]) if len(mean) else None


def metric(runs: Sequence[Run], name: str, label: str = "", scale: float = 1.0) -> Line:
    """The curves of one metric over the runs of a variant, times ``scale``."""
    curves = [run.series(name) for run in runs]
    shown = [(steps, scale * values) for steps, values in curves if len(steps)]
    return Line(label, shown, runs[0].step_unit if runs else "environment steps")
