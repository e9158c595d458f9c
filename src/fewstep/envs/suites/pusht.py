"""Push-T as an environment of gym-pusht: the tasks of ``fewstep.suites.pusht``.

Positions come in pixels of a square of 512; here they are in [-1, 1], and the angle is its cosine and sine.
"""

import importlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

PIXELS = 512.0


def make(name: str, render_mode: str | None = None) -> "PushT":
    """The task of that name."""
    return PushT(name, render_mode)


class PushT(gymnasium.ObservationWrapper[NDArray[np.float64], Any, Any]):
    """The task with observations of order 1."""

    def __init__(self, name: str, render_mode: str | None = None) -> None:
        module: Any = importlib.import_module("gym_pusht.envs")  # not in every installation
        kind = {"state": "state", "keypoints": "environment_state_agent_pos"}[name]
        size = {
            "visualization_width": 480,
            "visualization_height": 480,
        }  # multiples of 16, for films
        super().__init__(module.PushTEnv(obs_type=kind, render_mode=render_mode, **size))
        self.observation_space = spaces.Box(-1.0, 1.0, (6 if name == "state" else 18,), np.float64)

    def observation(self, observation: Any) -> NDArray[np.float64]:
        """``[6]``: disc, block, cosine and sine of its angle; or ``[18]``: corners of the block, disc.

        What lies outside the square, as a corner may, is beyond [-1, 1].
        """
        if isinstance(observation, dict):
            return _unit(np.concatenate([observation["environment_state"], observation["agent_pos"]]))
        *places, angle = observation
        return np.array([*_unit(np.array(places)), np.cos(angle), np.sin(angle)])


def _unit(pixels: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(pixels, np.float64) * (2.0 / PIXELS) - 1.0
