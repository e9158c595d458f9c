"""A paper's figure from our own runs, or computed: the drawing, the table behind it, and what must be said
with them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fewstep.analysis.figures import comparison_curves, style
from fewstep.analysis.figures import toys as toy_figures
from fewstep.analysis.numbers import count, listing, short
from fewstep.analysis.report import toy_comparison
from fewstep.analysis.report.sheets import Cell, Sheet, filled, shown, to_csv
from fewstep.analysis.report.tables import over_seeds
from fewstep.analysis.report.toys import goal_counts
from fewstep.analysis.runs.reading import Run, load_array
from fewstep.analysis.runs.summary import LAST, Curve, Result, common_mean, cost, mode_curve, results
from fewstep.analysis.statistics.aggregates import Estimate
from fewstep.analysis.statistics.comparison import Entry, native_mode
from fewstep.errors import FewstepError, UsageError
from fewstep.papers import computed, evolution, timing
from fewstep.papers.catalogue import Item, Scale
from fewstep.runs.files import write_bytes

WIDTH, COLUMNS, DENSITY_COLUMNS = 9.6, 3, 4
HEIGHT = 2.9
"""Of a panel with variants below it, in inches."""
Times = Mapping[tuple[str, str], float]
"""Milliseconds of an action, by environment and variant."""


def write(item: Item, scale: str, runs: Sequence[Run], left_out: Sequence[str], folder: Path) -> list[Path]:
    """Draw an item from its runs, each in ``ENV/LABEL/seed-S``, and write ``NAME.svg``, ``NAME.csv``,
    ``NAME.md``, which says what is ``left_out``.

    Raises:
        UsageError: there are no runs.
        FewstepError: ``folder`` cannot be written.
    """
    if not runs:
        raise UsageError(f"no run of {item.paper} {item.name} is finished yet")
    assert item.draw is not None
    for run in runs:
        if item.draw in SAMPLED and not getattr(run, SAMPLED[item.draw]):
            raise UsageError(f"{run.path} has no samples/{SAMPLED[item.draw]}-*, which {item.name} draws")
    if item.draw == "costs":
        firsts = {(env, label): _of(runs, env, label)[:1] for env in _envs(runs) for label in item.labels}
        times = timing.milliseconds({name: found[0] for name, found in firsts.items() if found})
        sheet, draw = table(item, runs, times), partial(_costs, item, runs, times)
    else:
        sheet, draw = table(item, runs), partial(DRAWINGS[item.draw], item, runs)
    return _files(item, draw, page(item, scale, runs, left_out, sheet), sheet, folder)


def compute(item: Item, scale: Scale, folder: Path) -> list[Path]:
    """Compute an item that needs no runs, and write the same three files.

    Raises:
        FewstepError: ``folder`` cannot be written.
    """
    assert item.compute is not None
    draw, sheet = computed.COMPUTATIONS[item.compute](item.amounts(scale))
    said = f"{sheet.caption}, at scale `{scale}`."
    under = f"jax {jax.__version__}, {jax.devices()[0].device_kind}"
    return _files(item, draw, _page(item, scale, said, sheet, under), sheet, folder)


def _files(item: Item, draw: Callable[[], Figure], text: str, sheet: Sheet, folder: Path) -> list[Path]:
    with style.styled():
        drawn = style.to_file(draw(), "svg")
    paths = [folder / f"{item.name}.{kind}" for kind in ("svg", "csv", "md")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in zip(paths, (drawn, to_csv(sheet).encode(), text.encode()), strict=True):
            write_bytes(path, data)
    except OSError as error:
        raise FewstepError(f"cannot write to {folder}: {error.strerror}") from error
    return paths


def table(item: Item, runs: Sequence[Run], times: Times | None = None) -> Sheet:
    """Returns of every variant on every task, over seeds, with the published number beside them; ``times``
    are of the actions that were evaluated, in place of those that collected experience."""
    published = {(each.label, each.env): each.value for each in item.published}
    rows: list[Sequence[Cell]] = []
    for env in _envs(runs):
        for label in item.labels:
            found = _of(runs, env, label)
            if not found:
                continue
            told = [_native(run) for run in found]
            spent = [cost(run) for run in found]
            rows.append(
                (
                    env,
                    label,
                    listing(sorted({each.actions for each in told})),
                    len(found),
                    *(
                        over_seeds([getattr(each, field) for each in told])
                        for field in ("last", "final", "best")
                    ),
                    _sampled(found),
                    float(np.median([each.env_steps for each in spent])),
                    float(np.median([each.minutes for each in spent])),
                    float(np.median([each.update_ms for each in spent])),
                    times[env, label] if times else float(np.median([each.act_ms for each in spent])),
                    _goals_reached(found),
                    published.get((label, env)),
                )
            )
    head = ("environment", "variant", "actions", "seeds", "mean of last 10", "last", "best")
    head += ("last, samples", "env steps", "minutes", "ms / update")
    head += ("ms / action" if times else "ms / action, collecting",)
    head += ("goals reached", "published")
    caption = "Mean return over seeds [lowest seed, highest seed]; the mean of the last 10 is of all where "
    caption += "there are fewer; times are medians"
    return filled(Sheet(item.name, caption, head, rows))


def _sampled(runs: Sequence[Run]) -> Estimate | None:
    """The last evaluation by single samples of the policy, where there is one, over seeds."""
    found = [each.final for run in runs for each in results(run) if each.actions == "sample"]
    return over_seeds(found) if found else None


def _goals_reached(runs: Sequence[Run]) -> Estimate | None:
    """How many of the goals of ``toy/multigoal`` end a twentieth or more of the episodes, over seeds."""
    ends = [load_array(list(run.trajectories.values())[-1], "goals") for run in runs if run.trajectories]
    shares = [goal_counts(goals)[:-1] / len(goals) for goals in ends]
    return over_seeds([float((share >= 0.05).sum()) for share in shares]) if shares else None


def page(item: Item, scale: str, runs: Sequence[Run], left_out: Sequence[str], sheet: Sheet) -> str:
    """The figure with its table and its words, as Markdown."""
    seeds = sorted({run.seed for run in runs}, key=int)
    versions = {
        (run.simulator or "no simulator", f"jax {run.version('jax')}", str(run.provenance.get("device", "")))
        for run in runs
    }
    made = count(len(runs), "run")
    if left_out:
        made = f"{len(runs)} of {count(len(runs) + len(left_out), 'run')}"
    said = (
        f"{sheet.caption}, from {made} at scale `{scale}`, "
        f"seed{'s' if len(seeds) > 1 else ''} {listing(seeds)}."
    )
    if left_out:
        said += f" Left out: {'; '.join(left_out)}."
    under = "; ".join(", ".join(filter(None, each)) for each in sorted(versions))
    return _page(item, scale, said, sheet, under)


def _page(item: Item, scale: str, said: str, sheet: Sheet, under: str) -> str:
    rows = ["| " + " | ".join(map(shown, row)) + " |" for row in sheet.rows]
    sources = dict.fromkeys(each.source for each in item.published)
    lines = [
        f"# {item.title}",
        "",
        f"![{item.title}]({item.name}.svg)",
        "",
        f"**The paper's claim.** {item.claim}",
        "",
        said,
        "",
        "| " + " | ".join(sheet.head) + " |",
        "|" + "---|" * len(sheet.head),
        *rows,
        "",
        f"**What may be compared.** {item.comparable}",
        "",
        *([f"**Published numbers**: {listing(sources)}.", ""] if sources else []),
        f"**Under**: {under}. `fewstep paper {item.paper} {item.name} --scale {scale}`",
        "",
    ]
    return "\n".join(lines)


def _curves(item: Item, runs: Sequence[Run]) -> Figure:
    """Returns over steps, a panel per task."""
    tasks = _envs(runs)
    entries = []
    for label in item.labels:
        curves = {env: tuple(_curve(run) for run in _of(runs, env, label)) for env in tasks}
        if any(curves.values()):
            entries.append(Entry(label, (), {}, {}, curves, runs[0].step_unit))
    return comparison_curves.curves(entries, tasks, WIDTH, COLUMNS)


def _finals(item: Item, runs: Sequence[Run]) -> Figure:
    """The score of each variant: a dot per seed, a bar at their mean; a panel per task."""
    name, score = _score(runs)
    figure, panels = _panels(_envs(runs), heights=name)
    for env, axes in panels.items():
        for place, label in enumerate(item.labels):
            scores = [score(run) for run in _of(runs, env, label)]
            axes.plot([place] * len(scores), scores, "o", color=style.SERIES[1], ms=4, alpha=0.8)
            if scores:
                axes.hlines(np.mean(scores), place - 0.25, place + 0.25, color=style.SERIES[0], lw=1.6)
        places = range(len(item.labels))
        axes.set_xticks(places, item.labels, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(places) - 0.5)
    return figure


def _metrics(item: Item, runs: Sequence[Run]) -> Figure:
    """Logged metrics over steps: a panel each, a colour per variant; the first task alone."""
    env = _envs(runs)[0]
    figure, panels = _panels(item.metrics)
    for name, axes in panels.items():
        ends = []
        for place, label in enumerate(item.labels):
            curves = [run.series(name) for run in _of(runs, env, label)]
            steps, mean = common_mean([curve for curve in curves if len(curve[0])])
            axes.plot(
                steps, mean, color=style.SERIES[place % len(style.SERIES)], ls=comparison_curves.dash(place)
            )
            ends += [steps[-1]] if len(steps) else []
        style.step_axis(axes, max(ends, default=0), runs[0].step_unit)
    return figure


def _costs(item: Item, runs: Sequence[Run], times: Times) -> Figure:
    """The score of each variant, mean and from lowest to highest seed, over the time of one such action; a
    panel per task."""
    name, score = _score(runs)
    figure, panels = _panels(_envs(runs), heights=name)
    for env, axes in panels.items():
        names: list[tuple[str, float, float, str]] = []
        for place, label in enumerate(item.labels):
            found = _of(runs, env, label)
            if not found:
                continue
            colour = style.SERIES[place % len(style.SERIES)]
            x = times[env, label]
            scores = [score(run) for run in found]
            names.append((label, x, float(np.mean(scores)), colour))
            axes.vlines(x, min(scores), max(scores), color=colour, lw=1.2, alpha=0.6)
            axes.plot([x], [np.mean(scores)], "o", color=colour, ms=5)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.15)
        axes.set_xlabel("ms per action, as it is evaluated")
        style.point_labels(axes, names)
    return figure


def _densities(item: Item, runs: Sequence[Run]) -> Figure:
    """The action densities on ``toy/bandit`` beside the target, of the first seed of each variant; all have
    one fixed temperature, which a run may still be on its way to."""
    first = [(label, found[0]) for label in item.labels if (found := _of(runs, "toy/bandit", label))]
    (alpha,) = {run.setting("temperature", "initial") for _, run in first}
    rows = toy_comparison.densities(first, alpha)
    drawn = toy_comparison.titled(rows), DENSITY_COLUMNS, WIDTH, toy_comparison.brightest(rows)
    return toy_figures.densities_figure(*drawn)


def _goals(item: Item, runs: Sequence[Run]) -> Figure:
    """Where the episodes of the first seed of each variant end on ``toy/multigoal``."""
    figure, panels = _panels(item.labels)
    for label, axes in panels.items():
        found = [run for run in _of(runs, "toy/multigoal", label) if run.trajectories]
        if found:
            file = list(found[0].trajectories.values())[-1]
            toy_figures.draw_trajectories(axes, load_array(file, "positions"), load_array(file, "goals"))
    return figure


def _evolution(item: Item, runs: Sequence[Run]) -> Figure:
    """Actions at chosen states along training, of the first seed of each variant."""
    first = [(label, found[0]) for label in item.labels if (found := _of(runs, evolution.ENV, label))]
    return evolution.figure(first, WIDTH)


DRAWINGS = {
    "curves": _curves,
    "finals": _finals,
    "metrics": _metrics,
    "densities": _densities,
    "goals": _goals,
    "evolution": _evolution,
}
SAMPLED = {"densities": "actions", "goals": "trajectories"}
"""What a drawing needs beside the rows of a run."""


def _panels(titles: Sequence[str], heights: str = "") -> tuple[Figure, dict[str, Axes]]:
    """Panels beside and below each other; their ``heights`` are what the panel's title says if nothing is."""
    columns = min(COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(WIDTH / COLUMNS * columns + 1.2, HEIGHT * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = dict(zip(titles, grid.flat, strict=False))
    for spare in list(grid.flat)[len(titles) :]:
        spare.remove()
    for title, axes in panels.items():
        axes.set_title(title)
        axes.yaxis.set_major_formatter(style.Ticks())
        axes.set_ylabel(heights)
    return figure, panels


def _score(runs: Sequence[Run]) -> tuple[str, Callable[[Run], float]]:
    """What one number of a run is, and how it is read: the mean of its last evaluations, or the last one
    where there are so few that their mean would be that of the whole training."""
    if all(_native(run).evaluations > LAST for run in runs):
        return f"return, mean of last {LAST} evaluations", lambda run: _native(run).last
    return "return of the last evaluation", lambda run: _native(run).final


def _native(run: Run) -> Result:
    """How the run did as its algorithm's paper acts."""
    mode = native_mode(run)
    return next(result for result in results(run) if result.actions == mode)


def _curve(run: Run) -> Curve:
    return mode_curve(run, native_mode(run))


def _envs(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.env for run in runs))


def _of(runs: Sequence[Run], env: str, label: str) -> list[Run]:
    return [run for run in runs if run.env == env and run.path.parent.name == label]
