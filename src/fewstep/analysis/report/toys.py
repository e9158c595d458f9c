"""What the toy runs are for: the learned action density beside the true one, and where trajectories end."""

import math
from dataclasses import dataclass

import numpy as np

from fewstep.analysis.figures import toys as toy_figures
from fewstep.analysis.figures.curves import Line, lines, metric
from fewstep.analysis.numbers import count, number
from fewstep.analysis.report.html import Panel, Section
from fewstep.analysis.report.sheets import Sheet
from fewstep.analysis.runs.reading import Run, load_array
from fewstep.analysis.statistics.nearest_neighbour_entropy import nearest_neighbour_entropy
from fewstep.envs.toys import bandit
from fewstep.envs.toys.gaussian_fit import TruncatedGaussian, best_gaussian
from fewstep.envs.toys.multigoal import GOALS
from fewstep.errors import UsageError

STAGES = 6
"""Pictures of the density over training."""

WIDE, NARROW = 9.6, 4.7


@dataclass(frozen=True)
class Density:
    """One source of bandit actions beside the target: total variation to it, and shares of the four bumps."""

    name: str
    density: np.ndarray
    total_variation: float
    shares: tuple[float, ...]


def section(run: Run, name: str, prefix: str) -> Section:
    """A toy run's own figures and tables; empty for other environments and without samples.

    Args:
        run: the run.
        name: what it is called, one of a kind in the report.
        prefix: of ids of its figures.
    """
    parts = {"toy/bandit": _bandit, "toy/multigoal": _multigoal}
    heading = f"What seed {run.seed} learned"
    try:
        return parts[run.env](run, heading, name, prefix) if run.env in parts else Section()
    except (ValueError, UsageError) as error:
        return Section(heading, warnings=[f"The samples of seed {run.seed} cannot be shown: {error}"])


def final_alpha(run: Run) -> float:
    """The last logged temperature, NaN if none was."""
    values = run.series("temperature/alpha")[1]
    return float(values[-1]) if len(values) and values[-1] > 0 else math.nan


def compare(actions: np.ndarray, alpha: float) -> list[Density]:
    """The learned actions, the target at ``alpha`` and the two diagonal Gaussians closest to it."""
    fits = best_gaussian(alpha)
    cell = (2 / toy_figures.BINS) ** 2
    learned = Density(
        "learned",
        toy_figures.histogram(actions),
        bandit.total_variation(actions, alpha, toy_figures.BINS),
        tuple(bandit.mode_shares(actions)),
    )
    target = bandit.cell_probabilities(alpha, toy_figures.BINS) / cell
    true = Density("true", target, 0.0, tuple(bandit.target_shares(alpha)))
    return [
        learned,
        true,
        _gaussian("best Gaussian", fits.best),
        _gaussian("moment-matched", fits.moment_matched),
    ]


def _gaussian(name: str, fit: TruncatedGaussian) -> Density:
    axis = bandit.cell_centres(400)
    sides = [np.exp(-0.5 * ((axis - m) / s) ** 2) for m, s in zip(fit.mean, fit.std, strict=True)]
    masses = [side.reshape(toy_figures.BINS, -1).sum(1) / side.sum() for side in sides]
    density = np.outer(*masses) / (2 / toy_figures.BINS) ** 2
    return Density(name, density, fit.total_variation, fit.mode_shares)


def _bandit(run: Run, heading: str, name: str, prefix: str) -> Section:
    if not run.actions:
        return Section()
    loaded = {step: _two_columns(load_array(file)) for step, file in run.actions.items()}
    newest, actions = list(loaded.items())[-1]
    alpha = final_alpha(run)
    if not math.isfinite(alpha):
        figure = _density_panel(
            [Density("learned", toy_figures.histogram(actions), math.nan, ())], prefix, ""
        )
        return Section(heading, figures=[figure], notes=["No temperature was logged, so there is no target."])
    rows = compare(actions, alpha)
    floor = bandit.sampling_floor(alpha, len(actions), toy_figures.BINS)
    caption = (
        f"Action density at {number(newest)} environment steps beside exp(reward / α) / Z at the run's final "
        f"α = {number(alpha)}. Numbers: share of actions nearest to each bump. Colour: square root "
        "of density."
    )
    variations = [(step, bandit.total_variation(a, alpha, toy_figures.BINS)) for step, a in loaded.items()]
    course = _evolution(loaded, variations, rows, alpha, f"{prefix}v")
    course += _entropies(run, loaded, alpha, prefix)
    return Section(
        heading,
        figures=[_density_panel(rows, f"{prefix}d", caption)],
        sheets=[_bandit_sheet(rows, name)],
        more=course,
        notes=[_bandit_note(floor, len(actions))],
    )


def _density_panel(rows: list[Density], prefix: str, caption: str) -> Panel:
    pictures = [(row.name, row.density, row.shares) for row in rows]
    wide = toy_figures.densities(pictures, 4, WIDE, f"{prefix}w")
    return Panel(wide, caption, toy_figures.densities(pictures, 2, NARROW, f"{prefix}n"), wide=True)


def _bandit_sheet(rows: list[Density], name: str) -> Sheet:
    heads = [f"bump of height {height:g} (%)" for height in bandit.HEIGHTS]
    body = [(row.name, row.total_variation, *(100 * share for share in row.shares)) for row in rows]
    caption = "Distance to the true density, and share of actions nearest to each bump"
    return Sheet(f"densities-{name}", caption, ("density", "total variation", *heads), body)


def _bandit_note(floor: float, samples: int) -> str:
    return (
        f"Total variation on {toy_figures.BINS} × {toy_figures.BINS} cells: 0 is identical, 1 disjoint; "
        f"{samples:,} exact samples of the target would score {floor:.3f}. Best Gaussian: the diagonal "
        "Gaussian truncated to the box that minimises KL(Gaussian ‖ target), what a unimodal maximum-entropy "
        "policy aims at. "
        "Moment-matched: minimises KL(target ‖ Gaussian)."
    )


def _evolution(
    loaded: dict[int, np.ndarray],
    variations: list[tuple[int, float]],
    rows: list[Density],
    alpha: float,
    prefix: str,
) -> list[Panel]:
    """Total variation over training and up to six densities along the way; none with a single sample file."""
    if len(loaded) < 2:
        return []
    steps = list(loaded)
    chosen = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, STAGES).round().astype(int))]
    by_step = dict(variations)
    pictures = [
        (
            f"{number(step)} · TV {by_step[step]:.2f}",
            toy_figures.histogram(loaded[step]),
            tuple(bandit.mode_shares(loaded[step])),
        )
        for step in chosen
    ]
    caption = f"Along training: environment steps and total variation to the target at α = {number(alpha)}."
    wide = toy_figures.densities(pictures, STAGES, WIDE, f"{prefix}w")
    narrow = toy_figures.densities(pictures, 2, NARROW, f"{prefix}n")
    curve = Line("learned", [(np.array(steps, float), np.array([v for _, v in variations]))])
    gaussian = (
        "best Gaussian",
        min(row.total_variation for row in rows if row.name not in ("learned", "true")),
    )
    title = "Total variation to the true density"
    line = lines(title, [curve], f"{prefix}l", "total variation", reference=gaussian, floor=0, ceiling=1)
    return [
        Panel(wide, caption, narrow, wide=True),
        Panel(line, "Dashed: the closer of the two Gaussians above."),
    ]


