"""Environments that take their process with them at step 120 of their life, each in its way.

With ``BREAKS_ONCE=PATH`` in the environment only the first life does; PATH then holds its process's number.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import gymnasium
import numpy as np

BREAKS_AT = 120


class Breaking(gymnasium.Env):
    """A random walk with episodes of 50 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)

    def __init__(self, how):
        self.how = how
        self.life = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action):
        self.t += 1
        self.life += 1
        once = os.environ.get("BREAKS_ONCE")
        if self.life == BREAKS_AT and not (once and Path(once).exists()):
            if once:
                Path(once).with_suffix(".new").write_text(str(os.getpid()))
                Path(once).with_suffix(".new").rename(once)
            self.fail()
        reward = float(action.sum())
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), reward, False, self.t == 50, {}

    def fail(self):
        if self.how == "Raises":
            raise RuntimeError("joint limit\nsecond line")
        if self.how == "Hangs":
            time.sleep(1000)
        if self.how == "Exits":
            os._exit(3)
        if self.how == "Killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "ImportsJax":
            import sys

            raise RuntimeError(f"jax is {'there' if 'jax' in sys.modules else 'absent'}")


class Starts(Breaking):
    """It has a program running, as a simulator has a server, and ends it in ``close``.

    ``STARTED`` is a file for the program's process number and, once ``close`` has been called, "closed".
    """

    def __init__(self, how="Exits"):
        super().__init__(how)
        self.program = subprocess.Popen(["sleep", "1000"])
        Path(os.environ["STARTED"]).write_text(str(self.program.pid))

    def close(self):
        self.program.kill()
        self.program.wait()
        Path(os.environ["STARTED"]).write_text("closed")


gymnasium.register("Starts-v0", entry_point=Starts)
for _how in ("Raises", "Hangs", "Exits", "Killed", "ImportsJax"):
    gymnasium.register(f"{_how}-v0", entry_point=Breaking, kwargs={"how": _how})
