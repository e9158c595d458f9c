"""An environment that does what a test tells it to, at any moment of its life, as user code may.

``PLAN[MOMENT] = function`` is called with the environment (None at ``build``) at that moment: ``build``,
``spaces``, ``reset``, ``step``, ``render`` or ``close``. Observations say which episode and step they are of.
"""

from typing import ClassVar

import gymnasium
import numpy as np

PLAN = {}
LENGTH = 20


def do(moment, env=None):
    if moment in PLAN:
        PLAN[moment](env)


def at(life, action):
    """``action()`` in the step with this number in the life of a training environment (not of an
    evaluation's, which is younger)."""

    def hook(env):
        if env.life == life:
            action()

    return hook


def throw(error):
    raise error


class Habit(gymnasium.Env):
    """Observations ``[start, step, 0]``, of which the start is drawn from the seed."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.life = self.t = 0
        self.closed = 0
        do("build")

    @property
    def observation_space(self):
        do("spaces", self)
        return gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def observe(self):
        return np.array([self.start, self.t, 1e-60])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        do("reset", self)
        self.start, self.t = self.np_random.uniform(), 0
        return self.observe(), {}

    def step(self, action):
        self.life += 1
        do("step", self)
        self.t += 1
        return self.observe(), float(action.sum()), False, self.t == LENGTH, {}

    def render(self):
        do("render", self)
        return np.zeros((64, 64, 3), np.uint8)

    def close(self):
        self.closed += 1
        do("close", self)


gymnasium.register("Habit-v0", entry_point=Habit)
