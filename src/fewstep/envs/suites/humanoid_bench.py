"""HumanoidBench (Sferrazza et al. 2024, arXiv 2403.10506): ``hb/ROBOT-TASK-v0``.

It is on no package index and is used from a clone. Its code was written for older packages; what does not
agree with those of today is mended while it is imported (``_load``). An episode counts as a success when its
return has reached the benchmark's ``success_bar`` for the task.
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
from fewstep.envs.suites.suite import Suite
from fewstep.errors import UsageError

_ROBOTS = {
    "h1": "Unitree H1 without hands, 19 actions",
    "h1hand": "Unitree H1 with two hands, 61 actions",
    "h1touch": "Unitree H1 with two hands that feel, 61 actions",
    "h1strong": "Unitree H1 with stronger arms, 61 actions",
    "h1simplehand": "Unitree H1 with simple hands",
    "g1": "Unitree G1 with hands, 37 torques",
}
_TASKS = {  # name: (what it is, limit)
    "stand": ("stand", 1000),
    "walk": ("walk at 1 m/s", 1000),
    "run": ("run at 5 m/s", 1000),
    "hurdle": ("run over hurdles", 1000),
    "crawl": ("crawl through a tunnel", 1000),
    "stair": ("walk up and down stairs", 1000),
    "slide": ("walk up and down slopes", 1000),
    "pole": ("walk through a forest of poles", 1000),
    "maze": ("walk through a maze by stages", 1000),
    "reach": ("reach a point with the left hand", 1000),
    "sit_simple": ("sit down on a chair", 1000),
    "sit_hard": ("sit down on a movable chair", 1000),
    "balance_simple": ("balance on a board", 1000),
    "balance_hard": ("balance on a board on a moving ball", 1000),
    "highbar_simple": ("swing up on a bar", 1000),
    "highbar_hard": ("swing up on a bar held by the hands", 1000),
    "push": ("push a box to a place", 500),
    "basketball": ("catch a ball and throw it into a basket", 500),
    "cube": ("turn two cubes in the hands", 500),
    "door": ("pull a door open and walk through", 1000),
    "powerlift": ("lift a barbell", 1000),
    "window": ("wipe a window", 1000),
    "spoon": ("stir in a pot", 1000),
    "room": ("tidy up a room", 1000),
    "package": ("carry a package to a place", 1000),
    "truck": ("unload a truck", 1000),
    "cabinet": ("open a cabinet and sort what is in it", 1000),
    "bookshelf_simple": ("sort a bookshelf", 1000),
    "bookshelf_hard": ("sort a bookshelf, order drawn", 1000),
    "insert_small": ("insert a small block into pegs", 500),
    "insert_normal": ("insert a block into pegs", 500),
    "kitchen": ("do tasks of a kitchen", 500),
}
_WITH_HANDS = {
    *("bookshelf_simple", "bookshelf_hard", "cabinet", "cube", "insert_normal", "insert_small", "kitchen"),
    *("powerlift", "room", "spoon", "window"),
}
_BARS = {"highbar_simple", "highbar_hard"}
_MODELS = {  # robot: tasks that the repository has a model file for; it registers every pair
    "h1": set(_TASKS) - _WITH_HANDS - {"highbar_hard"},
    "h1hand": set(_TASKS) - _BARS,
    "h1touch": set(_TASKS) - _BARS,
    "g1": set(_TASKS) - _BARS,
    "h1strong": {"highbar_hard"},
    "h1simplehand": {"stand"},
}
_REFUSED = "MuJoCo 3.17 refuses its model file (it renames the default class 'main')"
_PAIRS = {(robot, task): f"hb/{robot}-{task}-v0" for robot in _ROBOTS for task in _TASKS}
SUITE = Suite(
    name="hb",
    title="HumanoidBench",
    tasks={
        env_id: f"{_ROBOTS[robot]}: {_TASKS[task][0]}"
        for (robot, task), env_id in _PAIRS.items()
        if task in _MODELS[robot] and task != "kitchen"
    },
    excluded={
        env_id: _REFUSED if task in _MODELS[robot] else "HumanoidBench has no model file for it"
        for (robot, task), env_id in _PAIRS.items()
        if task not in _MODELS[robot] or task == "kitchen"
    },
    packages=("mujoco", "dm_control", "humanoid_bench"),
    modules=("humanoid_bench", "dm_control"),
    install=(
        "git clone https://github.com/carlosferrazza/humanoid-bench; pip install 'fewstep[dmc]'; "
        "pip install --no-deps -e humanoid-bench, or set FEWSTEP_HUMANOID_BENCH to that folder"
    ),
    folder="FEWSTEP_HUMANOID_BENCH",
    entry_point="fewstep.envs.suites.humanoid_bench:HumanoidBench",
    limits={env_id: _TASKS[task][1] for (_, task), env_id in _PAIRS.items()},
)


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
