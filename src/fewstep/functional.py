"""The algorithms as pure functions, for training loops of one's own (docs/functional.md).

    from fewstep import functional as fs

    sac = fs.algorithm("sac")
    cfg = fs.config(sac, preset="small")
    state = sac.init(cfg, fs.Spec(obs_size=3, act_size=1), jax.random.key(0))
    state, metrics = sac.update(cfg, state, batch)
    action = sac.act(cfg, sac.policy(state), obs, key, fs.ActionMode())

An ``Algorithm`` is a record of functions without state, and a training state is a pytree of arrays: ``jit``,
``vmap``, ``scan`` and ``grad`` work on them. They compute in float32 with jax's own kind of keys; under other
switches (``jax_enable_x64``) they compute as those say. Nothing here holds an environment, a replay buffer or
a file.

What is listed in ``__all__`` stays as it is within a major version.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax.numpy as jnp

from fewstep.algos.contract import ActionMode, Algorithm, Metrics
from fewstep.algos.registry import get as algorithm
from fewstep.config import presets, resolve, settings
from fewstep.errors import UsageError, unknown
from fewstep.types import Rollout, Spec, Transition

__all__ = [
    "ActionMode",
    "Algorithm",
    "Metrics",
    "Rollout",
    "Spec",
    "Transition",
    "algorithm",
    "config",
    "traced",
]

C = TypeVar("C")

STATIC = {
    "max_grad_norm": "0 means that nothing is clipped, which decides what is computed",
    "reward_scale": "1 means that nothing is scaled, which decides what is computed",
    "log_std_min": "it is part of the policy network and not of the update",
    "momentum": "it is part of the networks and not of the update",
    "equal_share": "it decides how many rows of a batch are of one kind",
    "grid_share": "it decides how many rows of a batch are of one kind",
    "pathwise": "0 means that there is no such gradient, which decides what is computed",
    "epsilon_penalty": "0 means that there is no such bound, which decides what is computed",
    "mirror.weight": "0 means that there is no such term, which decides what is computed",
}
"""Settings (names, or the last parts of names) that are real numbers and yet cannot be traced, and why."""


def config(
    algorithm: Algorithm[C, Any, Any],
    *,
    preset: str = presets.DEFAULT,
    env: str = "",
    settings: Mapping[str, Any] | None = None,
) -> C:
    """The config of an algorithm, checked: its defaults, then a preset, then ``settings``.

    Args:
        algorithm: the record.
        preset: ``default``, ``small``, ... (``fewstep presets ALGO``). What a preset says of the training
            loop (``training.*``) is left out; what it says of the replay buffer is in ``cfg.replay``, for a
            loop to follow.
        env: id of the environment, where the preset has sections for some.
        settings: names and values, dotted or nested: ``{"critic.ensemble": 5}`` (``fewstep settings ALGO``).

    Raises:
        UsageError: no such preset or setting, or a value of the wrong type or out of its range.
    """
    name = algorithm.source or algorithm.name
    given = dict(settings or {})
    for setting in given:
        if setting.split(".")[0] == "training":
            raise UsageError(f"{setting} is a setting of fewstep's own training loop, not of {name}")
    # No loop of fewstep's: what it cannot do with a task on the device is no fault of the config.
    overrides = given | {"training.device_env": None}
    run = resolve(name, algorithm.config, env, preset=preset, overrides=overrides, origin="settings")
    return run.algorithm


def traced(cfg: C, values: Mapping[str, Any]) -> C:
    """A config in which some numbers are scalars that jax traces: under ``vmap`` one of each lane, under
    ``grad`` what is differentiated by.

    The config is one for ``init``, ``update``, ``act`` and the like inside the traced function; it cannot
    be hashed or written down. Ranges are not checked, as the values are not known yet: a negative learning
    rate climbs.

    Args:
        cfg: a config, of ``config`` for example.
        values: dotted name -> scalar, of settings that are numbers: ``{"actor.learning_rate": rate}``. Those
            that decide what is computed, and those of the replay buffer, cannot be traced.

    Raises:
        UsageError: there is no such setting, it cannot be traced, or its value is not a scalar.
    """
    known = settings.schema(type(cfg))
    for name, value in values.items():
        _require_traceable(name, known)
        if jnp.shape(value) != ():
            raise UsageError(f"{name} must be a scalar, got shape {jnp.shape(value)}; vmap over its values")
    return _with(cfg, values, "")


def _require_traceable(name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        raise unknown("setting", name, known)
    if name.startswith("replay."):
        raise UsageError(f"{name} is for the loop that draws the batches: no update reads it")
    if known[name] is not float:
        raise UsageError(f"{name} cannot be traced: only settings that are real numbers can")
    if reason := STATIC.get(name, STATIC.get(name.rpartition(".")[2])):
        raise UsageError(f"{name} cannot be traced: {reason}; give it to config")


def _with(section: C, values: Mapping[str, Any], prefix: str) -> C:
    """A copy of a section with other values, made without its ``__init__``, which would compare them."""
    made = object.__new__(type(section))
    for field in dataclasses.fields(section):  # pyright: ignore[reportArgumentType]
        name, value = prefix + field.name, getattr(section, field.name)
        value = _with(value, values, f"{name}.") if dataclasses.is_dataclass(value) else value
        object.__setattr__(made, field.name, values.get(name, value))
    return made
