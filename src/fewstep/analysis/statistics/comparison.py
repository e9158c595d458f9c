"""Which variants may be compared over which tasks, and the scores that the comparison rests on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewstep.analysis.numbers import count, listing, number, span
from fewstep.analysis.runs.reading import Run
from fewstep.analysis.runs.summary import (
    ENOUGH_SEEDS,
    LAST,
    Curve,
    Group,
    differences,
    flat,
    label,
    mode_curve,
    modes,
    results,
)
from fewstep.analysis.statistics import normalised_scores as normalise
from fewstep.analysis.statistics import random_return
from fewstep.analysis.statistics.aggregates import (
    STATISTICS,
    Estimate,
    Scores,
    estimate,
    probability_of_improvement,
)
from fewstep.errors import UsageError, unknown

NATIVE, SAMPLE = "native", "sample"
"""The two ways of acting that are compared, each by itself: as the algorithm's paper does, and one sample."""

SCORES = {
    "last-10": ("last", "mean return over its last {averaged} evaluations"),
    "final": ("final", "mean return of its last evaluation"),
    "area": ("area", "mean return along training (area under the learning curve divided by its width)"),
}
"""What may serve as the score of a run: the field of ``Result``, and the words for it. Never the best."""

DEFAULT_SCORE = "last-10"


@dataclass(frozen=True)
class Contender:
    """One algorithm, preset and settings, on every task it was run on.

    Attributes:
        label: what it is called.
        settings: what sets it apart, by dotted key.
        runs: task to runs, one per seed.
    """

    label: str
    settings: dict[str, Any]
    runs: dict[str, tuple[Run, ...]]


@dataclass(frozen=True)
class Entry:
    """A contender in a comparison.

    Attributes:
        label: its name.
        actions: how its actions were chosen (``best-of-10``); several if its tasks differ.
        returns: task to scores before normalisation, ``[runs]`` in the environment's units.
        scores: the normalised ones, for each task that has a scale.
        curves: task to the mean return of every evaluation, one curve per run.
        step_unit: what the steps of the curves are, on all tasks.
    """

    label: str
    actions: tuple[str, ...]
    returns: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]
    curves: dict[str, tuple[Curve, ...]]
    step_unit: str = "environment steps"

    def aggregates(self) -> dict[str, Estimate]:
        """Every statistic of ``STATISTICS`` over the normalised tasks; empty where there are none."""
        scores = list(self.scores.values())
        return {name: estimate(statistic, scores) for name, statistic in STATISTICS.items() if scores}


@dataclass(frozen=True)
class Comparison:
    """Variants on the tasks that all of them were run on, under one MuJoCo version and one way of acting.

    Attributes:
        mode: ``native`` or ``sample``.
        simulator: of every run (see ``Run.simulator``).
        score: a key of ``SCORES``.
        tasks: environment ids, in the order of the runs.
        entries: the contenders, at least two.
        scales: what 0 and 1 mean on each task that can be normalised.
        warnings: what weakens the comparison.
        notes: what was left out, and what else a reader must know.
    """

    mode: str
    simulator: str | None
    score: str
    tasks: tuple[str, ...]
    entries: tuple[Entry, ...]
    scales: dict[str, normalise.Scale]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def score_words(self) -> str:
        """What the score of a run is: ``mean return over its last 8 to 10 evaluations``."""
        lengths = [len(at) for entry in self.entries for runs in entry.curves.values() for at, _ in runs]
        return SCORES[self.score][1].format(averaged=span(min(LAST, length) for length in lengths))

    def improvements(self) -> list[tuple[str, str, Estimate]]:
        """``(X, Y, P(X > Y))`` for every pair of entries, over all tasks."""
        return [
            (x.label, y.label, probability_of_improvement(self._in_order(x), self._in_order(y)))
            for place, x in enumerate(self.entries)
            for y in self.entries[place + 1 :]
        ]

    def _in_order(self, entry: Entry) -> Scores:
        return [entry.returns[task] for task in self.tasks]


def comparisons(groups: Sequence[Group], score: str = DEFAULT_SCORE) -> list[Comparison]:
    """Every comparison that the runs allow: by simulator version, and inside by way of acting.

    Raises:
        UsageError: ``score`` is no key of ``SCORES``.
    """
    if score not in SCORES:
        raise unknown("score", score, SCORES)
    found = []
    for simulator, fitting in _fitting(groups):
        contenders = assemble(fitting)
        both = [_compare(contenders, mode, simulator, score) for mode in (NATIVE, SAMPLE)]
        here = [comparison for comparison in both if comparison]
        if len(here) == 2 and all(entry.actions == (SAMPLE,) for entry in here[0].entries):
            here = here[1:]  # everyone's native way is the single sample
        found += here
    return found


