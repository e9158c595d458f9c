"""``toy/multigoal``: a point mass and four equivalent goals, the classic test of maximum-entropy policies.

The point starts near the origin (normal, standard deviation 0.1 per axis) and moves by the action, at most 1
unit per axis and step, inside the arena [-7, 7]^2. With d the distance to the nearest goal after the move,

    reward = -0.5 |action|^2 - 0.04 d^2 + 10 (once, when d <= 1, which ends the episode).

Standing still costs 1 per step. An episode is cut off after 30 steps. Turning the plane by 90 degrees changes
nothing, so a policy that maximises return and entropy reaches the goals equally often.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

GOALS = np.array([[5.0, 0.0], [0.0, 5.0], [-5.0, 0.0], [0.0, -5.0]])
GOALS.flags.writeable = False
GOAL_RADIUS = 1.0
ARENA = 7.0
HORIZON = 30
START_STD = 0.1
ACTION_COST = 0.5
DISTANCE_COST = 0.04
GOAL_BONUS = 10.0


class MultigoalEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Observes the position; ``info["goal"]`` is the index of the goal reached (-1: none yet).

    ``noise`` is the standard deviation per axis of a normal disturbance of every move. The time limit is
    added by the registration, not here.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(self, noise: float = 0.0, render_mode: str | None = None) -> None:
        self.noise = noise
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(-ARENA, ARENA, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.position = np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Put the point near the origin."""
        super().reset(seed=seed)
        self.position = self.np_random.normal(0.0, START_STD, 2)
        return self.position.astype(np.float32), {"goal": -1}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move by ``action``, clipped to [-1, 1] per axis."""
        move = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        disturbance = self.np_random.normal(0.0, self.noise, 2) if self.noise else 0.0
        self.position = np.clip(self.position + move + disturbance, -ARENA, ARENA)
        goal = int(goal_of(self.position))
        squared = _squared_distances(self.position).min()
        cost = ACTION_COST * float((move**2).sum()) + DISTANCE_COST * float(squared)
        reward = (GOAL_BONUS if goal >= 0 else 0.0) - cost
        return self.position.astype(np.float32), reward, goal >= 0, False, {"goal": goal}

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """``[240, 240, 3]`` picture: goals in green, the point in blue, the y axis pointing up."""
        if self.render_mode != "rgb_array":
            return None
        axis = ((np.arange(240) + 0.5) / 120 - 1) * ARENA
        x, y = np.meshgrid(axis, -axis)
        picture = np.full((240, 240, 3), 255, np.uint8)
        for goal in GOALS:
            picture[(x - goal[0]) ** 2 + (y - goal[1]) ** 2 <= GOAL_RADIUS**2] = (120, 190, 120)
        picture[(x - self.position[0]) ** 2 + (y - self.position[1]) ** 2 <= 0.3**2] = (40, 80, 160)
        return picture


def goal_of(position: ArrayLike) -> NDArray[np.int64]:
    """``[...]`` index of the goal within 1 unit of ``position[..., 2]``, -1 where there is none (or NaN).

    Goals count anticlockwise from (5, 0), so that a turn by 90 degrees adds 1 to the index.
    """
    squared = _squared_distances(np.asarray(position, np.float64))
    return np.where(squared.min(-1) <= GOAL_RADIUS**2, squared.argmin(-1), -1)


def _squared_distances(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[..., 4]`` squared distance to each goal."""
    return ((position[..., None, :] - GOALS) ** 2).sum(-1)
