"""The config of a model: of its settings, and of the environments that were given."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fewstep import config as configs
from fewstep import envs
from fewstep.algos.contract import Algorithm
from fewstep.config import RunConfig, settings
from fewstep.envs.registry import OBJECT
from fewstep.errors import UsageError, shown


def config(
    algo: str,
    algorithm: Algorithm,
    env: envs.Given,
    own: Any,
    seed: int,
    preset: str,
    overrides: Mapping[str, Any],
) -> RunConfig:
    """The preset, over it ``own``, a config of the algorithm's class, and over that single settings.

    Raises:
        UsageError: something is unknown or not possible.
    """
    name, count = envs.name_of(env), len(envs.several(env))
    flat = settings.checked(overrides, configs.known_settings(algorithm.config), "override")
    if own is not None:
        if type(own) is not algorithm.config:
            wanted = f"{algorithm.config.__module__}.{algorithm.config.__name__}"
            raise UsageError(f"config must be a {wanted}, got {shown(own)}")
        flat = settings.flatten(own) | flat
    if count > 1 or envs.is_lent(env):
        flat.setdefault("training.envs", count)
    # A preset has sections for ids; an environment is asked for its own, and stepped as it is.
    kind = name.removeprefix(OBJECT)
    if kind != name:
        flat.setdefault("training.device_env", None)
    resolved = configs.resolve(algo, algorithm.config, kind, seed=seed, preset=preset, overrides=flat)
    return fitted(replace(resolved, env=name), env)


def moved(config: RunConfig, env: envs.Given) -> RunConfig:
    """``config`` of a saved model, to go on with ``env``.

    Raises:
        UsageError: the model learns on a task on the device, and ``env`` is not that one.
    """
    name, task = envs.name_of(env), config.training.device_env
    if task is not None and name != config.env:
        raise UsageError(
            f"the model learns on the device, on training.device_env = {task!r} for {config.env}: it cannot "
            f"go on with {name}; model.evaluate(env=...) plays it on another environment"
        )
    return fitted(replace(config, env=name), env)


def fitted(config: RunConfig, env: envs.Given) -> RunConfig:
    """``config`` for what was given: its number of environments, and evaluation on what only exists once."""
    count, lent = len(envs.several(env)), envs.is_lent(env)
    training = config.training
    if (lent or count > 1) and training.envs != count:
        raise UsageError(
            f"{count} environment{'s were' if count > 1 else ' was'} given, training.envs is "
            f"{training.envs}: give a list of so many"
        )
    if lent and training.device_env is None:
        training = replace(training, eval_env="shared")
    return replace(config, training=training)
