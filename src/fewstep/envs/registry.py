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
from fewstep.envs.layers import Lent, refuse_running_statistics, require_limit
from fewstep.envs.messages import kind
from fewstep.envs.rendering import choose_backend, explain
from fewstep.errors import UsageError, unknown
from fewstep.suites import SUITES, Suite, list_ids, suite_of
from fewstep.suites.gymnasium_tasks import later_versions

Env = gymnasium.Env[Any, Any]
Build = Callable[[str | None, int | None], Env]
"""``(render_mode, max_episode_steps) -> environment``."""

FUNCTION, OBJECT = "function/", "object/"


def _register(suite: Suite) -> None:
    """Make its tasks known to Gymnasium, where an entry point says how they are built."""
    for env_id in suite.tasks if suite.entry_point else ():
        gymnasium.register(
            env_id,
            entry_point=suite.entry_point,
            max_episode_steps=suite.limits[env_id],
            kwargs={"name": env_id.removeprefix(f"{suite.name}/")},
        )


for _suite in SUITES:
    _register(_suite)


def packages_of(env_id: str) -> tuple[str, ...] | None:
    """Distributions beside Gymnasium that decide what an episode gives; None where that is not known."""
    suite = suite_of(env_id)
    return None if suite is None else suite.packages


def has_peaks(env: Any) -> bool:
    """Whether the highest reward of a step is worth telling (``Suite.peaks``)."""
    suite = suite_of(env) if isinstance(env, str) else None
    return suite is not None and suite.peaks


def packages_used(env_id: str) -> tuple[str, ...]:
    """``packages_of``; of an environment that is not known, MuJoCo if it has been loaded.

    To be asked once the environment has been resolved, which imports the module it is in.
    """
    known = packages_of(env_id)
    if known is None:
        return ("mujoco",) if "mujoco" in sys.modules else ()
    return known


def several(env: Any) -> tuple[Any, ...]:
    """What was given, one by one: the environments or functions of a list or of a ``SyncVectorEnv``.

    Raises UsageError for an empty list, ids in a list, and a vector that cannot be taken apart.
    """
    if isinstance(env, gymnasium.vector.SyncVectorEnv):
        return tuple(env.envs)
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise UsageError(
            f"{type(env).__name__} cannot be taken apart into its environments: give a list of the functions "
            "that build them, or a SyncVectorEnv; wrap its environments, not the vector"
        )
    if not isinstance(env, list | tuple):
        return (env,)
    if not env:
        raise UsageError("a list of environments needs at least one")
    if any(isinstance(one, str) for one in env):
        raise UsageError(
            "a list holds environments or functions that build them; of an id, training.envs says how many"
        )
    return tuple(env)


def is_lent(env: Any) -> bool:
    """Whether ``env`` is made of objects: environments that there are, of which no other can be built."""
    return any(isinstance(one, gymnasium.Env) for one in several(env))


def name_of(env: Any) -> str:
    """What runs and saved models call ``env``: its id, or ``function/NAME`` for a function that builds it and
    ``object/NAME`` for an environment, which no file can hold. Of several it is that of the first.

    Raises UsageError if it is none of these.
    """
    first = several(env)[0]
    if isinstance(first, str):
        return first
    if isinstance(first, gymnasium.Env):
        return OBJECT + foreign.call(lambda error: _not_usable(error, first), _own_name, first)
    if not callable(first):
        advice = "; give the list of its environments: .envs" if hasattr(first, "envs") else ""
        raise UsageError(
            "an environment is an id, a gymnasium.Env, a function that builds one, or a list of these, not "
            f"{kind(first)}{advice}"
        )
    if isinstance(first, functools.partial):
        return name_of(first.func)
    return FUNCTION + str(getattr(first, "__name__", type(first).__name__)).strip("<>")


def _own_name(env: Env) -> str:
    return type(env.unwrapped).__name__ if env.spec is None else env.spec.id


def _not_usable(error: BaseException, env: Env) -> UsageError:
    return UsageError(f"{type(env).__name__} cannot be used: {explain(error)}")


def is_in_python_only(name: str) -> bool:
    """Whether ``name_of`` named what no file holds."""
    return name.startswith((FUNCTION, OBJECT))


def resolve(env: Any) -> Build:
    """How to build ``env``: an id, a function of no arguments, or an environment itself.

    Raises UsageError too if there is no such environment or its module cannot be imported.
    """
    name = name_of(env)
    if isinstance(env, gymnasium.Env):
        return lambda render_mode, limit: _from_object(env, name, render_mode, limit)
    if not isinstance(env, str):
        return lambda render_mode, limit: _from_function(env, render_mode, limit)
    for prefix, what in ((FUNCTION, "built by a Python function"), (OBJECT, "a Python object")):
        if name.startswith(prefix):
            raise UsageError(
                f"the environment was {what} ({name.removeprefix(prefix)}), which no file holds; in Python "
                f"give it: fewstep.load(PATH, env={what.split()[-1].upper()})"
            )
    if suite := suite_of(env):
        suite.require(env)
    module, _, env_id = env.rpartition(":")
    if module:
        _import_module(module, env)
    if later := later_versions(env_id):
        raise UsageError(f"{env_id} is no longer part of Gymnasium; use {' or '.join(later)}")
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
        raise UsageError(
            f"the function {name} returned {kind(env)}, not a gymnasium.Env: it must build one at each call"
        )
    limited = env if limit is None else gymnasium.wrappers.TimeLimit(env, limit)
    return _sound(limited, name, render_mode, limit)


def _from_object(env: Env, name: str, render_mode: str | None, limit: int | None) -> Env:
    lent = Lent(env)
    limited = lent if limit is None else gymnasium.wrappers.TimeLimit(lent, limit)
    return _sound(limited, name.removeprefix(OBJECT), render_mode, limit)


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
