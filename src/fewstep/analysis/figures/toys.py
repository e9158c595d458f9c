"""Figures of the toy environments: one function per figure, each returning an ``<svg>`` element."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from fewstep.analysis.figures import style
from fewstep.analysis.numbers import count, percent
from fewstep.envs.toys.bandit import CENTRES
from fewstep.envs.toys.multigoal import ARENA, GOAL_RADIUS, GOALS

BINS = 40
"""Cells per side of every density, the same as in the total variation that is printed."""

EPISODES_DRAWN = 200

GOAL_NAMES = (*(f"({x:g}, {y:g})".replace("-", "−") for x, y in GOALS), "none")

SQUARE = (0.13, 0.11, 0.82, 0.82)
"""Axes of a picture of the plane, in parts of its figure."""


def histogram(actions: np.ndarray, bins: int = BINS) -> np.ndarray:
    """``[bins, bins]`` density of ``actions[N, 2]`` on the box: sums to 1 over cells of area (2 / bins)^2."""
    box = [[-1.0, 1.0], [-1.0, 1.0]]
    cells = np.histogram2d(actions[:, 0], actions[:, 1], bins=bins, range=box)[0]
    return cells / (len(actions) * (2 / bins) ** 2)


def densities(
    pictures: Sequence[tuple[str, np.ndarray, Sequence[float]]],
    columns: int,
    width: float,
    name: str,
    top: float | None = None,
) -> Markup:
    """Densities over the action box on one colour scale.

    Args:
        pictures: ``(title, density [n, n], shares)``; ``density[i, j]`` belongs to the i-th x and j-th y,
            shares are those of the four bumps and written beside them (empty: none).
        columns: pictures per row.
        width: inches.
        name: prefix of ids.
        top: density of the brightest colour, which all above it share; None is the highest of all.
    """
    with style.styled():
        return style.to_svg(densities_figure(pictures, columns, width, top), name)


def densities_figure(
    pictures: Sequence[tuple[str, np.ndarray, Sequence[float]]],
    columns: int,
    width: float,
    top: float | None = None,
) -> Figure:
    """``densities`` as a matplotlib figure, to be called inside ``styled()``."""
    rows = -(-len(pictures) // columns)
    side, title_height, left, bottom = (width - 0.55) / columns, 0.3, 0.55, 0.4
    height = rows * (side + title_height - 0.1) + bottom
    top_end = top or max(float(np.max(picture[1])) for picture in pictures)
    figure = Figure(figsize=(width, height))
    for index, (title, density, shares) in enumerate(pictures):
        row, column = divmod(index, columns)
        corner = (left + column * side, height - (row + 1) * (side + title_height - 0.1))
        inner = side - 0.1
        axes = figure.add_axes((corner[0] / width, corner[1] / height, inner / width, inner / height))
        _density(axes, density, shares, top_end)
        axes.set_title(title, fontsize=8.5, pad=4)
        at_left, at_bottom = column == 0, index + columns >= len(pictures)
        axes.tick_params(labelleft=at_left, labelbottom=at_bottom)
        axes.set_xlabel("action, coordinate 1" if at_bottom else "")
        axes.set_ylabel("action, coordinate 2" if at_left else "")
    return figure


def _density(axes: Axes, density: np.ndarray, shares: Sequence[float], top: float) -> None:
    density_image(axes, density, top)
    axes.set_xticks([-0.5, 0, 0.5], ["−0.5", "0", "0.5"])
    axes.set_yticks([-0.5, 0, 0.5], ["−0.5", "0", "0.5"])
    for (x, y), share in zip(CENTRES, shares, strict=False):
        text = f"{100 * share:.0f} %"
        axes.annotate(text, (x, 0.9 * np.sign(y)), ha="center", va="center", color="#ffffff", fontsize=7.5)


def density_image(axes: Axes, density: np.ndarray, top: float) -> None:
    """``density[n, n]`` over the action box, by the root of its height, ``top`` the brightest."""
    axes.imshow(
        density.T,
        origin="lower",
        extent=(-1, 1, -1, 1),
        cmap="viridis",
        norm=PowerNorm(0.5, 0, top),
        interpolation="none",
    )
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def probe_actions(actions: np.ndarray, name: str) -> Markup:
    """Density of ``actions[N, 2]`` at one observation."""
    side = style.PANEL[0]
    with style.styled():
        figure = Figure(figsize=(side, side))
        axes = figure.add_axes(SQUARE)
        density = histogram(actions, BINS // 2)
        _density(axes, density, (), float(density.max()))
        axes.set_title("Density of the action at the start")
        axes.set_xlabel("action, coordinate 1")
        axes.set_ylabel("action, coordinate 2")
        return style.to_svg(figure, name)


def trajectories(positions: np.ndarray, goals: np.ndarray, name: str) -> Markup:
    """Paths of ``positions[episodes, T + 1, 2]`` (NaN after the end), coloured by the goal they reached."""
    side = style.PANEL[0]
    with style.styled():
        figure = Figure(figsize=(side, side))
        axes = figure.add_axes(SQUARE)
        draw_trajectories(axes, positions, goals)
        axes.set_title("Trajectories and share of episodes per goal")
        return style.to_svg(figure, name)


def draw_trajectories(axes: Axes, positions: np.ndarray, goals: np.ndarray) -> None:
    """``trajectories`` on axes of their own, to be called inside ``styled()``."""
    for index, goal in enumerate(GOALS):
        axes.add_patch(Circle((goal[0], goal[1]), GOAL_RADIUS, color=style.SERIES[index], alpha=0.2, lw=0))
    drawn, reached = positions[:EPISODES_DRAWN], goals[:EPISODES_DRAWN]
    for goal in range(-1, len(GOALS)):
        colour = style.SERIES[goal] if goal >= 0 else style.MUTED
        _paths(axes, drawn[reached == goal], colour)
    for index, goal in enumerate(GOALS):
        share = percent(float((goals == index).mean()))
        offset = 1.4 if abs(goal[1]) < 1 else 0.0  # below the sideways goals, beyond the others
        place = (goal[0], goal[1] - offset) if offset else (goal[0] + 1.2, goal[1])
        anchor = "center" if offset else "left"
        axes.annotate(share, place, ha=anchor, va="center", color=style.SERIES[index], fontweight="bold")
    axes.set_xlim(-ARENA, ARENA)
    axes.set_ylim(-ARENA, ARENA)
    axes.set_aspect("equal")
    axes.set_xticks([-5, 0, 5], ["−5", "0", "5"])
    axes.set_yticks([-5, 0, 5], ["−5", "0", "5"])
    axes.grid(visible=False)
    axes.set_xlabel("x")
    axes.set_ylabel("y")


def _paths(axes: Axes, paths: np.ndarray, colour: str) -> None:
    """All paths as one compound line, with a dot where each begins."""
    if not len(paths):
        return
    lines = [path[np.isfinite(path).all(-1)] for path in paths]
    lines = [line for line in lines if len(line) > 1]
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.7, alpha=0.6))
    starts = np.array([line[0] for line in lines]).reshape(-1, 2)
    style.dots(axes, starts[:, 0], starts[:, 1], colour, 2.2, 0.8)


def goal_bars(counts: np.ndarray, name: str) -> Markup:
    """How many episodes ended at each goal; ``counts[goals + 1]``, the last for none."""
    total = int(counts.sum())
    hues = [*style.SERIES[: len(GOALS)], style.MUTED]
    with style.styled():
        figure, axes = style.panel(right=0.6)
        rows = np.arange(len(GOAL_NAMES))[::-1]
        axes.barh(rows, 100 * counts / max(total, 1), height=0.62, color=hues)
        for row, amount in zip(rows, counts, strict=True):
            axes.annotate(
                percent(amount / total),
                (100 * amount / total, row),
                (4, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_yticks(rows, GOAL_NAMES)
        axes.set_xlim(0, max(40.0, 100 * counts.max() / total))
        axes.grid(visible=False)
        axes.set_xlabel(f"% of {count(total, 'episode')}")
        axes.set_title("Episodes per goal")
        style.quantity(axes, "goal (x, y)")
        return style.to_svg(figure, name)
