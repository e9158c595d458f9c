"""An environment that sends the run it belongs to a signal, once, at a moment of its life.

``SIGNALS="MOMENT,NUMBER,WHOM,MARKER"`` in the environment says which: MOMENT is one of those below, NUMBER
the signal, WHOM ``process``, ``group`` or ``parent's group``, MARKER a file that is made when it is sent.
"""

import os
import sys
import time
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np

WARM_UP, COLLECTION = 20, 120
"""Steps in the life of a training environment."""
EVALUATED = {int(np.random.SeedSequence(0, spawn_key=(3, i)).generate_state(1)[0]) >> 1 for i in range(2)}
"""Reset seeds that only evaluations and films of a run with seed 0 use (``training.seeds``)."""


def send(moment):
    """Send the signal if this is its moment and it has not been sent."""
    wanted, number, whom, marker = os.environ.get("SIGNALS", "-,0,-,-").split(",", 3)
    if moment != wanted:
        return
    try:
        open(marker, "x").close()
    except FileExistsError:
        return
    in_worker = Path(sys.argv[0]).name == "worker.py"
    target = os.getppid() if in_worker or whom == "parent's group" else os.getpid()
    if whom.endswith("group"):
        os.killpg(os.getpgid(target), int(number))
    else:
        os.kill(target, int(number))


class Signals(gymnasium.Env):
    """A random walk with episodes of 30 steps."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.life = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.judged = seed in EVALUATED
        self.t = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.t += 1
        self.life += 1
        if self.judged and self.t == 3:
            send("evaluation")
        if not self.judged and self.life == WARM_UP:
            send("warm-up")
        if not self.judged and self.life == COLLECTION:
            send("collection")
            if os.environ.get("SIGNALS", "").startswith("hang"):
                send("hang")
                time.sleep(1000)
        reward = float(action.sum())
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), reward, False, self.t == 30, {}

    def render(self):
        if self.t == 3:
            send("video")
        return np.zeros((64, 64, 3), np.uint8)


gymnasium.register("Signals-v0", entry_point=Signals, max_episode_steps=30)
