"""DeepMind Control as Gymnasium environments, without shimmy: the tasks of ``fewstep.suites.dmc``."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from fewstep.envs.rendering import choose_backend_at_import


class ControlEnv(gymnasium.Env[dict[str, Any], NDArray[np.float64]]):
    """One task as a Gymnasium environment, observations in dm_control's order.

    It never ends an episode by its length; the registration does. ``reset(seed)`` sets the generator that the
    task draws from, so an episode is a function of its seed and its actions.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (Gymnasium's attribute)

    def __init__(self, name: str, render_mode: str | None = None) -> None:
        choose_backend_at_import()
        from dm_control import suite

        domain, task = name.split("-")
        with _quiet():
            self._env: Any = suite.load(domain, task, task_kwargs={"time_limit": float("inf")})
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": round(1.0 / self._env.control_timestep())}
        # A list of pairs: a plain dict would be sorted.
        self.observation_space = spaces.Dict(
            [
                (key, spaces.Box(-np.inf, np.inf, np.shape(part), np.float64))
                for key, part in self._env.observation_spec().items()
            ]
        )
        action = self._env.action_spec()
        self.action_space = spaces.Box(action.minimum, action.maximum, action.shape, np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; seeds that differ by a multiple of 2^32 are one."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.task._random = np.random.RandomState(seed % 2**32)
        return _plain(self._env.reset().observation), {}

    def step(self, action: NDArray[np.float64]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step. An end whose discount is 0 is a terminal state, any other is a cut."""
        after = self._env.step(action)
        terminated = after.last() and after.discount == 0.0
        truncated = after.last() and not terminated
        return _plain(after.observation), float(after.reward), terminated, truncated, {}

    def render(self) -> NDArray[np.uint8]:
        """``[480, 480, 3]`` from the task's first camera."""
        return self._env.physics.render(480, 480, camera_id=0)

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()
        self._env.physics.free()


def _plain(observation: Any) -> dict[str, Any]:
    return {key: np.asarray(part, np.float64) for key, part in observation.items()}


@contextmanager
def _quiet() -> Generator[None]:
    """Without the suite's notice on one of its own model files, which nobody can act on."""
    logger = logging.getLogger("absl")

    def passes(record: logging.LogRecord) -> bool:
        return "settotalmass" not in record.getMessage()

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)
