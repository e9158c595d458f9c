"""Small environments with one fault or one peculiarity each."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

BOX3 = spaces.Box(-np.inf, np.inf, (3,), np.float32)


class FakeEnv(gymnasium.Env):
    """Observes [episode step, total step, random start], pays 1; every return value can be replaced.

    ``answers`` maps an episode step (0 is the reset) to ``{field: value}`` with the fields observation,
    reward, terminated, truncated, whole (all of what is returned).
    """

    def __init__(
        self,
        answers: dict[int, dict[str, Any]] | None = None,
        observation_space: spaces.Space = BOX3,
        action_space: spaces.Space | None = None,
        observe: Callable[["FakeEnv"], Any] | None = None,
    ) -> None:
        self.answers = answers or {}
        self.observation_space = observation_space
        self.action_space = action_space or spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observe = observe or (lambda env: np.array([env.t, env.total, env.start], np.float32))
        self.actions: list[np.ndarray] = []
        self.seeds: list[int | None] = []
        self.t = self.total = self.closed = 0
        self.start = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.t = 0
        self.start = self.np_random.random()
        answer = self.answers.get(0, {})
        if "whole" in answer:
            return answer["whole"]
        return self._value(answer, "observation", self.observe(self)), {}

    def step(self, action):
        self.t += 1
        self.total += 1
        self.actions.append(action)
        answer = self.answers.get(self.t, {})
        if "whole" in answer:
            return answer["whole"]
        return (
            self._value(answer, "observation", self.observe(self)),
            self._value(answer, "reward", 1.0),
            self._value(answer, "terminated", False),
            self._value(answer, "truncated", False),
            {},
        )

    def close(self) -> None:
        self.closed += 1

    @staticmethod
    def _value(answer: dict[str, Any], field: str, default: Any) -> Any:
        value = answer.get(field, default)
        if isinstance(value, Exception):
            raise value
        return value


def act(count: int = 1, size: int = 2, value: float = 0.0) -> np.ndarray:
    return np.full((count, size), value, np.float32)
