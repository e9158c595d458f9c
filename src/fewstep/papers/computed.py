"""The figures that need no training runs: what is computed for each, its drawing and its table."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fewstep.analysis.figures import style
from fewstep.analysis.figures import toys as toy_figures
from fewstep.analysis.numbers import count, short
from fewstep.analysis.report.sheets import Cell, Sheet
from fewstep.analysis.report.tables import over_seeds
from fewstep.envs.toys.bandit import HEIGHTS
from fewstep.papers import composite, estimates

WIDTH = 9.6
COLUMNS = 4
ACTIONS = (1, 6, 17)
POLICY, GAUSSIAN = 16, 32
TIMES = np.linspace(0.05, 0.95, 19)
NAMES = {
    "policy": "policy candidates",
    "gaussian": "Gaussian candidates",
    "ess": "mixed by ESS",
    "ess_per_candidate": "mixed by ESS per candidate",
    "ess_policy": "ESS of policy candidates",
    "ess_gaussian": "ESS of Gaussian candidates",
}
"""Fields of ``estimates.Judged``: errors, then effective sample sizes."""
SIZES = 4

Drawn = tuple[Callable[[], Figure], Sheet]
"""A figure, made inside ``styled()``, and its table."""


def composite_target(asked: Mapping[str, Any]) -> Drawn:
    """What policy classes make of SMFP's composite target; the picture shows the first seed."""
    updates = asked["updates"]
    learned = [composite.learn(name, updates, asked["seeds"]) for name in composite.trained(updates)]
    rows = [[each] for each in composite.known()] + learned
    body: list[list[Cell]] = []
    for row in rows:
        values = [(one.total_variation, one.reward, *(100 * share for share in one.shares)) for one in row]
        body.append([row[0].name, len(row), *(over_seeds(column) for column in zip(*values, strict=True))])
    heads = [f"bump of height {height:g} (%)" for height in HEIGHTS]
    caption = (
        f"Total variation to the composite target on {composite.BINS} x {composite.BINS} cells, mean reward "
        f"and shares of the four bumps, over seeds [lowest, highest]; {composite.SAMPLES:,} exact samples "
        f"would be at {composite.sampling_floor():.3f}"
    )
    sheet = Sheet("composite", caption, ("density", "seeds", "total variation", "reward", *heads), body)

    def draw() -> Figure:
        first = [row[0] for row in rows]
        top = 1.5 * float(next(one for one in first if one.name == "composite target").cells.max())
        pictures = [
            (
                one.name + (f" · TV {one.total_variation:.2f}" if one.total_variation else ""),
                one.cells,
                one.shares,
            )
            for one in first
        ]
        return toy_figures.densities_figure(pictures, COLUMNS, WIDTH, top)

    return draw, sheet


def velocity_estimates(asked: Mapping[str, Any]) -> Drawn:
    """Errors and effective sample sizes of MFPO's two proposals and their mixtures over t."""
    judge = jax.jit(estimates.judge, static_argnums=(0, 1, 2, 3, 4, 5))

    def over_t(act: int, seed: int) -> dict[str, np.ndarray]:
        settings = act, POLICY, GAUSSIAN, "independent", estimates.SIGMA, asked["states"]
        each = [judge(*settings, jnp.float32(t), seed)._asdict() for t in TIMES]
        return {name: np.array([float(one[name]) for one in each]) for name in each[0]}

    found = {act: [over_t(act, seed) for seed in range(asked["seeds"])] for act in ACTIONS}
    body: list[list[Cell]] = [
        [act, float(t), *(over_seeds([seed[name][place] for seed in found[act]]) for name in NAMES)]
        for act in ACTIONS
        for place, t in enumerate(TIMES)
    ]
    caption = (
        "Mean squared error per action dimension of the velocity, and effective sample sizes, over "
        f"{count(asked['seeds'], 'seed')} of {asked['states']:,} states [lowest, highest]"
    )
    sheet = Sheet("estimates", caption, ("action dimensions", "t", *NAMES.values()), body)

    def draw() -> Figure:
        figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
        panels = figure.subplots(2, len(ACTIONS), sharex=True)
        for column, act in enumerate(ACTIONS):
            for place, name in enumerate(NAMES):
                sizes = place >= SIZES
                mean = np.mean([seed[name] for seed in found[act]], axis=0)
                shown = mean / (POLICY if name == "ess_policy" else GAUSSIAN) if sizes else mean
                colour = style.SERIES[place - SIZES if sizes else place]
                panels[int(sizes), column].plot(TIMES, shown, color=colour, label=NAMES[name])
            errors, shares = panels[:, column]
            errors.set_yscale("log")
            errors.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            errors.yaxis.set_major_formatter(FuncFormatter(lambda y, _: short(y)))
            errors.yaxis.set_minor_formatter(NullFormatter())
            errors.set_title(count(act, "action dimension"))
            shares.set_ylim(0, 1.02)
            shares.set_xticks([0, 0.5, 1])
            shares.set_xlabel("t (0 action, 1 noise)")
        panels[0, 0].set_ylabel("squared error")
        panels[1, 0].set_ylabel("effective share of candidates")
        for last in panels[:, -1]:
            last.legend(fontsize=7, loc="lower left" if last is panels[0, -1] else "center left")
        return figure

    return draw, sheet


COMPUTATIONS: dict[str, Callable[[Mapping[str, Any]], Drawn]] = {
    "composite": composite_target,
    "estimates": velocity_estimates,
}
