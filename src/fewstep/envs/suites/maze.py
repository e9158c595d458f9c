"""The mazes of Gymnasium-Robotics: the tasks of ``fewstep.suites.maze``."""

import os
from contextlib import redirect_stderr
from typing import Any

import gymnasium

from fewstep.envs.rendering import choose_backend_at_import


def make(name: str, render_mode: str | None = None, **options: Any) -> gymnasium.Env[Any, Any]:
    """The environment of that id, without its time limit; ``options`` are its own (``continuing_task``)."""
    choose_backend_at_import()
    if name not in gymnasium.registry:
        with (
            open(os.devnull, "w") as nowhere,
            redirect_stderr(nowhere),
        ):  # it tells of tasks that are not these
            import gymnasium_robotics
        gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make(
        name, max_episode_steps=-1, disable_env_checker=True, render_mode=render_mode, **options
    )
