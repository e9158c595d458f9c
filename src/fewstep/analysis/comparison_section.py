"""The report's section on comparisons: words, warnings, tables and figures."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from fewstep.analysis import comparison_curves, comparison_figures, page, style
from fewstep.analysis.comparison import NATIVE, SCORES, Comparison
from fewstep.analysis.panels import Panel
from fewstep.analysis.sheets import Sheet, to_html
from fewstep.analysis.statistics import CONFIDENCE, REPLICATIONS, Estimate
from fewstep.analysis.words import listing

WIDE, NARROW = 9.6, 4.7
WIDE_COLUMNS, NARROW_COLUMNS = 4, 2
CURVE_COLUMNS = 3
PROFILE = 3.0
"""Height of the profile in inches, its legend apart."""

INTERVAL = (
    f"Brackets: {CONFIDENCE:.0%} stratified bootstrap intervals, percentile method, {REPLICATIONS:,} "
    "replications that resample the seeds within each task. They say how the numbers would vary over other "
    "seeds, not over other tasks, and are too narrow with few seeds: with normal scores on one task and "
    "three seeds they hold the truth in about 76 % of cases, with ten in 94 %."
)


def section(found: Sequence[Comparison]) -> str:
    """The HTML; empty if there is nothing to compare."""
    if not found:
        return ""
    parts = [page.heading(2, "Comparison")]
    for index, comparison in enumerate(found):
        parts.append(page.heading(3, title(comparison)) + page.paragraph(sentences(comparison)))
        parts += [page.paragraph(warning, "warn") for warning in comparison.warnings]
        parts += [page.bullets(comparison.notes, "note")] if comparison.notes else []
        first, *others = [to_html(sheet) for sheet in sheets(comparison)]
        parts += [first, page.figures([_curves(comparison, f"c{index}c")]), *others]
        parts.append(page.paragraph(INTERVAL, "note"))
        if comparison.scales:
            parts.append(page.figures(_panels(comparison, f"c{index}")))
    return "".join(parts)


def title(comparison: Comparison) -> str:
    """``Native actions, MuJoCo 3.17.0``."""
    mode = "Native actions" if comparison.mode == NATIVE else "Single sample"
    toys = all(task.startswith("toy/") for task in comparison.tasks)
    return mode + ("" if toys else f", MuJoCo {comparison.mujoco}")


def sentences(comparison: Comparison) -> str:
    """Which score of which actions on which tasks."""
    words = [f"The score of a run is the {SCORES[comparison.score][1]}, on {listing(comparison.tasks)}."]
    if comparison.mode == NATIVE:
        actions = [f"{entry.label} {listing(entry.actions)}" for entry in comparison.entries]
        words.append(f"Each algorithm acts as its paper evaluates it: {listing(actions)}.")
    else:
        words.append("Every action is a single sample of the policy.")
    if comparison.scales:
        words.append(
            "Scores are normalised per task: 0 is the return of random actions, 1 the best mean among these "
            "variants, so they must not be set beside scores of another comparison."
        )
    return " ".join(words)


def sheets(comparison: Comparison) -> list[Sheet]:
    """Returns per task, aggregates, what 0 and 1 are, and probabilities of improvement."""
    found = [returns_sheet(comparison)]
    if comparison.scales:
        rows = []
        for entry in comparison.entries:
            seeds = sorted({len(runs) for runs in entry.scores.values()})
            span = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
            aggregates = entry.aggregates()
            rows.append((entry.label, len(entry.scores), span, *aggregates.values()))
        head = ("variant", "tasks", "seeds", "IQM", "mean", "median", "optimality gap")
        caption = "Normalised scores over tasks (optimality gap: mean shortfall from 1, lower is better)"
        found.append(Sheet("aggregates", caption, head, rows))
        scales = [(task, line.zero, line.one, line.error) for task, line in comparison.scales.items()]
        found.append(
            Sheet(
                "scales",
                "What 0 and 1 mean: returns",
                ("task", "0: random actions", "1: best mean", "standard error of 0"),
                scales,
            )
        )
    caption = "Probability that a run of X beats a run of Y on the same task, ties half, averaged over tasks"
    found.append(Sheet("improvement", caption, ("X", "Y", "P(X > Y)"), comparison.improvements()))
    return found


def returns_sheet(comparison: Comparison) -> Sheet:
    """The score of every variant on every task, in the environment's units: mean over its seeds."""
    rows = [
        (
            entry.label,
            listing(entry.actions),
            *(_over_seeds(entry.returns[task]) for task in comparison.tasks),
        )
        for entry in comparison.entries
    ]
    caption = f"{SCORES[comparison.score][1].capitalize()}: mean over seeds [lowest seed, highest seed]"
    return Sheet("returns", caption, ("variant", "actions", *comparison.tasks), rows)


def _over_seeds(values: np.ndarray) -> Estimate:
    single = len(values) == 1
    ends = (float("nan"),) * 2 if single else (float(values.min()), float(values.max()))
    return Estimate(float(values.mean()), *ends)


def scores_sheet(comparison: Comparison) -> Sheet:
    """Every score that the comparison rests on, one row per run; for files, not for the page."""
    rows = []
    for entry in comparison.entries:
        for task in comparison.tasks:
            scores = entry.scores.get(task)
            for place, value in enumerate(entry.returns[task]):
                score = float(scores[place]) if scores is not None else float("nan")
                rows.append((entry.label, task, listing(entry.actions), float(value), score))
    head = ("variant", "task", "actions", "return", "score")
    return Sheet("scores", f"Return: {SCORES[comparison.score][1]}", head, rows)


def _curves(comparison: Comparison, prefix: str) -> Panel:
    draw = curves_figure(comparison)
    with style.styled():
        wide, narrow = (style.to_svg(draw(w), f"{prefix}{m}") for w, m in ((WIDE, "w"), (NARROW, "n")))
    return Panel(wide, "Mean return of each evaluation; bands: lowest to highest seed.", narrow, wide=True)


def _panels(comparison: Comparison, prefix: str) -> list[Panel]:
    def profile(width: float) -> Figure:
        return comparison_figures.profiles(comparison.entries, (width, PROFILE))

    bars = "Lines: estimates; bars: 95 % intervals, missing where a task has a single seed. "
    "Of the optimality gap less is better."
    curves = (
        "Performance profiles, averaged over tasks: a curve above another everywhere belongs to the better "
        "variant. Bands: pointwise 95 % intervals."
    )
    found = []
    for mark, draw, caption in (("a", aggregate_figure(comparison), bars), ("p", profile, curves)):
        with style.styled():
            wide = style.to_svg(draw(WIDE), f"{prefix}{mark}w")
            narrow = style.to_svg(draw(NARROW), f"{prefix}{mark}n")
        found.append(Panel(wide, caption, narrow, wide=True))
    return found


def curves_figure(comparison: Comparison) -> Callable[[float], Figure]:
    """Width in inches to the learning curves, one panel below the other where it is narrow."""
    return lambda width: comparison_curves.curves(
        comparison.entries, comparison.tasks, width, CURVE_COLUMNS if width > NARROW else 1
    )


def aggregate_figure(comparison: Comparison) -> Callable[[float], Figure]:
    """Width in inches to the figure of the aggregates, in two columns where it is narrow."""

    def draw(width: float) -> Figure:
        columns = WIDE_COLUMNS if width > NARROW else NARROW_COLUMNS
        return comparison_figures.aggregates(comparison.entries, width, columns)

    return draw
