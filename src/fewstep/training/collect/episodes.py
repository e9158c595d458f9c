"""The running episodes of a run's environments: their seeds, counters, and how a resume finds them again."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep import foreign
from fewstep.envs import StepResult, VectorEnv
from fewstep.errors import FewstepError
from fewstep.training import seeds

LONGEST_KEPT = 100_000
"""Steps of one episode whose actions are remembered. A longer one is abandoned by a resume."""
INCOMPLETE, LENT = "the last step was not completed", "an evaluation took the environment"
"""Why an episode is abandoned."""


class Episodes:
    """Steps N environments and starts the next episode where one is over.

    Every episode is reset with a seed of its own, addressed by environment and number, so an episode is
    determined by that seed and its actions. A resume takes both from the checkpoint and plays the running
    episodes again up to where they were: exact for every environment that is deterministic under its seed,
    without asking it for its simulator's state, at the price of at most one episode of simulation.

    Attributes:
        obs: ``[N, obs_size]`` observation that the next action is for; the last of its episode where that has
            ended and the next is yet to ``begin``.
        steps: environment steps taken, over all environments.
        count: episodes finished.
        broken: ``[N]`` bool, which environments are in the midst of a step that did not end, or were lent:
            there is no episode to go on with (``recover``). None where all have one.
        largest_reward: the largest size of a reward so far.
    """

    def __init__(self, envs: VectorEnv, seed: int, limit: int | None = None) -> None:
        """``limit`` is the time limit that was asked for."""
        self._envs = envs
        self._limit = limit
        self._seed = seed
        self.steps = 0
        self.count = 0
        self.largest_reward = 0.0
        self._index = np.zeros(envs.count, np.int64)
        self._returns = np.zeros(envs.count)
        self._lengths = np.zeros(envs.count, np.int64)
        self._actions: list[list[NDArray[np.float32]]] = [[] for _ in range(envs.count)]
        self._finished: list[tuple[float, int]] = []
        self._all = np.ones(envs.count, bool)
        self._ended = np.zeros(envs.count, bool)
        self.broken: NDArray[np.bool_] | None = None
        self._why = INCOMPLETE
        self.obs = self._start(self._all)

    def step(self, action: NDArray[np.float32]) -> StepResult:
        """One step of every environment; ``kept`` is due once the result is, and then ``begin``.

        Whatever raises before that is done leaves all environments ``broken``: which of them have moved is
        not known.
        """
        self.broken, self._why = self._all, INCOMPLETE
        result = self._envs.step(action)
        self.steps += self._envs.count
        self._returns += result.reward
        self._lengths += 1
        self.largest_reward = max(self.largest_reward, float(np.abs(result.reward).max()))
        for taken, row in zip(self._actions, action, strict=True):
            if len(taken) <= LONGEST_KEPT:
                taken.append(row.copy())
        self.obs = result.obs
        self._ended = result.terminated | result.truncated
        if self._limit is not None and result.truncated.any():
            self._compare_with_limit(self._limit, result)
        for index in np.flatnonzero(self._ended & ~result.lost):
            self._finished.append((float(self._returns[index]), int(self._lengths[index])))
            self.count += 1
        return result

    def kept(self) -> None:
        """The result of the step has been kept: the step is done."""
        self.broken = None

    def begin(self) -> None:
        """Start the next episode where one has ended; ``obs`` is then what the next action is for.

        Interrupted, it may be called again.
        """
        if self._ended.any():
            self.obs = self._start(self._ended)

    def recover(self) -> None:
        """Start new episodes in ``broken`` environments; one that was running there is abandoned, and that is
        said: it does not count as finished. One that was lent before it had a step begins again."""
        if self.broken is None:
            return
        lost = np.flatnonzero(self.broken & (self._lengths > 0))
        self.obs = self._start(self.broken, (self._lengths == 0) & (self._why == LENT))
        self.broken = None
        if lost.size:
            which = ", ".join(map(str, lost))
            foreign.tell(
                f"step {self.steps:,}: {self._why}: the running episode of environment {which} is abandoned "
                "and a new one begins"
            )

    def _start(self, mask: NDArray[np.bool_], again: NDArray[np.bool_] | bool = False) -> NDArray[np.float32]:
        """Reset the masked environments, each with the addressed seed of its next episode, or (``again``) of
        the one that has begun."""
        number = self._index - again
        chosen = [seeds.reset_seed(self._seed, env, int(episode)) for env, episode in enumerate(number)]
        obs = self._envs.reset(chosen, mask)
        self._index[mask] = number[mask] + 1
        self._returns[mask] = 0.0
        self._lengths[mask] = 0
        for index in np.flatnonzero(mask):
            self._actions[index] = []
        self._ended = self._ended & ~mask
        return obs

    def lend(self, index: int) -> None:
        """Give one environment away until ``recover``: its running episode is abandoned."""
        self.broken, self._why = np.arange(self._envs.count) == index, LENT

    def _compare_with_limit(self, limit: int, result: StepResult) -> None:
        """Say so, once, if the environment has a tighter limit in its own code, where nothing shows it."""
        early = result.truncated & ~result.terminated & ~result.lost & (self._lengths < limit)
        if early.any():
            self._limit = None
            foreign.tell(
                f"the time limit asked for is {limit:,} steps, but the environment itself ended an episode "
                f"after {self._lengths[early][0]:,} steps (truncated): its own limit counts"
            )

    def take_finished(self) -> list[tuple[float, int]]:
        """(return, length) of every episode that has ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def snapshot(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON values that ``restore`` takes; where an episode has ended, those of the next."""
        arrays: dict[str, NDArray[Any]] = {"obs": self.obs, "returns": self._returns.copy()}
        for index, taken in enumerate(self._actions):
            if len(taken) <= LONGEST_KEPT:
                arrays[f"actions_{index}"] = np.array(taken, np.float32).reshape(-1, self._envs.spec.act_size)
        meta = {
            "episodes": self.count,
            "episode_index": (self._index + self._ended).tolist(),
            "episode_lengths": np.where(self._ended, 0, self._lengths).tolist(),
            "finished": self._finished,
            "largest_reward": self.largest_reward,
        }
        return arrays, meta

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], steps: int) -> list[str]:
        """Go back to a snapshot; for every environment a line that says why its episode had to be abandoned,
        empty where it goes on.

        Raises:
            FewstepError: the snapshot has another number of environments.
        """
        if len(meta["episode_index"]) != self._envs.count:
            raise FewstepError(
                f"the checkpoint has {len(meta['episode_index'])} environments, the run's config says "
                f"{self._envs.count}"
            )
        self.steps, self.count = steps, meta["episodes"]
        self.largest_reward = float(meta["largest_reward"])
        self._finished = [(value, length) for value, length in meta["finished"]]
        self._index = np.array(meta["episode_index"], np.int64) - 1
        self.obs = self._start(np.ones(self._envs.count, bool))
        lengths = meta["episode_lengths"]
        return [self._play_again(index, length, arrays) for index, length in enumerate(lengths)]

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
