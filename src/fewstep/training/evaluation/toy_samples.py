"""What a policy does on a toy environment, kept as arrays for the report's pictures."""

from pathlib import Path
from typing import Any

import numpy as np

from fewstep import envs
from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.config import RunConfig
from fewstep.training import seeds
from fewstep.training.acting import Acting, bind
from fewstep.training.evaluation.evaluate import rollout
from fewstep.training.signals import Check
from fewstep.types import Spec

ACTIONS = 10_000
"""Actions sampled at the toy's probe observation."""
EPISODES = 64
"""Trajectories kept of a toy with positions."""


class Probes:
    """Samples a policy on a toy and writes ``samples/``. On any other environment it does nothing."""

    def __init__(
        self, algorithm: Algorithm, config: RunConfig, spec: Spec, toy: envs.Toy | None, folder: Path
    ) -> None:
        self._toy, self._folder, self._config = toy, folder, config
        self._algorithm, self._spec = algorithm, spec
        self._key = seeds.key(config.seed, seeds.Stream.PROBE)
        self._seeds = [seeds.integer(config.seed, seeds.Draw.PROBE, i) for i in range(EPISODES)]
        self._vector: envs.VectorEnv | None = None

    def write(self, policy: Any, env_steps: int, check: Check) -> None:
        """Write ``actions-<env_steps>.npy`` and, if the toy has goals, ``trajectories-<env_steps>.npz``."""
        if self._toy is None:
            return
        self._folder.mkdir(exist_ok=True)
        key = seeds.fold_in(self._key, env_steps)
        obs = np.tile(self._toy.probe_obs, (ACTIONS, 1))
        act = bind(self._algorithm, self._config.algorithm, self._spec, ActionMode(), policy, key)
        np.save(self._folder / f"actions-{env_steps:09d}.npy", act(obs, 2**32 - 1))
        if self._toy.goal_count:
            positions, goals = self._trajectories(self._toy, act, check)
            path = self._folder / f"trajectories-{env_steps:09d}.npz"
            np.savez_compressed(path, positions=positions, goals=goals)

    def _trajectories(self, toy: envs.Toy, act: Acting, check: Check) -> tuple[np.ndarray, np.ndarray]:
        """``positions`` [episodes, T+1, 2], NaN after the end, and ``goals`` [episodes], -1 for none."""
        if self._vector is None:
            training = self._config.training
            self._vector = envs.make(
                self._config.env,
                EPISODES,
                max_episode_steps=training.max_episode_steps,
                action_repeat=training.action_repeat,
            )
        path: list[np.ndarray] = []
        last = np.zeros((EPISODES, 2), np.float32)

        def watch(vector: envs.VectorEnv, moved: np.ndarray) -> None:
            position = toy.position(vector)
            assert position is not None
            last[moved] = position[moved]
            path.append(np.where(moved[:, None], position, np.nan))

        longest = self._vector.longest_episode()
        rollout(self._vector, act, self._seeds, longest, check, watch)
        goals = toy.goal_of(last)
        assert goals is not None
        return np.stack(path, axis=1).astype(np.float32), goals

    def close(self) -> None:
        """Close the environments."""
        if self._vector is not None:
            self._vector.close()
