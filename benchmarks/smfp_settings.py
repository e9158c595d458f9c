"""What alpha, lambda, target_std and K do to SMFP's policy on ``toy/bandit``, in one figure.

The true reward stands in for the critic; the replayed actions of mirror descent are uniform, as after random
steps. ``surrogate`` is the paper's reading (hinge at target_std, lambda 3, alpha 0.2), ``H_K`` the
semi-implicit bound (K = 31, no mirror descent, alpha 0.2). 256 network rows per improvement whatever the
setting. Judged by 40,000 samples: total variation to exp(reward / alpha) / Z, and how many of the four bumps
have at least half of the target's mass within one width of their centre.

    python -m benchmarks.smfp_settings           # rows and figure, about six minutes on one free core
    python -m benchmarks.smfp_settings --draw    # the figure alone, from the rows there are
"""

import argparse
import json
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from benchmarks import record
from benchmarks.smfp_bandit import true_reward
from fewstep.algos.contract import ActionMode
from fewstep.algos.smfp import ALGORITHM, learner
from fewstep.algos.smfp import config as c
from fewstep.analysis.figures import style
from fewstep.envs.toys import bandit
from fewstep.types import Spec

SAMPLES, UPDATES, ANNEAL = 40_000, 5_000, 2_500
SURROGATE, BOUND = "surrogate", "H_K"
SWEEPS: dict[str, dict[str, tuple[float, ...]]] = {
    "alpha": {SURROGATE: (0.05, 0.1, 0.2, 0.4, 0.8), BOUND: (0.05, 0.1, 0.2, 0.4, 0.8)},
    "lambda": {SURROGATE: (0.3, 3.0, 30.0, 300.0), BOUND: (0.3, 3.0, 30.0, 300.0)},
    "target_std": {SURROGATE: (0.001, 0.0033, 0.01, 0.033, 0.1, 0.3)},
    "K": {BOUND: (0, 1, 3, 7, 15, 31, 63)},
}
"""Setting -> policy -> values; everything else as the module says."""


@dataclass(frozen=True)
class Point:
    """One policy to train."""

    kind: str
    alpha: float = 0.2
    weight: float = 0.0
    target_std: float = 0.0033
    components: int = 31

    def config(self) -> c.SMFPConfig:
        soft = self.kind == BOUND
        return c.SMFPConfig(
            actor=c.ActorConfig(
                hidden=(128, 128, 128),
                learning_rate=5e-4,
                samples=self.components + 1 if soft else 1,
                bound_weight=10.0,
            ),
            critic=c.CriticConfig(hidden=(4,)),
            mirror=c.MirrorConfig(weight=self.weight),
            entropy=c.EntropyConfig(
                kind="semi_implicit" if soft else "hinge",
                components=self.components,
                noise="stratified" if soft else "independent",
                target_std=self.target_std,
            ),
            temperature=c.TemperatureConfig(
                initial=self.alpha,
                anneal_factor=max(1.0 / self.alpha, 1.0),
                anneal_updates=ANNEAL if soft else 0,
            ),
        )

    @property
    def states(self) -> int:
        return 256 // (self.components + 1) if self.kind == BOUND else 256


def point(setting: str, kind: str, value: float) -> Point:
    base = Point(kind, weight=3.0 if kind == SURROGATE else 0.0)
    if setting == "alpha":
        return replace(base, alpha=value)
    if setting == "lambda":
        return replace(base, weight=value)
    if setting == "target_std":
        return replace(base, target_std=value)
    return replace(base, components=int(value))