def _fitting(groups: Sequence[Group]) -> list[tuple[str | None, list[Group]]]:
    """By simulator, the groups whose runs may be compared.

    Tasks without one are compared once, together with the runs under the first version; not those which that
    version has, too (an action repeat is part of it): these are apart.
    """
    versions = list(dict.fromkeys(group.simulator for group in groups if group.simulator is not None))
    first = {group.env for group in groups if versions and group.simulator == versions[0]}
    kinds: list[tuple[str | None, ...]] = [(version,) for version in versions]
    if versions and not any(group.env in first for group in groups if group.simulator is None):
        kinds[0] = (versions[0], None)
    else:
        kinds.append((None,))
    return [(kind[0], [group for group in groups if group.simulator in kind]) for kind in kinds]


def assemble(groups: Sequence[Group]) -> list[Contender]:
    """The same algorithm, preset and settings on different tasks as one contender.

    What sets variants apart on some task sets them apart everywhere. Settings that differ between tasks only
    (a preset's own section for an environment) belong to the task.
    """
    variants = [(group.env, variant) for group in groups for variant in group.variants]
    telling: dict[str, dict[str, None]] = {}
    for algo in dict.fromkeys(variant.runs[0].algo for _, variant in variants):
        keys = telling.setdefault(algo, {"preset": None})
        for group in groups:
            configs = [v.runs[0].config for v in group.variants if v.runs[0].algo == algo]
            keys |= dict.fromkeys(key for key in differences(configs) if key not in ("seed", "algo", "env"))
    members: dict[str, tuple[str, dict[str, Any], dict[str, tuple[Run, ...]]]] = {}
    for env, variant in variants:
        first = variant.runs[0]
        own = {key: flat(first.config).get(key) for key in telling[first.algo]}
        _, _, runs = members.setdefault(repr((first.algo, own)), (first.algo, own, {}))
        runs[env] = variant.runs
    names = label([algo for algo, _, _ in members.values()], [own for _, own, _ in members.values()])
    return [Contender(name, own, runs) for name, (_, own, runs) in zip(names, members.values(), strict=True)]


def actions_of(run: Run, mode: str) -> str | None:
    """The recorded action mode that ``mode`` stands for in a run; None if that cannot be told."""
    if mode == SAMPLE:
        return SAMPLE
    recorded = run.policy.get("native_actions")
    if isinstance(recorded, str):
        return recorded
    # A run that never saved a policy: the mode that was evaluated and not asked for by its own name.
    asked = run.section("training").get("eval_modes")
    named = asked if isinstance(asked, list) else []
    rest = [name for name in modes([run]) if name not in named]
    return rest[0] if NATIVE in named and len(rest) == 1 else None


def native_mode(run: Run) -> str:
    """The recorded action mode in which the run acts as its paper does; its first one where that cannot be
    told. The run has evaluations."""
    found, mode = modes([run]), actions_of(run, NATIVE)
    return mode if mode in found else found[0]


def choose(tasks: Sequence[set[str]]) -> tuple[list[int], set[str]]:
    """Which contenders to compare on which tasks, given the tasks of each: all that are kept share all tasks.

    The choice with the most (contender, task) cells wins, then the one with the most contenders. Fewer than
    two contenders come back if no two share a task.
    """
    options = [set.intersection(*tasks)] if tasks else []
    options += [a & b for place, a in enumerate(tasks) for b in tasks[place + 1 :]]
    best: tuple[list[int], set[str]] = ([], set())
    for option in options:
        kept = [place for place, own in enumerate(tasks) if option and option <= own]
        if (len(kept) * len(option), len(kept)) > (len(best[0]) * len(best[1]), len(best[0])):
            best = (kept, option)
    return best


