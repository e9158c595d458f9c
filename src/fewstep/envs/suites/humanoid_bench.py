"""HumanoidBench from a clone: the tasks of ``fewstep.suites.humanoid_bench``.

Its code was written for older packages; what does not agree with those of today is mended while it is
imported (``_load``).
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from fewstep.envs.rendering import choose_backend_at_import
from fewstep.errors import UsageError
from fewstep.suites.humanoid_bench import SUITE


def make(name: str, render_mode: str | None = None) -> "HumanoidBench":
    """The task of that name."""
    return HumanoidBench(name, render_mode)


class HumanoidBench(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One task, its episode a function of the seed of its reset and its actions.

    Upstream, a reset's seed reaches the noise on the joints alone: eight tasks draw from numpy's global
    generator, and ``package``, ``highbar_*`` and ``spoon`` let an episode reach into the next. So a reset
    sets that generator, does everything twice, and puts the generator back as it was.
    """

    def __init__(self, name: str, render_mode: str | None = None) -> None:
        choose_backend_at_import()
        _load()
        _refuse_a_second_height(name)
        with _quiet():
            size = {"width": 480, "height": 480}
            env = gymnasium.make(
                name, max_episode_steps=-1, disable_env_checker=True, render_mode=render_mode, **size
            )
        super().__init__(env)
        self._task: Any = self.env.unwrapped.task  # type: ignore[attr-defined]
        self._return = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; without a seed, with one that the environment's own generator draws."""
        chosen = int(self.np_random.integers(2**32)) if seed is None else seed
        self._return = 0.0
        users = np.random.get_state()  # noqa: NPY002 (the tasks draw from it)
        try:
            self._reset(chosen, options)
            return self._reset(chosen, options)
        finally:
            np.random.set_state(users)  # noqa: NPY002

    def step(self, action: Any) -> Any:
        """As the task's; ``info["success"]`` says whether the return so far has reached ``success_bar``."""
        with _quiet():
            observation, reward, terminated, truncated, info = self.env.step(action)
        self._return += float(reward)
        success = self._return >= self._task.success_bar
        return observation, reward, terminated, truncated, info | {"success": success}

    def render(self) -> Any:
        """``[480, 480, 3]``; upstream's own method calls Gymnasium's renderer as it was before 1.0."""
        return self.env.unwrapped.mujoco_renderer.render(self.render_mode)  # type: ignore[attr-defined]

    def _reset(self, seed: int, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        np.random.seed(seed % 2**32)  # noqa: NPY002
        if hasattr(self._task, "step_counter"):
            self._task.step_counter = 0
        with _quiet():
            return self.env.reset(seed=seed, options=options)


_heights: set[bool] = set()


def _refuse_a_second_height(name: str) -> None:
    """A module of upstream's keeps one standing height for all: that of G1 once a G1 has been built."""
    height = name.startswith("g1-")
    if _heights - {height}:
        raise UsageError(
            "HumanoidBench cannot have a G1 and another robot in one process: they would share G1's "
            "standing height; use a process for each"
        )
    _heights.add(height)


def _load() -> None:
    """Import the package, with what of it does not fit the installed MuJoCo left out.

    - Its copy of dm_control's table of array sizes names arrays that MuJoCo has no more. They are removed
      from it; which ones they are depends on the versions, so it is found out here.
    - It imports torch, for policies that fewstep does not use. Without torch a stand-in takes their place.
    """
    mujoco: Any = importlib.import_module("mujoco")  # its type stubs leave the two classes out
    spec = importlib.util.find_spec("humanoid_bench")
    assert spec is not None  # Suite.require has seen to it
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    sizes = _submodule("humanoid_bench.dmc_deps.dmc_sizes", folder / "dmc_deps" / "dmc_sizes.py")
    for struct, kept in (("mjmodel", mujoco.MjModel), ("mjdata", mujoco.MjData)):
        table = sizes.array_sizes[struct]
        for stale in [array for array in table if not hasattr(kept, array)]:
            del table[stale]
    policies = "humanoid_bench.mjx.flax_to_torch"
    if policies not in sys.modules and importlib.util.find_spec("torch") is None:
        absent: Any = ModuleType(policies)
        absent.TorchModel = absent.TorchPolicy = None
        sys.modules[policies] = absent
    importlib.import_module("humanoid_bench")


def _submodule(name: str, file: Path) -> Any:
    """A module by its file, without the packages around it."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None or not file.is_file():
            raise UsageError(
                f"this copy of HumanoidBench has no {file}: installed without its files, it cannot be used; "
                f"{SUITE.install}"
            )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


@contextmanager
def _quiet() -> Generator[None]:
    """Without what the tasks print."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield
