"""The report's section on comparisons: words, warnings, tables and figures."""

import math
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from fewstep.analysis.figures import aggregates as comparison_figures
from fewstep.analysis.figures import comparison_curves, style
from fewstep.analysis.numbers import listing, span
from fewstep.analysis.report.html import Panel, Section
from fewstep.analysis.report.sheets import Sheet
from fewstep.analysis.report.tables import over_seeds
from fewstep.analysis.statistics.aggregates import CONFIDENCE, REPLICATIONS
from fewstep.analysis.statistics.comparison import NATIVE, Comparison
from fewstep.envs.registry import packages_of

WIDE, NARROW = 9.6, 4.7
WIDE_COLUMNS, NARROW_COLUMNS = 4, 2
CURVE_COLUMNS = 3
PROFILE = 3.0
"""Height of the profile in inches, its legend apart."""

INTERVAL = (
    f"Intervals of normalised scores and of P(X > Y): {CONFIDENCE:.0%} stratified bootstrap intervals, "
    f"percentile method, {REPLICATIONS:,} replications that resample the seeds within each task. They say "
    "how the numbers would vary over other seeds, not over other tasks, and are too narrow with few seeds: "
    "with normal scores on one task and three seeds they hold the truth in about 76 % of cases, with ten in "
    "94 %."
)


def section(found: Sequence[Comparison]) -> Section:
    """Every comparison, curves first; empty if there is nothing to compare."""
    several = len({comparison.simulator for comparison in found}) > 1
    parts = [
        Section(
            title(comparison),
            figures=[_curves(comparison, f"c{index}c")],
            text=[sentences(comparison)],
            warnings=comparison.warnings,
            sheets=sheets(comparison, stem(comparison, several)),
            more=_panels(comparison, f"c{index}") if comparison.scales else (),
            notes=[*([INTERVAL] if _has_intervals(comparison) else []), *comparison.notes],
        )
        for index, comparison in enumerate(found)
    ]
    return Section("Comparison" if parts else "", parts=parts)


def stem(comparison: Comparison, several: bool) -> str:
    """Beginning of the names of its files; ``several``: there are comparisons under other simulators."""
    return f"comparison-{comparison.mode}" + (f"-{(comparison.simulator or '').lower()}" if several else "")


def _has_intervals(comparison: Comparison) -> bool:
    return any(math.isfinite(estimate.low) for _, _, estimate in comparison.improvements())


def title(comparison: Comparison) -> str:
    """``Native actions, MuJoCo 3.17.0``."""
    mode = "Native actions" if comparison.mode == NATIVE else "Single sample"
    needed = comparison.simulator and any(packages_of(task) != () for task in comparison.tasks)
    return mode + (f", {comparison.simulator}" if needed else "")


def sentences(comparison: Comparison) -> str:
    """Which score of which actions on which tasks."""
    words = [f"The score of a run is the {comparison.score_words}, on {listing(comparison.tasks)}."]
    if comparison.mode == NATIVE:
        actions = [f"{entry.label} {listing(entry.actions)}" for entry in comparison.entries]
        words.append(f"Each algorithm acts as its paper evaluates it: {listing(actions)}.")
    else:
        words.append("Every action is a single sample of the policy.")
    given = [task for task, line in comparison.scales.items() if line.given]
    if given:
        words.append(f"The ends of the scale are the suite's own on {listing(given)}.")
    if len(given) < len(comparison.scales):
        words.append(
            f"Scores are normalised per task: {'elsewhere ' if given else ''}0 is the return of random "
            "actions, 1 the best mean among these variants, so they must not be set beside scores of another "
            "comparison."
        )
    return " ".join(words)


def sheets(comparison: Comparison, name: str) -> list[Sheet]:
    """Returns per task, aggregates, what 0 and 1 are, and probabilities of improvement.

    Args:
        comparison: what they are of.
        name: beginning of the names of their files.
    """
    found = [returns_sheet(comparison, name)]
    if comparison.scales:
        rows = []
        for entry in comparison.entries:
            seeds = span(len(runs) for runs in entry.scores.values())
            aggregates = entry.aggregates()
            rows.append((entry.label, len(entry.scores), seeds, *aggregates.values()))
        head = ("variant", "tasks", "seeds", "IQM", "mean", "median", "optimality gap")
        caption = "Normalised scores over tasks (optimality gap: mean shortfall from 1, lower is better)"
        found.append(Sheet(f"{name}-aggregates", caption, head, rows))
        scales = [(task, line.zero, line.one, line.error) for task, line in comparison.scales.items()]
        found.append(
            Sheet(
                f"{name}-scales",
                "What 0 and 1 mean, as returns: random actions and the best mean, unless the suite of the "
                "task says it (standard error: sample standard deviation over random episodes, divided by "
                "the square root of their number)",
                ("task", "0", "1", "standard error of 0"),
                scales,
            )
        )
    caption = "Probability that a run of X beats a run of Y on the same task, ties half, averaged over tasks"
    found.append(Sheet(f"{name}-improvement", caption, ("X", "Y", "P(X > Y)"), comparison.improvements()))
    return found


def returns_sheet(comparison: Comparison, name: str) -> Sheet:
    """The score of every variant on every task, in the environment's units: mean over its seeds."""
    rows = [
        (
            entry.label,
            listing(entry.actions),
            *(over_seeds(entry.returns[task].tolist()) for task in comparison.tasks),
        )
        for entry in comparison.entries
    ]
    words = comparison.score_words
    caption = f"{words[0].upper()}{words[1:]}: mean over seeds [lowest seed, highest seed]"
    return Sheet(f"{name}-returns", caption, ("variant", "actions", *comparison.tasks), rows)


def scores_sheet(comparison: Comparison, name: str) -> Sheet:
    """Every score that the comparison rests on, one row per run; for files, not for the page."""
    rows = []
    for entry in comparison.entries:
        for task in comparison.tasks:
            scores = entry.scores.get(task)
            for place, value in enumerate(entry.returns[task]):
                score = float(scores[place]) if scores is not None else float("nan")
                rows.append((entry.label, task, listing(entry.actions), float(value), score))
    head = ("variant", "task", "actions", "return", "score")
    return Sheet(f"{name}-scores", f"Return: {comparison.score_words}", head, rows)


def _curves(comparison: Comparison, prefix: str) -> Panel:
    draw = curves_figure(comparison)
    with style.styled():
        wide, narrow = (style.to_svg(draw(w), f"{prefix}{m}") for w, m in ((WIDE, "w"), (NARROW, "n")))
    bands = any(len(runs) > 1 for entry in comparison.entries for runs in entry.curves.values())
    caption = "Mean return of each evaluation" + ("; bands: lowest to highest seed." if bands else ".")
    return Panel(wide, caption, narrow, wide=True)


def _panels(comparison: Comparison, prefix: str) -> list[Panel]:
    def profile(width: float) -> Figure:
        return comparison_figures.profiles(comparison.entries, (width, PROFILE))

    bars = (
        "Lines: estimates; bars: 95 % intervals, missing where a task has a single seed. "
        "Of the optimality gap less is better."
    )
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
