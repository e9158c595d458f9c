"""Push-T (Chi et al. 2023, arXiv 2303.04137) by gym-pusht: ``pusht/state`` and ``pusht/keypoints``.

A disc pushes a T onto its place, seen from above. The reward of a step is the share of the place that is
covered, over 0.95 and at most 1; with more the episode ends, and that is a success. Positions come in pixels
of a square of 512; here they are in [-1, 1], and the angle is its cosine and sine.
"""

import importlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from fewstep.envs.suites.suite import Suite

PIXELS = 512.0
SUITE = Suite(
    name="pusht",
    title="Push-T",
    tasks={
        "pusht/state": "disc pushing a T, 6 observations (positions, angle), 2 actions (where to go)",
        "pusht/keypoints": "disc pushing a T, 18 observations (eight corners, the disc), 2 actions",
    },
    packages=("gym-pusht", "pymunk"),
    modules=("gym_pusht",),
    install="pip install 'fewstep[pusht]'",
    entry_point="fewstep.envs.suites.pusht:PushT",
    limits={"pusht/state": 300, "pusht/keypoints": 300},
    peaks=True,
)


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
