"""From what the user names to a function that builds one environment."""

import functools
import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from fewstep import foreign
from fewstep.envs import toys
from fewstep.envs.layers import refuse_running_statistics, require_limit
from fewstep.envs.messages import kind
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
FUNCTION = "function/"
_LATER = {"dmc": "the DeepMind Control suite", "hb": "HumanoidBench"}


def list_ids() -> list[tuple[str, str, str]]:
    """``(id, suite, note)`` of every environment known to work; other ids with Box actions may too."""
    mujoco = [
        (f"{name}-v{v}", "mujoco", note) for name, (note, versions) in _MUJOCO.items() for v in versions
    ]
    classic = [(env_id, "classic-control", note) for env_id, note in _CLASSIC.items()]
    return mujoco + classic + [(env_id, "toy", note) for env_id, note in toys.NOTES.items()]


_WITHOUT_MUJOCO = ("classic-control", "toy")
"""Suites whose returns do not depend on MuJoCo's version."""


def without_mujoco(env_id: str) -> bool:
    """Whether an environment is known not to use MuJoCo."""
    return env_id in {known for known, suite, _ in list_ids() if suite in _WITHOUT_MUJOCO}


def uses_mujoco(env_id: str) -> bool:
    """Whether returns depend on MuJoCo: by the suite; of other environments, whether it has been loaded.

    To be asked once the environment has been resolved, which imports the module it is in.
    """
    if env_id in {known for known, _, _ in list_ids()}:
        return not without_mujoco(env_id)
    return "mujoco" in sys.modules


def name_of(env: Any) -> str:
    """What runs and saved models call ``env``: its id, or ``function/NAME`` for a function that builds it,
    which no file can hold.

    Raises UsageError if it is neither.
    """
    if isinstance(env, gymnasium.Env):
        raise UsageError(
            "an environment was given; give its id, or a function that builds it (lambda: MyEnv())"
        )
    if isinstance(env, str):
        return env
    if not callable(env):
        raise UsageError(f"an environment is an id or a function that builds one, not {type(env).__name__}")
    if isinstance(env, functools.partial):
        return name_of(env.func)
    return FUNCTION + str(getattr(env, "__name__", type(env).__name__)).strip("<>")


def resolve(env: Any) -> Build:
    """How to build ``env``, an id or a function of no arguments; anything else is refused.

    Raises UsageError too if there is no such environment or its module cannot be imported.
    """
    name = name_of(env)
    if not isinstance(env, str):
        return lambda render_mode, limit: _from_function(env, render_mode, limit)
    if name.startswith(FUNCTION):
        raise UsageError(
            f"the environment was built by a Python function ({name.removeprefix(FUNCTION)}), which no file "
            "holds; in Python give it: fewstep.load(PATH, env=FUNCTION)"
        )
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
    foreign.load(module, f"cannot import {module!r} of environment {env!r}", explain)


def _no_such_id(env_id: str, module: str) -> UsageError:
    if module and hasattr(sys.modules[module], env_id):
        return UsageError(
            f"{module}:{env_id} is a class, not a registered id; register it in {module} with "
            f"gymnasium.register(id='{env_id}-v0', entry_point={env_id}) and use {module}:{env_id}-v0"
        )
    users = {key for key, spec in gymnasium.registry.items() if _home(spec) != "gymnasium"}
    error = unknown("environment", env_id, users | {env_id for env_id, _, _ in list_ids()})
    if module:
        return UsageError(f"{error}; importing {module!r} did not register it: {foreign.origin(module)}")
    return UsageError(
        f"{error}; an environment of your own is named with the module that registers it "
        f"(my_module:{env_id}, in the config.toml of a saved model or run too)"
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

    def failed(error: BaseException) -> UsageError:
        return UsageError(f"cannot build environment {env_id}: {explain(error)}")

    with _quiet_about_versions(is_mujoco):
        # fewstep's own checks replace Gymnasium's passive checker, which only warns.
        env = foreign.call(failed, gymnasium.make, env_id, limit, disable_env_checker=True, **drawing)
    return _sound(env, env_id, render_mode, limit)


def _from_function(build: Callable[[], object], render_mode: str | None, limit: int | None) -> Env:
    choose_backend(render_mode)
    name = getattr(build, "__name__", type(build).__name__)

    def failed(error: BaseException) -> UsageError:
        return UsageError(f"the function {name} could not build its environment: {explain(error)}")

    with _quiet_about_versions("mujoco" in sys.modules):
        env = foreign.call(failed, build)
    if not isinstance(env, gymnasium.Env):
        raise UsageError(f"the function {name} returned {kind(env)}, not a gymnasium.Env")
    limited = env if limit is None else gymnasium.wrappers.TimeLimit(env, limit)
    return _sound(limited, name, render_mode, limit)


def _sound(env: Env, env_id: str, render_mode: str | None, limit: int | None) -> Env:
    """``env`` if it is what was asked for; closed again otherwise."""

    def failed(error: BaseException) -> UsageError:
        return UsageError(f"{env_id} cannot be used: {explain(error)}")

    def check() -> Env:
        require_limit(env, env_id, limit)
        refuse_running_statistics(env, env_id)
        if render_mode is None:
            return env
        offered = [str(mode) for mode in env.metadata.get("render_modes", [])]
        if env.render_mode == render_mode and render_mode in offered:
            return env
        choice = ", ".join(offered) or "none"
        raise UsageError(f"{env_id} was not built with render_mode={render_mode!r}; it offers: {choice}")

    try:
        return foreign.call(failed, check)
    except UsageError:
        foreign.close(env, env_id)
        raise


@contextmanager
def _quiet_about_versions(is_mujoco: bool) -> Generator[None]:
    """Drop two notices no user can act on: that a -v4 task has a v5, and one on Gymnasium's own model files.

    The second comes from the MuJoCo library itself, which would also write it to a log file in the current
    folder. Every other warning passes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is out of date.*", category=DeprecationWarning)
        # Asked for a picture it cannot give, Gymnasium warns and goes on; here _sound raises.
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
