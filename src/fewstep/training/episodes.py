"""The running episodes of a run's environments: their seeds, counters, and how a resume finds them again."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.envs import StepResult, VectorEnv
from fewstep.errors import FewstepError
from fewstep.training import seeds

LONGEST_KEPT = 100_000
"""Steps of one episode whose actions are remembered. A longer one is abandoned by a resume."""


class Episodes:
    """Steps N environments and starts the next episode where one has ended.

    Every episode is reset with a seed of its own, addressed by environment and number, so an episode is
    determined by that seed and its actions. A resume takes both from the checkpoint and plays the running
    episodes again up to where they were: exact for every environment that is deterministic under its seed,
    without asking it for its simulator's state, at the price of at most one episode of simulation.

    Attributes:
        obs: ``[N, obs_size]`` observation that the next action is for.
        steps: environment steps taken, over all environments.
        count: episodes finished.
        largest_reward: the largest size of a reward so far.
        notes: lines worth keeping, for whoever takes them.
    """

    def __init__(self, envs: VectorEnv, seed: int, limit: int | None = None) -> None:
        """``limit`` is the time limit that was asked for."""
        self._envs = envs
        self._limit = limit
        self._seed = seed
        self.steps = 0
        self.count = 0
        self.largest_reward = 0.0
        self.notes: list[str] = []
        self._index = np.zeros(envs.count, np.int64)
        self._returns = np.zeros(envs.count)
        self._lengths = np.zeros(envs.count, np.int64)
        self._actions: list[list[NDArray[np.float32]]] = [[] for _ in range(envs.count)]
        self._finished: list[tuple[float, int]] = []
        self.obs = self._start(np.ones(envs.count, bool))

    def step(self, action: NDArray[np.float32]) -> StepResult:
        """One step of every environment; ``obs`` is then that of the next."""
        result = self._envs.step(action)
        self.steps += self._envs.count
        self._returns += result.reward
        self._lengths += 1
        self.largest_reward = max(self.largest_reward, float(np.abs(result.reward).max()))
        for taken, row in zip(self._actions, action, strict=True):
            if len(taken) <= LONGEST_KEPT:
                taken.append(row.copy())
        ended = result.terminated | result.truncated
        if self._limit is not None and result.truncated.any():
            self._compare_with_limit(self._limit, result)
        self.obs = self._finish(ended, result.lost) if ended.any() else result.obs
        return result

    def _compare_with_limit(self, limit: int, result: StepResult) -> None:
        """Say so, once, if the environment has a tighter limit in its own code, where nothing shows it."""
        early = result.truncated & ~result.terminated & ~result.lost & (self._lengths < limit)
        if early.any():
            self._limit = None
            self.notes.append(
                f"training.max_episode_steps is {limit:,}, but the environment itself ended an episode after "
                f"{self._lengths[early][0]:,} steps (truncated): its own limit counts"
            )

    def abandon(self, index: int) -> bool:
        """Leave the running episode of one environment, which is no longer where the episode left it.

        The episode has no return and is not counted. A new one begins; one that had no step yet begins again.
        Gives whether steps were left.
        """
        length = int(self._lengths[index])
        if length == 0:
            self._index[index] -= 1
        else:
            self.notes.append(
                f"environment {index}: its episode was left after {length:,} steps, for an evaluation"
            )
        only = np.zeros(self._envs.count, bool)
        only[index] = True
        self.obs = self._start(only)
        return length > 0

    def _finish(self, ended: NDArray[np.bool_], lost: NDArray[np.bool_]) -> NDArray[np.float32]:
        for index in np.flatnonzero(ended & ~lost):
            self._finished.append((float(self._returns[index]), int(self._lengths[index])))
            self.count += 1
        return self._start(ended)

    def _start(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Reset the masked environments, each with the addressed seed of its next episode."""
        chosen = [seeds.reset_seed(self._seed, env, int(episode)) for env, episode in enumerate(self._index)]
        self._index[mask] += 1
        self._returns[mask] = 0.0
        self._lengths[mask] = 0
        for index in np.flatnonzero(mask):
            self._actions[index] = []
        return self._envs.reset(chosen, mask)

    def take_finished(self) -> list[tuple[float, int]]:
        """(return, length) of every episode that has ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def snapshot(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON values that ``restore`` takes."""
        arrays: dict[str, NDArray[Any]] = {"obs": self.obs, "returns": self._returns.copy()}
        for index, taken in enumerate(self._actions):
            if len(taken) <= LONGEST_KEPT:
                arrays[f"actions_{index}"] = np.array(taken, np.float32).reshape(-1, self._envs.spec.act_size)
        meta = {
            "episodes": self.count,
            "episode_index": self._index.tolist(),
            "episode_lengths": self._lengths.tolist(),
            "finished": self._finished,
            "largest_reward": self.largest_reward,
        }
        return arrays, meta

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], steps: int) -> list[str]:
        """Go back to a snapshot; one line for every episode that had to be abandoned.

        Raises:
            FewstepError: the snapshot has another number of environments.
        """
        if len(meta["episode_index"]) != self._envs.count:
            raise FewstepError(
                f"the checkpoint has {len(meta['episode_index'])} environments, the run's config says "
                f"{self._envs.count}"
            )
        self.steps, self.count = steps, meta["episodes"]
        # Checkpoints from before it was kept: no value is too large then.
        self.largest_reward = float(meta.get("largest_reward", 1e30))
        self._finished = [(value, length) for value, length in meta["finished"]]
        self._index = np.array(meta["episode_index"], np.int64) - 1
        self.obs = self._start(np.ones(self._envs.count, bool))
        lengths = meta["episode_lengths"]
        notes = [self._play_again(index, length, arrays) for index, length in enumerate(lengths)]
        return [note for note in notes if note]

    def _play_again(self, index: int, length: int, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Bring one environment to where it was in its episode; why not, if that cannot be done."""
        if length == 0:
            return ""
        actions = arrays.get(f"actions_{index}")
        only = np.zeros(self._envs.count, bool)
        only[index] = True
        where = f"environment {index}: its episode was {length:,} steps old and could not be restored"
        if actions is None or len(actions) != length:
            reason = "the checkpoint does not hold its actions"
        else:
            reason = self._replay(index, actions, only)
            if not reason and np.array_equal(self.obs[index], arrays["obs"][index]):
                if self._returns[index] == arrays["returns"][index]:
                    return ""
                reason = "the same actions now give other rewards"
            reason = reason or "the same actions now lead to another observation"
        self.obs = self._start(only)
        return f"{where} ({reason}); a new episode begins"

    def _replay(self, index: int, actions: NDArray[np.float32], only: NDArray[np.bool_]) -> str:
        padded = np.zeros((self._envs.count, self._envs.spec.act_size), np.float32)
        for number, action in enumerate(actions, start=1):
            padded[index] = action
            result = self._envs.step(padded, only)
            if result.terminated[index] or result.truncated[index]:
                return f"the same actions now end it after {number:,} steps"
            self._returns[index] += result.reward[index]
            self._lengths[index] += 1
            self._actions[index].append(action.copy())
            self.obs = result.obs
        return ""