def _entropies(run: Run, loaded: dict[int, np.ndarray], alpha: float, prefix: str) -> list[Panel]:
    """The entropies that training used beside an estimate from the samples; none with one sample file."""
    if len(loaded) < 2:
        return []
    found = np.array([nearest_neighbour_entropy(actions) for actions in loaded.values()])
    known = np.isfinite(found)
    series = [
        metric([run], "policy/entropy", "used"),
        metric([run], "policy/conditional_entropy", "given e"),
        Line("samples", [(np.array(list(loaded), float)[known], found[known])]),
    ]
    series = [line for line in series if any(len(steps) for steps, _ in line.curves)]
    true = ("target", bandit.entropy(alpha))
    caption = (
        "Used: what training took for the entropy. Samples: nearest-neighbour estimate from the actions "
        "inside the box. Dashed: entropy of the true density."
    )
    svg = lines("Entropy of the action", series, f"{prefix}h", "entropy (nats)", reference=true)
    return [Panel(svg, caption)]


def _two_columns(actions: np.ndarray) -> np.ndarray:
    if actions.ndim != 2 or actions.shape[1] != 2 or not len(actions):
        raise ValueError(f"actions must have shape [N, 2] with N at least 1, found {list(actions.shape)}")
    return actions.astype(np.float64)


def _multigoal(run: Run, heading: str, name: str, prefix: str) -> Section:
    if not run.trajectories:
        return Section()
    newest, file = list(run.trajectories.items())[-1]
    positions, goals = load_array(file, "positions"), load_array(file, "goals")
    if positions.ndim != 3 or positions.shape[2] != 2 or goals.shape != positions.shape[:1] or not len(goals):
        raise ValueError(f"{file.name}: positions [N, T + 1, 2] and goals [N] do not fit together")
    counts = goal_counts(goals)
    drawn = min(len(goals), toy_figures.EPISODES_DRAWN)
    caption = (
        f"{count(drawn, 'episode')} of the policy at {number(newest)} environment steps, coloured by the "
        "goal reached (grey: none). All goals pay the same; reaching all four is what no unimodal policy "
        "can do."
    )
    panels = [
        Panel(toy_figures.trajectories(positions, goals, f"{prefix}p"), caption),
        Panel(
            toy_figures.goal_bars(counts, f"{prefix}b"),
            f"Of {count(len(goals), 'episode')}; even is 25 % each.",
        ),
    ]
    series = _goal_lines(run)
    if len(run.trajectories) > 1:
        svg = lines("Episodes per goal", series, f"{prefix}g", "episodes (%)", floor=0, ceiling=100)
        panels.append(Panel(svg, "Share of each goal along training; a mode that collapses falls to 0."))
    if run.actions:
        actions = _two_columns(load_array(list(run.actions.values())[-1]))
        svg = toy_figures.probe_actions(actions, f"{prefix}a")
        panels.insert(
            1,
            Panel(
                svg, f"{count(len(actions), 'action')} drawn at the origin, where all goals are equally far."
            ),
        )
    amounts = [int(amount) for amount in counts]
    rows = [
        (goal, amount, 100 * amount / len(goals))
        for goal, amount in zip(toy_figures.GOAL_NAMES, amounts, strict=True)
    ]
    caption = f"Goals of {count(len(goals), 'episode')} at {number(newest)} environment steps"
    sheet = Sheet(f"goals-{name}", caption, ("goal (x, y)", "episodes", "share (%)"), rows)
    return Section(heading, figures=panels, sheets=[sheet])


def goal_counts(goals: np.ndarray) -> np.ndarray:
    """``[5]`` episodes per goal, none last. Raises ValueError for numbers other than -1 to 3."""
    if ((goals < -1) | (goals >= len(GOALS))).any():
        raise ValueError(f"goals must be from -1 to {len(GOALS) - 1}")
    return np.array([(goals == goal).sum() for goal in [*range(len(GOALS)), -1]])


def _goal_lines(run: Run) -> list[Line]:
    """Share of each goal over all saved trajectory files, in percent."""
    steps = np.array(list(run.trajectories), float)
    shares = [goal_counts(load_array(file, "goals")) for file in run.trajectories.values()]
    table = np.array([100 * counts / max(counts.sum(), 1) for counts in shares])
    return [Line(name, [(steps, table[:, index])]) for index, name in enumerate(toy_figures.GOAL_NAMES)]
