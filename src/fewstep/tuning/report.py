"""What came out of a search: the best settings, all trials as a table, and which settings mattered."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from optuna.trial import FrozenTrial, TrialState

from fewstep.analysis.figures import style
from fewstep.analysis.numbers import count, number, short
from fewstep.analysis.report.sheets import Cell, Sheet, to_csv
from fewstep.config import settings
from fewstep.runs.files import write_text
from fewstep.tuning.runs import label
from fewstep.tuning.space import Choices, Domain
from fewstep.tuning.spec import Search
from fewstep.tuning.study import FAILURE, settings_of

LISTED = 10
"""Trials in the report's table, best first."""
ENOUGH = 4
"""Whole trials from which the importance of settings is told."""
WIDTH, COLUMNS, TALL, GAP = 9.6, 3, 1.9, 0.2
"""Of the slices, in inches but for the columns."""


def write(search: Search, study: optuna.Study, folder: Path) -> list[Path]:
    """Write ``trials.csv``, ``slices.svg``, ``tune.md`` and, if a trial is complete, ``best.toml``."""
    trials = study.get_trials()
    best = ranked(trials)[:1]
    texts = {"trials.csv": to_csv(table(search, trials))}
    if best:
        texts["best.toml"] = best_settings(search, best[0])
        with style.styled():
            figure = slices(search, trials)
            texts["slices.svg"] = style.to_file(figure, "svg").decode()
    texts["tune.md"] = page(search, study)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def ranked(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were run to the end, best first; of equal ones the earlier first."""
    whole = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return sorted(whole, key=lambda trial: (-_value(trial), trial.number))


def _value(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value


def table(search: Search, trials: Sequence[FrozenTrial]) -> Sheet:
    """One row per trial: how it ended, its last score and the steps it was scored at, its settings."""
    rows: list[Sequence[Cell]] = [
        (
            trial.number,
            trial.state.name.lower(),
            _value(trial),
            trial.last_step or 0,
            *(trial.params[name] for name in search.space),
            trial.user_attrs.get(FAILURE),
        )
        for trial in trials
    ]
    return Sheet("trials", "trials", ["trial", "state", "score", "steps", *search.space, "failure"], rows)


def best_settings(search: Search, best: FrozenTrial) -> str:
    """The file for ``--config``: what the search fixed and found, over its preset."""
    entry = search.entry
    chosen = dict(entry.settings) | settings_of(search, best.params)
    words = f"fewstep train {entry.algo} {entry.envs[0]} --preset {entry.preset} --steps {search.steps}"
    return (
        f"# Trial {best.number} of {search.trials}, score {_value(best):.6g} after {search.steps:,} steps.\n"
        f"# {words} --config best.toml\n\n{settings.to_toml({'algo': entry.algo} | chosen)}"
    )


def importance(study: optuna.Study) -> dict[str, float]:
    """Setting -> its share of what separates the better from the other whole trials, largest first
    (PED-ANOVA, https://arxiv.org/abs/2304.10255); empty if there are too few, or their scores are equal."""
    scores = [_value(trial) for trial in ranked(study.get_trials())]
    if len(scores) < ENOUGH or scores[0] == scores[-1]:
        return {}
    return optuna.importance.get_param_importances(study)


def page(search: Search, study: optuna.Study) -> str:
    """The report, as Markdown."""
    trials = study.get_trials()
    order, entry = ranked(trials), search.entry
    ends = {
        state: sum(trial.state is state for trial in trials)
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    }
    lines = [
        f"# {entry.algo} on {entry.envs[0]}",
        "",
        f"{count(len(trials), 'trial')} of {search.trials:,}: {ends[TrialState.COMPLETE]} run to "
        f"{search.steps:,} steps, {ends[TrialState.PRUNED]} pruned, {ends[TrialState.FAIL]} failed. A score "
        f"is the mean over {count(len(entry.seeds), 'seed')} of the mean return of the last 10 evaluations; "
        "the best of many trials is a maximum over noise, so train its settings with other seeds before you "
        "compare them.",
        "",
    ]
    if not order:
        return "\n".join([*lines, "No trial was run to the end.", *_failures(trials), ""])
    heads = ["trial", "score", *search.space]
    lines += ["## Best trials", "", _row(heads), _row(["---"] * len(heads))]
    for trial in order[:LISTED]:
        values = (_shown(trial.params[name]) for name in search.space)
        lines.append(_row([str(trial.number), number(_value(trial)), *values]))
    lines += ["", "The first is `best.toml`; its command is in the file. All trials: `trials.csv`.", ""]
    lines += ["## Importance", ""]
    shares = importance(study)
    if shares:
        lines += [_row(["setting", "share"]), _row(["---", "---"])]
        lines += [_row([name, f"{share:.2f}"]) for name, share in shares.items()]
    else:
        lines.append(f"Told from {ENOUGH} trials run to the end on, if their scores differ.")
    lines += ["", "![Scores along every setting](slices.svg)", ""]
    lines += [
        "Blue: run to the end; grey: pruned, with its score there; orange: the best.",
        *_failures(trials),
        "",
    ]
    return "\n".join(lines)


def _failures(trials: Sequence[FrozenTrial]) -> list[str]:
    found = [
        f"- {label(trial.number)}: {trial.user_attrs.get(FAILURE, '')}"
        for trial in trials
        if trial.state is TrialState.FAIL
    ]
    return ["", "## Failed", "", *found] if found else []


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def slices(search: Search, trials: Sequence[FrozenTrial]) -> Figure:
    """Score over each setting, a panel per setting; to be called inside ``styled()``.

    Blue: run to the end; grey: pruned, at its last rung; orange: the best.
    """
    rows = math.ceil(len(search.space) / COLUMNS)
    wide = WIDTH / COLUMNS - style.LEFT - GAP
    high = style.TOP + TALL + style.BOTTOM
    figure = Figure(figsize=(WIDTH, rows * high))
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    whole = ranked(trials)
    for index, (name, domain) in enumerate(search.space.items()):
        x = (index % COLUMNS) * WIDTH / COLUMNS + style.LEFT
        y = (rows - 1 - index // COLUMNS) * high + style.BOTTOM
        axes = figure.add_axes(
            (x / WIDTH, y / figure.get_figheight(), wide / WIDTH, TALL / figure.get_figheight())
        )
        for members, colour in (
            (pruned, style.MUTED),
            (whole[:0:-1], style.SERIES[0]),
            (whole[:1], style.SERIES[1]),
        ):
            places = [_place(domain, trial.params[name]) for trial in members]
            axes.plot(places, [_value(trial) for trial in members], "o", color=colour, ms=4, alpha=0.8, mew=0)
        axes.set_title(name)
        axes.yaxis.set_major_formatter(style.Ticks())
        if index % COLUMNS == 0:
            style.quantity(axes, "score")
        _scale(axes, domain)
    return figure


def _place(domain: Domain, value: Any) -> float:
    return domain.texts.index(value) if isinstance(domain, Choices) else float(value)


def _scale(axes: Axes, domain: Domain) -> None:
    if isinstance(domain, Choices):
        axes.set_xticks(np.arange(len(domain.values)), domain.texts)
        axes.set_xlim(-0.5, len(domain.values) - 0.5)
        return
    if domain.log:
        axes.set_xscale("log")
        margin = (domain.high / domain.low) ** 0.05
        axes.set_xlim(domain.low / margin, domain.high * margin)
        decades = domain.high >= 30 * domain.low  # or ticks between powers of ten would touch
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1,) if decades else (1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.05 * (domain.high - domain.low)
        axes.set_xlim(domain.low - margin, domain.high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=domain.whole))
        axes.xaxis.set_major_formatter(style.Ticks())
