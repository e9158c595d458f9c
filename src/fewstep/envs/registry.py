"""From what the user names to a function that builds one environment."""

import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from fewstep import modules
from fewstep.envs import toys
from fewstep.envs.layers import refuse_running_statistics, require_limit
from fewstep.envs.rendering import choose_backend, explain
from fewstep.errors import UsageError, unknown

Env = gymnasium.Env[Any, Any]
Build = Callable[[str | None, int | None], Env]
"""``(render_mode, max_episode_steps) -> environment``."""

_MUJOCO = {
    # name: (versions, what it is; observation and action sizes follow the version where they differ)
    "Ant": ("four-legged walker, 8 joints; v4 observes 27 numbers, v5 105 (with contact forces)", "45"),
    "HalfCheetah": ("planar runner, 6 joints, 17 observations; never terminates", "45"),
    "Hopper": ("planar one-legged hopper, 3 joints, 11 observations", "45"),
    "Humanoid": ("walking humanoid, 17 joints; v4 observes 376 numbers, v5 348", "45"),
    "HumanoidStandup": ("humanoid getting up, 17 joints; v4 observes 376 numbers, v5 348", "45"),
    "InvertedDoublePendulum": ("two poles on a cart, 1 action; v4 observes 11 numbers, v5 9", "45"),
    "InvertedPendulum": ("one pole on a cart, 1 action, 4 observations", "45"),
    "Pusher": ("arm pushing a puck, 7 joints, 23 observations; v4 needs mujoco < 3", "5"),
    "Reacher": ("two-joint arm reaching a point; v4 observes 11 numbers, v5 10", "45"),
    "Swimmer": ("three-link swimmer, 2 joints, 8 observations; never terminates", "45"),
    "Walker2d": ("planar two-legged walker, 6 joints, 17 observations", "45"),
}
_CLASSIC = {
    "MountainCarContinuous-v0": "car that must swing up a hill, 1 action, 2 observations",
    "Pendulum-v1": "swing up and hold a pendulum, 1 action, 3 observations; never terminates",
}
_LATER = {"dmc": "the DeepMind Control suite", "hb": "HumanoidBench"}


def list_ids() -> list[tuple[str, str, str]]:
    """``(id, suite, note)`` of every environment known to work; other ids with Box actions may too."""
    mujoco = [
        (f"{name}-v{v}", "mujoco", note) for name, (note, versions) in _MUJOCO.items() for v in versions
    ]
    classic = [(env_id, "classic-control", note) for env_id, note in _CLASSIC.items()]
    return mujoco + classic + [(env_id, "toy", note) for env_id, note in toys.NOTES.items()]


def resolve(env: Any) -> Build:
    """How to build ``env``, an id or a function of no arguments; anything else is refused.

    Raises UsageError too if there is no such environment or its module cannot be imported.
    """
    if isinstance(env, gymnasium.Env):
        raise UsageError(
            "an environment was given; give its id, or a function that builds it (lambda: MyEnv())"
        )
    if callable(env):
        return lambda render_mode, limit: _from_function(env, render_mode, limit)
    if not isinstance(env, str):
        raise UsageError(f"an environment is an id or a function that builds one, not {type(env).__name__}")
    suite = env.split("/")[0]
    if "/" in env and suite in _LATER:
        raise UsageError(
            f"{env!r} belongs to {_LATER[suite]}, which is not part of this version of fewstep yet"
        )
    module, _, env_id = env.rpartition(":")
    if module:
        _import_module(module, env)
    name, _, version = env_id.rpartition("-v")
    if name in _MUJOCO and version in ("1", "2", "3"):
        working = " or ".join(f"{name}-v{v}" for v in _MUJOCO[name][1])
        raise UsageError(f"{env_id} is no longer part of Gymnasium; use {working}")
    if env_id not in gymnasium.registry:
        raise _no_such_id(env_id, module)
    return lambda render_mode, limit: _from_id(env_id, render_mode, limit)


def _import_module(module: str, env: str) -> None:
    try:
        modules.load(module)
    except Exception as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]:
            hint = "; install it or run from the folder it is in"
        elif isinstance(error, ModuleNotFoundError) and module.startswith(str(error.name)):
            hint = f"; {modules.origin(module)}"
        raise UsageError(
            f"cannot import {module!r} of environment {env!r}: {explain(error)}{hint}"
        ) from error


