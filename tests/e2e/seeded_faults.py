"""An environment that breaks for some run seeds and not for others."""

import gymnasium
import numpy as np

from fewstep.training import seeds

FAULT_AT = 120
FAILING: dict[int, str] = {}
"""Run seed -> what is wrong with the 120th step: ``reward`` (NaN), ``observation`` (NaN) or ``raise``."""


class BreaksForSome(gymnasium.Env):
    """A random walk in episodes of 20 steps; its first reset tells it the run's seed."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.steps = 0
        self.fault = ""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        for run_seed, fault in FAILING.items():
            if seed == seeds.reset_seed(run_seed, 0, 0):
                self.fault = fault
        self.at = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self.at.copy(), {}

    def step(self, action):
        self.steps += 1
        self.at = np.clip(self.at + 0.1 * self.np_random.normal(size=3), -10, 10).astype(np.float32)
        observation, reward = self.at.copy(), float(action.sum() * self.at[0])
        if self.steps == FAULT_AT and self.fault:
            if self.fault == "raise":
                raise RuntimeError("the simulator is unstable")
            if self.fault == "reward":
                reward = float("nan")
            else:
                observation[1] = np.nan
        return observation, reward, False, self.steps % 20 == 0, {}


gymnasium.register("BreaksForSome-v0", entry_point=BreaksForSome)
