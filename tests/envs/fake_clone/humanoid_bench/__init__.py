"""A small package with the faults of HumanoidBench as it is (registration of every pair included)."""

from gymnasium.envs import register

from .env import ROBOTS, TASKS

for robot, control in ROBOTS.items():
    for task, kind in TASKS.items():
        register(
            id=f"{robot}-{task}-v0",
            entry_point="humanoid_bench.env:HumanoidEnv",
            max_episode_steps=kind.max_episode_steps,
            kwargs={"robot": robot, "control": control, "task": task},
        )
