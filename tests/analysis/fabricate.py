"""Run directories made by hand, in the format of a real one, with numbers a test can predict."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fewstep.envs.toys import bandit, multigoal

CONFIG = """\
algo = "{algo}"
env = "{env}"
seed = {seed}
preset = "{preset}"

[training]
steps = {steps}
eval_episodes = 5

[actor]
hidden = [128, 128]
steps = 2

[critic]
atoms = {atoms}

[proposals]
policy = 16
gaussian = 32

[temperature]
target_entropy_per_dim = -0.5
"""


@dataclass(frozen=True)
class Made:
    """How to make a run; ``rows`` metrics and evaluations, ``episodes`` per evaluation and mode."""

    env: str = "HalfCheetah-v4"
    algo: str = "mfpo"
    preset: str = "small"
    seed: int = 0
    mujoco: str = "3.17.0"
    atoms: int = 101
    rows: int = 20
    episodes: int = 5
    modes: tuple[str, ...] = ("best-of-10", "sample")
    interval: int = 1000
    height: float = 3000.0
    alpha_end: float = 0.01
    extra: dict[str, float] = field(default_factory=dict)


def mean_return(made: Made, mode: str, row: int) -> float:
    """The mean return that ``make`` writes for evaluation ``row`` (from 1), exactly."""
    offset = made.height * ({"best-of-10": 1 / 30}.get(mode, 0.0) + made.seed / 60)
    return round(made.height * (1 - 2.0 ** (-row / 4)), 3) + offset


def make(path: Path, made: Made) -> Path:
    """Write the directory."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(made.seed)
    steps = made.rows * made.interval
    (path / "config.toml").write_text(
        CONFIG.format(
            algo=made.algo, env=made.env, preset=made.preset, seed=made.seed, atoms=made.atoms, steps=steps
        )
    )
    provenance = {
        "created_at": "2025-01-02T03:04:05+00:00",
        "command": f"fewstep train {made.algo} {made.env}",
        "versions": {
            "python": "3.11.2",
            "fewstep": "0.1.0",
            "jax": "0.10.2",
            "numpy": "2.3.0",
            "mujoco": made.mujoco,
            "gymnasium": "1.3.0",
        },
        "device": "cpu",
        "cpu_count": 2,
        "git": {"commit": "0123abc", "dirty": False},
        "config_sha256": "f" * 64,
    }
    (path / "provenance.json").write_text(json.dumps(provenance))
    metrics = [_metrics(made, row, rng) for row in range(1, made.rows + 1)]
    write_rows(path / "metrics.jsonl", metrics)
    evaluations = [
        {
            "env_steps": row * made.interval,
            "updates": max(row - 1, 0) * made.interval,
            "actions": mode,
            "returns": _around(mean_return(made, mode, row), made, rng),
            "lengths": [1000] * made.episodes,
            "seeds": list(range(made.episodes)),
            "wall_seconds": 1.5,
        }
        for row in range(1, made.rows + 1)
        for mode in made.modes
    ]
    write_rows(path / "evaluations.jsonl", evaluations)
    (path / "policy").mkdir()
    (path / "policy" / "policy.json").write_text(
        json.dumps({"spec": {"obs_size": 17, "act_size": 6}, "native_actions": made.modes[0]})
    )
    (path / "log.txt").write_text("a line\n")
    return path


def _around(centre: float, made: Made, rng: np.random.Generator) -> list[float]:
    noise = 0.07 * made.height * rng.normal(size=made.episodes)
    return [float(value) for value in centre + noise - noise.mean()]


def _metrics(made: Made, row: int, rng: np.random.Generator) -> dict[str, float | None]:
    noise, done = rng.normal(), row / made.rows
    base: dict[str, float | None] = {
        "env_steps": row * made.interval,
        "updates": (row - 1) * made.interval,
        "episodes": row,
        "episode_return": None if row == 1 else made.height * done + 100 * noise,
        "episode_length": None if row == 1 else 1000.0,
        "wall_seconds": 12.0 * row,
        "wall_env_steps_per_second": made.interval / 12.0 + 5 * noise,
    }
    if row == 1:  # warming up
        return base
    learned = {
        "critic/loss": 2.5 + np.exp(-4 * done) + 0.05 * noise,
        "critic/q_mean": 300 * done + noise,
        "critic/q_std": 40 + noise,
        "critic/target_saturated_share": 0.002 * (1 + 0.3 * noise) ** 2,
        "actor/loss": 1.2 + 0.1 * noise,
        "actor/velocity_norm": 2 + 0.1 * noise,
        "divergence/loss": 0.4 + 0.03 * noise,
        "divergence/target_mean": -3 * done + 0.1 * noise,
        "policy/entropy": 4 - 7 * min(1.0, 2 * done) + 0.2 * noise,
        "policy/clipped_share": 0.3 * done,
        "policy/candidate_q_gap": 1.5 + 0.1 * noise,
        "temperature/alpha": made.alpha_end * np.exp(3 * (1 - done)),
        "temperature/loss": 0.1 * noise,
        "snis/ess_policy": 8 + 0.8 * noise,
        "snis/ess_gaussian": 4 + 0.4 * noise,
        "snis/rho": 0.7 + 0.02 * noise,
    }
    return base | {name: float(value) for name, value in learned.items()} | dict(made.extra)


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def add_bandit_samples(run: Path, steps: tuple[int, ...], alpha: float, n: int = 2000) -> None:
    """Exact Boltzmann samples at every step, the earlier ones blurred with uniform actions."""
    (run / "samples").mkdir()
    rng = np.random.default_rng(0)
    for index, step in enumerate(steps, 1):
        actions = bandit.sample_boltzmann(alpha, n, rng)
        random = rng.random(n) > index / len(steps)
        actions[random] = rng.uniform(-1, 1, (int(random.sum()), 2))
        np.save(run / "samples" / f"actions-{step:09d}.npy", actions.astype(np.float32))


def add_trajectories(run: Path, step: int, goals: list[int]) -> None:
    """Straight walks to the given goals (-1: two steps sideways, then the end)."""
    (run / "samples").mkdir(exist_ok=True)
    rng = np.random.default_rng(step)
    positions = np.full((len(goals), 31, 2), np.nan)
    for row, goal in enumerate(goals):
        end = multigoal.GOALS[goal] if goal >= 0 else np.array([1.0, 1.0])
        path = np.linspace(rng.normal(0, 0.1, 2), end, 8)
        path[1:-1] += rng.normal(0, 0.25, (6, 2))
        positions[row, :8] = path
    np.savez(run / "samples" / f"trajectories-{step:09d}.npz", positions=positions, goals=np.array(goals))