def _no_such_id(env_id: str, module: str) -> UsageError:
    if module and hasattr(sys.modules[module], env_id):
        return UsageError(
            f"{module}:{env_id} is a class, not a registered id; register it in {module} with "
            f"gymnasium.register(id='{env_id}-v0', entry_point={env_id}) and use {module}:{env_id}-v0"
        )
    users = {key for key, spec in gymnasium.registry.items() if _home(spec) != "gymnasium"}
    error = unknown("environment", env_id, users | {env_id for env_id, _, _ in list_ids()})
    if module:
        return UsageError(f"{error}; importing {module!r} did not register it: {modules.origin(module)}")
    return UsageError(
        f"{error}; one that a module of yours registers is named my_module:{env_id} (for a saved run, on the "
        "line env of its config.toml)"
    )


def is_known_here_only(env: Any) -> bool:
    """Whether ``env`` is an id that the running program has registered itself, so that another one, such as
    the command line, would not know it."""
    if not isinstance(env, str) or ":" in env or env not in gymnasium.registry:
        return False
    plugins = importlib.metadata.entry_points(group="gymnasium.envs")
    return _home(gymnasium.registry[env]) not in {
        "gymnasium",
        "fewstep",
        *(p.module.split(".")[0] for p in plugins),
    }


def _home(spec: EnvSpec) -> str:
    """The top-level package that an id's environment comes from."""
    entry = spec.entry_point
    origin = entry.split(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "") or ""
    return origin.split(".")[0]


def _from_id(env_id: str, render_mode: str | None, limit: int | None) -> Env:
    choose_backend(render_mode)
    # Environments that cannot be drawn need not take the argument at all.
    drawing: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    is_mujoco = str(gymnasium.registry[env_id].entry_point).startswith("gymnasium.envs.mujoco")
    try:
        with _quiet_about_versions(is_mujoco):
            # fewstep's own checks replace Gymnasium's passive checker, which only warns.
            env = gymnasium.make(env_id, limit, disable_env_checker=True, **drawing)
    except Exception as error:
        raise UsageError(f"cannot build environment {env_id}: {explain(error)}") from error
    return _sound(env, env_id, render_mode, limit)


def _from_function(build: Callable[[], object], render_mode: str | None, limit: int | None) -> Env:
    choose_backend(render_mode)
    name = getattr(build, "__name__", type(build).__name__)
    try:
        with _quiet_about_versions("mujoco" in sys.modules):
            env = build()
    except Exception as error:
        raise UsageError(f"the function {name} could not build its environment: {explain(error)}") from error
    if not isinstance(env, gymnasium.Env):
        raise UsageError(f"the function {name} returned {env!r}, not a gymnasium.Env")
    limited = env if limit is None else gymnasium.wrappers.TimeLimit(env, limit)
    return _sound(limited, type(env.unwrapped).__name__, render_mode, limit)


def _sound(env: Env, env_id: str, render_mode: str | None, limit: int | None) -> Env:
    """``env`` if it is what was asked for; closed again otherwise."""
    try:
        _require_render_mode(env, env_id, render_mode)
        require_limit(env, env_id, limit)
        refuse_running_statistics(env, env_id)
    except UsageError:
        env.close()
        raise
    return env


def _require_render_mode(env: Env, env_id: str, render_mode: str | None) -> None:
    if render_mode is None or (
        env.render_mode == render_mode and render_mode in env.metadata.get("render_modes", [])
    ):
        return
    offered = ", ".join(env.metadata.get("render_modes", [])) or "none"
    raise UsageError(f"{env_id} was not built with render_mode={render_mode!r}; it offers: {offered}")


@contextmanager
def _quiet_about_versions(is_mujoco: bool) -> Generator[None]:
    """Drop two notices no user can act on: that a -v4 task has a v5, and one on Gymnasium's own model files.

    The second comes from the MuJoCo library itself, which would also write it to a log file in the current
    folder. Every other warning passes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is out of date.*", category=DeprecationWarning)
        # Asked for a picture it cannot give, Gymnasium warns and goes on; here _require_render_mode raises.
        warnings.filterwarnings(
            "ignore", message=".*not in the possible render_modes.*", category=UserWarning
        )
        if not is_mujoco:
            yield
            return
        import mujoco

        def pass_on(message: str) -> None:
            if "settotalmass" not in message:
                warnings.warn(f"mujoco: {message}", RuntimeWarning, stacklevel=2)

        library: Any = mujoco  # its type stubs leave these two out
        before = library.get_mju_user_warning()
        library.set_mju_user_warning(pass_on)
        try:
            yield
        finally:
            library.set_mju_user_warning(before)
