"""SMFP's figure 3 from our own runs: action densities on Push-T, at the same states, along training.

An action of ``pusht/state`` is where the disc is to go, so a density over actions is a picture of the table.
States are chosen by a rule that no policy enters: of ``EPISODES`` starts, those in which the disc stands most
on the side that the block is to move to. Such a disc has to get around the block, left or right.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fewstep import envs
from fewstep.algos.contract import ActionMode
from fewstep.analysis.figures import style
from fewstep.analysis.figures.toys import density_image, histogram
from fewstep.analysis.numbers import short
from fewstep.analysis.runs.reading import Run, load_array
from fewstep.errors import UsageError
from fewstep.runs.layout import RunDir
from fewstep.training import saved_policy
from fewstep.training.acting import bind

ENV = "pusht/state"
STAGES = (0.25, 0.5, 1.0)
"""Parts of the training after which the policies are looked at."""
EPISODES, STATES, ACTIONS = 200, 3, 5_000
FURTHEST = 0.3
"""A block nearer than this to where it belongs, in half widths of the table, has hardly a way to go."""
BINS = 24
Floats = NDArray[np.float64]


def stages(steps: int) -> list[int]:
    """Environment steps after which a run of ``steps`` is looked at."""
    return sorted({max(1, round(share * steps)) for share in STAGES})


def behind(obs: Floats) -> Floats:
    """``[N]`` how much the disc is on the block's way: cosine of the angle, seen from the block, between the
    disc and where the block belongs (the middle of the table), -1 if the block is there already.

    Args:
        obs: ``[N, 6]`` of ``pusht/state``: disc, block, cosine and sine of its angle.
    """
    disc, block = obs[:, :2], obs[:, 2:4]
    seen, way = disc - block, -block
    lengths = np.linalg.norm(seen, axis=1) * np.linalg.norm(way, axis=1)
    cosine = (seen * way).sum(1) / np.maximum(lengths, 1e-12)
    return np.where(np.linalg.norm(way, axis=1) < FURTHEST, -1.0, cosine)


def states() -> NDArray[np.float32]:
    """``[STATES, 6]`` observations: of the episodes with seeds 0, 1, ..., the starts that ``behind`` ranks
    highest."""
    env = envs.make(ENV, 1)
    try:
        starts = np.concatenate([env.reset([seed]) for seed in range(EPISODES)])
    finally:
        env.close()
    return starts[np.argsort(-behind(starts.astype(np.float64)), kind="stable")[:STATES]]


def sample_file(run: Path, steps: int) -> Path:
    """Where the actions of a run after ``steps`` are."""
    return RunDir(run).samples / f"states-{steps:09d}.npy"


def keep(run: Path, steps: int, obs: NDArray[np.float32]) -> None:
    """Write ``[STATES, ACTIONS, 2]`` single samples of a run's policy at ``obs``.

    Raises:
        UsageError: the run's policy is not that of ``steps``.
    """
    saved = saved_policy.load(RunDir(run).policy)
    if saved.env_steps != steps:
        raise UsageError(f"{run}: its policy is of {saved.env_steps:,} steps, {steps:,} are asked for")
    key = jax.random.key(steps)
    act = bind(saved.algorithm, saved.cfg, saved.spec, ActionMode(), saved.policy, key)
    drawn = [act(np.tile(one, (ACTIONS, 1)), place) for place, one in enumerate(obs)]
    path = sample_file(run, steps)
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(f".{path.name}")  # the name says that it is whole
    with open(new, "wb") as file:
        np.save(file, np.stack(drawn))
    new.replace(path)


def figure(shown: Sequence[tuple[str, Run]], width: float) -> Figure:
    """A row per policy, at each state a density for every stage; to be called inside ``styled()``.

    Raises:
        UsageError: a run has no samples.
    """
    steps = {run.path: sorted(run.path.glob("samples/states-*.npy")) for _, run in shown}
    if missing := [run.path for _, run in shown if not steps[run.path]]:
        raise UsageError(f"{missing[0]} has no samples at the chosen states: run the item without --draw")
    obs = states()
    columns = max(len(files) for files in steps.values())
    side = width / (STATES * columns)
    drawn = Figure(figsize=(width, side * 1.04 * len(shown) + 0.4), layout="constrained")
    grid = drawn.subplots(len(shown), STATES * columns, squeeze=False)
    for number, ((name, run), row) in enumerate(zip(shown, grid, strict=True)):
        for place, file in enumerate(steps[run.path]):
            sampled = load_array(file)
            for state in range(STATES):
                axes = row[state * columns + place]
                _table(axes, sampled[state].astype(np.float64), obs[state])
                if number == 0:
                    axes.set_title(short(int(file.stem.rpartition("-")[2])), fontsize=7.5, loc="center")
        row[0].set_ylabel(name, fontsize=7.5)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    return drawn


def _table(axes: Axes, actions: Floats, obs: NDArray[np.float32]) -> None:
    """Where a policy sends the disc, the disc (a ring), the block (a square), where it belongs (a cross)."""
    density = histogram(actions, BINS)
    density_image(axes, density, float(density.max()))
    for (x, y), marker, hollow in (
        (obs[:2], "o", True),
        (obs[2:4], "s", True),
        ((0.0, 0.0), "+", False),
    ):
        colour = style.SERIES[1]
        axes.plot([x], [y], marker, color=colour, mfc="none" if hollow else colour, ms=4.5, mew=1.2)
    axes.set_xlim(-1, 1)
    axes.set_ylim(1, -1)  # as the table is drawn, y goes down
