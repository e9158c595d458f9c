"""An environment whose reset ignores the seed, as users' environments do."""

import gymnasium
import numpy as np
from gymnasium import spaces


class IgnoresSeeds(gymnasium.Env):
    """A random walk whose noise comes from the operating system."""

    def __init__(self, render_mode=None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,))
        self.action_space = spaces.Box(-1.0, 1.0, (1,))
        self.render_mode = render_mode
        self._random = np.random.default_rng()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._at = self._random.normal(size=2).astype(np.float32)
        return self._at.copy(), {}

    def step(self, action):
        self._at += self._random.normal(size=2).astype(np.float32)
        return self._at.copy(), 0.0, False, False, {}


gymnasium.register("IgnoresSeeds-v0", entry_point=IgnoresSeeds, max_episode_steps=50)