def _compare(
    contenders: Sequence[Contender], mode: str, simulator: str | None, score: str
) -> Comparison | None:
    notes: list[str] = []
    scored = [_returns(contender, mode, score, notes) for contender in contenders]
    places, shared = choose([set(returns) for returns in scored])
    if len(places) < 2:
        return None
    tasks = tuple(dict.fromkeys(t for contender in contenders for t in contender.runs if t in shared))
    kept = [contenders[place] for place in places]
    left = [contender.label for contender in contenders if contender not in kept]
    others = dict.fromkeys(t for contender in contenders for t in contender.runs if t not in shared)
    if left or others:
        absent = listing([*left, *others])
        notes.append(f"Left out, because every variant of a comparison must be on every task: {absent}.")
    returns = [{task: scored[place][task] for task in tasks} for place in places]
    scales = _scales(tasks, returns, kept, simulator, notes)
    entries = tuple(
        Entry(
            contender.label,
            tuple(
                dict.fromkeys(a for task in tasks for r in contender.runs[task] if (a := actions_of(r, mode)))
            ),
            own,
            {task: np.array([line(value) for value in own[task]]) for task, line in scales.items()},
            {task: tuple(_curves(contender.runs[task], mode)) for task in tasks},
            contender.runs[tasks[0]][0].step_unit,
        )
        for contender, own in zip(kept, returns, strict=True)
    )
    for contender in kept:
        if re.search(r" [A-Z]+$", contender.label):  # a letter stands for more settings than a name can hold
            own = [f"{key}={value}" for key, value in contender.settings.items()]
            notes.append(f"{contender.label}: {', '.join(own)}.")
        configs = [contender.runs[task][0].config for task in tasks]
        between = [key for key in differences(configs) if key not in ("env", "seed")]
        if between:
            notes.append(f"Settings of {contender.label} that differ between tasks: {listing(between)}.")
    warned = [*_few(entries), *_uneven(kept, tasks)]
    return Comparison(mode, simulator, score, tasks, entries, scales, tuple(warned), tuple(notes))


def _returns(contender: Contender, mode: str, score: str, notes: list[str]) -> dict[str, np.ndarray]:
    """Task to one number per seed; what cannot be counted is noted."""
    found: dict[str, np.ndarray] = {}
    for task, runs in contender.runs.items():
        values: dict[str, float] = {}
        for run in runs:
            of_mode = [r for r in results(run) if r.actions == actions_of(run, mode)]
            if not of_mode:
                notes.append(
                    f"{contender.label} on {task}, seed {run.seed}, has no evaluation with {mode} actions."
                )
            elif run.seed in values:
                notes.append(f"{contender.label} on {task} has seed {run.seed} twice; the first one counts.")
            else:
                values[run.seed] = getattr(of_mode[0], SCORES[score][0])
        if values:
            found[task] = np.array(list(values.values()))
    return found


def _scales(
    tasks: Sequence[str],
    returns: Sequence[dict[str, np.ndarray]],
    contenders: Sequence[Contender],
    simulator: str | None,
    notes: list[str],
) -> dict[str, normalise.Scale]:
    """The scales of the tasks that have one; a note for each task that has none."""
    scales: dict[str, normalise.Scale] = {}
    versions: dict[str, None] = {}
    for task in tasks:
        runs = [run for contender in contenders for run in contender.runs[task]]
        if (ends := random_return.ends(runs)) is not None:
            scales[task] = normalise.Scale(*ends, 0.0, given=True)
            continue
        try:
            zero = random_return.zero(runs)
            best = max(float(own[task].mean()) for own in returns)
            scales[task] = normalise.scale(task, zero.random, best)
        except UsageError as error:
            notes.append(f"{error}. It counts in the probabilities of improvement only.")
            continue
        notes += [zero.note] if zero.note else []
        versions |= {zero.simulator: None} if zero.simulator else {}
    notes += [
        f"The returns of random actions were measured under {version}, the runs under {simulator}."
        for version in versions
        if simulator and version != simulator
    ]
    return scales


def _curves(runs: Sequence[Run], mode: str) -> list[Curve]:
    """The curve of every run that was evaluated with ``mode``."""
    known = [(run, actions_of(run, mode)) for run in runs]
    curves = [mode_curve(run, actions) for run, actions in known if actions]
    return [curve for curve in curves if len(curve[0])]


def _few(entries: Sequence[Entry]) -> list[str]:
    few = [
        f"{entry.label} on {task} ({count(len(values), 'seed')})"
        for entry in entries
        for task, values in entry.returns.items()
        if len(values) < ENOUGH_SEEDS
    ]
    if not few:
        return []
    return [
        f"Fewer than {ENOUGH_SEEDS} seeds: {listing(few)}. The intervals then mean little: they resample the "
        "seeds there are, and cannot know of the others. With one seed there is none."
    ]


def _uneven(contenders: Sequence[Contender], tasks: Sequence[str]) -> list[str]:
    found = []
    for task in tasks:
        runs = [run for contender in contenders for run in contender.runs[task] if run.evaluations]
        ends = sorted({run.evaluations[-1].env_steps for run in runs})
        if len(ends) > 1:
            found.append(f"{task} ({number(ends[0])} to {number(ends[-1])})")
    if not found:
        return []
    return [f"Not all runs were evaluated up to the same environment step: {listing(found)}."]
