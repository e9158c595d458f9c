"""A task whose observation is an image: where the bright dot is, there the action should go."""

from typing import Any

import gymnasium
import numpy as np

SIDE = 16


class Dot(gymnasium.Env[Any, Any]):
    """One step per episode: a square of 3 x 3 pixels, reward -|a - x|^2 with x its middle in [-1, 1]^2.

    The best constant action, 0, has a mean reward of -0.578: twice the variance of 2 k / 15 - 1 for k from 1
    to 14.
    """

    def __init__(self, first: bool = False) -> None:
        """``first``: channels come first."""
        shape = (1, SIDE, SIDE) if first else (SIDE, SIDE, 1)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.first = first

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """A dot somewhere."""
        super().reset(seed=seed)
        self.at = self.np_random.integers(1, SIDE - 1, 2)
        return self._image(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """How far off the action is."""
        wanted = 2.0 * self.at / (SIDE - 1) - 1.0
        return self._image(), -float(np.sum((action - wanted) ** 2)), True, False, {}

    def _image(self) -> Any:
        image = np.zeros((SIDE, SIDE), np.uint8)
        row, column = self.at
        image[row - 1 : row + 2, column - 1 : column + 2] = 255
        return image[None] if self.first else image[..., None]


gymnasium.register("Dot-v0", Dot, max_episode_steps=1)
