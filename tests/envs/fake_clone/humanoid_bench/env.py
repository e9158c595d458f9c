"""A point mass under the names of humanoids, with every leak between episodes that the original has."""

import os
from typing import ClassVar

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box

from humanoid_bench.dmc_deps.dmc_sizes import array_sizes
from humanoid_bench.mjx.flax_to_torch import TorchModel, TorchPolicy  # noqa: F401 (as the original does)

ROBOTS = {"h1": "pos", "h1hand": "pos", "g1": "torque"}


class Task:
    """Stand: reward 1 a step."""

    success_bar = 3.0
    max_episode_steps = 1000

    def __init__(self, env):
        self.env = env

    def observation(self):
        return np.concatenate([self.env.data.qpos, self.env.data.qvel, self.env.named_destination()])

    def reset_model(self):
        return self.observation()

    def step(self, action):
        self.env.do_simulation(action, self.env.frame_skip)
        fallen = abs(self.env.data.qpos[0]) > 1.0
        return self.observation(), 1.0, np.bool_(fallen), False, {}

    def render(self):
        renderer = self.env.mujoco_renderer
        return renderer.render(self.env.render_mode, self.env.camera_id, self.env.camera_name)


class Walk(Task):
    pass


class Reach(Task):
    """Its goal comes from numpy's global generator."""

    def reset_model(self):
        self.goal = np.random.uniform(-2, 2, 2)  # noqa: NPY002
        return self.observation()

    def observation(self):
        return np.concatenate(
            [self.env.data.qpos, self.env.data.qvel, getattr(self, "goal", np.zeros(2)), [0]]
        )


class Package(Task):
    """The first observation shows where the destination was in the episode before."""

    def reset_model(self):
        self.env.model.body_pos[-1] = [*np.random.uniform(-2, 2, 2), 0]  # noqa: NPY002
        return self.observation()


class Spoon(Task):
    """Counts the steps of all episodes."""

    step_counter = 0

    def step(self, action):
        self.step_counter += 1
        return super().step(action)

    def observation(self):
        return np.concatenate([super().observation()[:-1], [self.step_counter]])


class HighBar(Task):
    """The first episode alone has noise."""

    def reset_model(self):
        self.env.randomness = 0.0
        return self.observation()


class Cube(Task):
    """Prints."""

    def __init__(self, env):
        super().__init__(env)
        print("No randomness in this environment")

    def step(self, action):
        print("Completed subtask")
        return super().step(action)


TASKS = {
    "walk": Walk,
    "reach": Reach,
    "package": Package,
    "spoon": Spoon,
    "highbar_simple": HighBar,
    "cube": Cube,
}


class HumanoidEnv(MujocoEnv):
    metadata: ClassVar = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 50}

    def __init__(self, robot, control, task, render_mode="rgb_array", width=256, height=256):
        for array in array_sizes["mjmodel"]:
            getattr(mujoco.MjModel, array)
        for array in array_sizes["mjdata"]:
            getattr(mujoco.MjData, array)
        self.randomness = 0.01
        file = os.path.join(os.path.dirname(__file__), "assets", "point_mass.xml")
        space = Box(-np.inf, np.inf, (7,), np.float64)
        super().__init__(file, 10, space, render_mode=render_mode, width=width, height=height)
        self.action_space = Box(-1, 1, (2,), np.float32)
        self.task = TASKS[task](self)

    def named_destination(self):
        return self.data.xpos[-1]

    def step(self, action):
        return self.task.step(action)

    def reset_model(self):
        mujoco.mj_resetDataKeyframe(self.model, self.data, 0)
        mujoco.mj_forward(self.model, self.data)
        noise = self.np_random.uniform(-self.randomness, self.randomness, self.model.nq)
        self.set_state(self.data.qpos + noise, self.data.qvel)
        return self.task.reset_model()

    def render(self):
        return self.task.render()