def measure(one: Point) -> dict[str, object]:
    """Train one policy and judge its samples."""
    cfg, obs = one.config(), jnp.ones((one.states, 1))

    @partial(jax.jit, donate_argnums=0)
    def chunk(state: learner.State) -> tuple[learner.State, dict[str, jax.Array]]:
        def body(s: learner.State, _: None) -> tuple[learner.State, dict[str, jax.Array]]:
            key = jax.random.fold_in(jax.random.key(99), s.updates)
            replayed = jax.random.uniform(key, (one.states, 2), minval=-1.0, maxval=1.0)
            s, metrics = learner.improve(cfg, s, true_reward, obs, replayed)
            return replace(s, updates=s.updates + 1), metrics

        state, metrics = jax.lax.scan(body, state, None, length=500)
        return state, jax.tree.map(jnp.mean, metrics)

    state = learner.init(cfg, Spec(1, 2), jax.random.key(0))
    metrics: dict[str, jax.Array] = {}
    for _ in range(UPDATES // 500):
        state, metrics = chunk(state)
    act = jax.jit(lambda p, o, k: ALGORITHM.act(cfg, p, o, k, ActionMode()))
    actions = np.asarray(act(learner.policy(state), jnp.ones((SAMPLES, 1)), jax.random.key(1234)))
    cells = bandit.cell_centres(200)
    grid = np.stack(np.meshgrid(cells, cells, indexing="ij"), -1).reshape(-1, 2)
    wanted = mass_near(grid, bandit.cell_probabilities(one.alpha, 200).ravel())
    held = mass_near(actions, np.full(SAMPLES, 1.0 / SAMPLES)) > 0.5 * wanted
    return {
        "total_variation": round(float(bandit.total_variation(actions, one.alpha)), 3),
        "mode_shares": [round(float(x), 3) for x in bandit.mode_shares(actions)],
        "modes_held": int(held.sum()),
        "mean_reward": round(float(bandit.reward(actions).mean()), 3),
        "spread_of_mean": round(float(metrics["policy/mean_spread"]), 3),
        "log_std": round(float(metrics["policy/log_std"]), 3),
    }


def mass_near(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight of ``points[N, 2]`` within one width of each bump's centre."""
    distance = np.linalg.norm(points[:, None] - np.asarray(bandit.CENTRES), axis=-1)
    return weights @ (distance <= bandit.WIDTH)


def draw() -> None:
    """Two rows of panels: distance to the target, and the bumps that are held."""
    rows = json.loads((record.FOLDER / "smfp_settings.json").read_text())
    titles = {
        "alpha": "temperature α",
        "lambda": "weight λ",
        "target_std": "target_std",
        "K": "fresh components K",
    }
    with style.styled():
        figure = Figure(figsize=(11.0, 4.4))
        grid = figure.subplots(2, 4, sharey="row", sharex="col")
        for column, (setting, kinds) in enumerate(SWEEPS.items()):
            for kind, values in kinds.items():
                there = [value for value in values if f"{setting}={value:g} {kind}" in rows]
                found = [rows[f"{setting}={value:g} {kind}"] for value in there]
                colour = style.SERIES[0 if kind == BOUND else 1]
                x = [v + 1 if setting == "K" else v for v in there]
                for axes, quantity in zip(grid[:, column], ("total_variation", "modes_held"), strict=True):
                    axes.plot(x, [row[quantity] for row in found], "o-", ms=3.5, color=colour, label=kind)
            # Labels by hand: the style leaves dollar signs alone, which the logarithmic axis would need.
            marks = sorted({v for values in kinds.values() for v in values})
            for axes in grid[:, column]:
                axes.set_xscale("log")
                axes.set_xticks([v + 1 if setting == "K" else v for v in marks], [f"{v:g}" for v in marks])
                axes.minorticks_off()
            grid[1, column].set_xlabel(titles.get(setting, setting))
        grid[0, 0].set_title("Total variation to the target")
        grid[1, 0].set_title("Bumps held, of 4")
        grid[0, 0].set_ylim(0, 1)
        grid[1, 0].set_ylim(-0.2, 4.4)
        grid[0, 0].legend(loc="center left")
        figure.tight_layout()
        (record.FOLDER / "smfp_settings.svg").write_bytes(style.to_file(figure, "svg"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--draw", action="store_true", help="draw the figure from the rows there are")
    arguments = parser.parse_args()
    for setting, kinds in SWEEPS.items():
        for kind, values in kinds.items():
            for value in values:
                name = f"{setting}={value:g} {kind}"
                if arguments.only in name and not arguments.draw:
                    record.update("smfp_settings", name, measure(point(setting, kind, value)))
    draw()


if __name__ == "__main__":
    main()
