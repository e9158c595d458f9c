"""Judging a policy: whole episodes on environments, seeds and keys of its own; training never notices."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from fewstep import envs
from fewstep.algos.contract import ActionMode, Algorithm, mode_name
from fewstep.training import compiled, seeds
from fewstep.training.signals import Check, never

Row = dict[str, Any]
Watch = Callable[[envs.VectorEnv, np.ndarray], None]
"""Called after the reset and after each step with the environments and which of them have just moved."""


@dataclass(frozen=True)
class Rollout:
    """Returns and lengths of complete episodes, one entry per environment."""

    returns: np.ndarray
    lengths: np.ndarray


def rollout(
    vector: envs.VectorEnv,
    act: compiled.Act,
    policy: Any,
    key: PRNGKeyArray,
    episode_seeds: Sequence[int],
    check: Check = never,
    watch: Watch | None = None,
) -> Rollout:
    """Play one episode on every environment, side by side; the finished ones wait for the rest."""
    obs = vector.reset(episode_seeds)
    running = np.ones(vector.count, bool)
    returns, lengths = np.zeros(vector.count), np.zeros(vector.count, np.int64)
    if watch:
        watch(vector, running)
    step = 0
    while running.any():
        check()
        actions = np.asarray(act(policy, obs, key, np.uint32(step)))
        result = vector.step(actions, running)
        returns += result.reward  # zero for those that have finished
        lengths += running
        if watch:
            watch(vector, running)
        running = running & ~(result.terminated | result.truncated)
        obs = result.obs
        step += 1
    return Rollout(returns, lengths)


class Evaluator:
    """Evaluates policies of one algorithm on one environment, always on the same episodes.

    The environments are built at the first use and kept.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        cfg: Any,
        env: Any,
        *,
        episodes: int,
        modes: Sequence[str],
        seed: int,
        max_episode_steps: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Args:
        algorithm, cfg: what the policy belongs to.
        env: environment id, or a function that builds one.
        episodes: episodes per evaluation and mode.
        modes: how actions are chosen, as the user types it; two names of one mode count once.
        seed: decides the episodes and the policy's draws.
        max_episode_steps: as in training.
        timeout: seconds that a reset or step may take; the environments then live in another process.
        """
        self._modes = list(dict.fromkeys(algorithm.mode(cfg, text) for text in modes))
        self._algorithm, self._cfg, self._env = algorithm, cfg, env
        self._limit = max_episode_steps
        self._timeout = timeout
        self._seeds = seeds.evaluation_seeds(seed, episodes)
        self._key = seeds.key(seed, seeds.Stream.EVALUATE)
        self._vector: envs.VectorEnv | None = None

    def evaluate(self, policy: Any, env_steps: int, updates: int, check: Check = never) -> list[Row]:
        """One row of ``evaluations.jsonl`` per action mode; ``env_steps`` addresses the policy's draws."""
        return [self._evaluate(policy, mode, env_steps, updates, check) for mode in self._modes]

    def _evaluate(self, policy: Any, mode: ActionMode, env_steps: int, updates: int, check: Check) -> Row:
        began = time.monotonic()
        if self._vector is None:
            count, watch = len(self._seeds), None
            if self._timeout is not None:
                watch = envs.Supervision(self._timeout, per_process=count)
            self._vector = envs.make(self._env, count, max_episode_steps=self._limit, watch=watch)
        act = compiled.act(self._algorithm, self._cfg, mode)
        key = seeds.fold_in(self._key, env_steps)
        played = rollout(self._vector, act, policy, key, self._seeds, check)
        return {
            "env_steps": env_steps,
            "updates": updates,
            "actions": mode_name(mode),
            "returns": played.returns.tolist(),
            "lengths": played.lengths.tolist(),
            "seeds": self._seeds,
            "wall_seconds": round(time.monotonic() - began, 3),
        }

    def close(self) -> None:
        """Close the environments."""
        if self._vector is not None:
            self._vector.close()
