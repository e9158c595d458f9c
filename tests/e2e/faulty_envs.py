"""Environments that break in one way each, at step 120 of their life or at once."""

import gymnasium
import numpy as np

HEALED = False
FAULT_AT = 120


class Faulty(gymnasium.Env):
    """Goes well for 119 steps; then ``fault`` decides what is wrong with the 120th."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, fault, render_mode=None):
        self.fault = fault
        self.steps = 0
        self.render_mode = render_mode
        if fault == "Unbounded":
            self.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        observation = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        if self.fault == "NanObservation":
            observation[1] = np.nan
        return observation, {}

    def step(self, action):
        self.steps += 1
        observation, reward = self.np_random.uniform(-1, 1, 3).astype(np.float32), float(action.sum())
        if self.steps == FAULT_AT and not HEALED:
            if self.fault == "NanReward":
                reward = float("nan")
            elif self.fault == "InfiniteReward":
                reward = float("inf")
            elif self.fault == "RewardArray":
                reward = np.zeros(2)
            elif self.fault == "LateNanObservation":
                observation[1] = np.nan
            elif self.fault == "WrongShape":
                observation = np.zeros(4, np.float32)
        return observation, reward, False, self.steps % 20 == 0, {}


for _fault in (
    "Unbounded",
    "NanObservation",
    "NanReward",
    "InfiniteReward",
    "RewardArray",
    "LateNanObservation",
    "WrongShape",
):
    gymnasium.register(f"{_fault}-v0", entry_point=Faulty, kwargs={"fault": _fault})
