"""Environments that end never, exist once, or have a limit in their own code."""

import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    """A random walk; ``ends`` says after how many steps an episode is truncated, 0 never."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)
    ends = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.t += 1
        observation = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return observation, float(action.sum()), False, self.t == self.ends, {}


class OwnLimit(Walk):
    ends = 15


class OnlyOne(OwnLimit):
    """A port: taken while an instance is open. ``built`` counts instances."""

    taken = False
    built = 0

    def __init__(self):
        if OnlyOne.taken:
            raise OSError("port 5005 is in use")
        OnlyOne.taken = True
        OnlyOne.built += 1

    def close(self):
        OnlyOne.taken = False


class OneEpisode(OwnLimit):
    """The port is taken by a reset."""

    held_by = None

    def reset(self, **arguments):
        if OneEpisode.held_by not in (None, self):
            raise OSError("port 5005 is in use")
        OneEpisode.held_by = self
        return super().reset(**arguments)

    def close(self):
        if OneEpisode.held_by is self:
            OneEpisode.held_by = None


gymnasium.register("OddEndless-v0", entry_point=Walk)
gymnasium.register("OddOwnLimit-v0", entry_point=OwnLimit)
gymnasium.register("OddOnlyOne-v0", entry_point=OnlyOne)
gymnasium.register("OddOneEpisode-v0", entry_point=OneEpisode)
