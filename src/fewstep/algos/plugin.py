"""Algorithms of the user's own: what is wrong in them is said to be theirs, with the place in their file.

``adopted`` looks at a record as it is loaded, before anything is trained, and gives it back with every
function guarded. What the functions must do once they run is checked by ``training.demands``.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from fewstep import config, foreign
from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.config import settings
from fewstep.errors import FewstepError, UsageError, require

TEXTS = ("name", "title", "citation")
FUNCTIONS = ("init", "update", "policy", "noise", "draw", "native", "behaviour")
OPTIONAL = ("value", "collector", "explore", "rollout")


class AlgorithmError(FewstepError):
    """An algorithm of the user's own does not do what ``algos.contract`` asks of it, or raised."""


def adopted(source: str, record: Algorithm) -> Algorithm:
    """The record with its ``source`` and its functions guarded.

    Args:
        source: ``module:ATTRIBUTE``, as the user gave it.
        record: what was found there.

    Raises:
        UsageError: a field of the record is not what it must be.
        AlgorithmError: its config class cannot be used.
    """
    for name in TEXTS:
        _require_field(source, record, name, lambda value: isinstance(value, str), "a text")
    for name in FUNCTIONS:
        _require_field(source, record, name, callable, "a function")
    for name in OPTIONAL:
        _require_field(
            source, record, name, lambda value: value is None or callable(value), "a function or None"
        )
    _require(source, record, "tiny", lambda value: isinstance(value, Mapping), "a dict of settings")
    _require_config(source, record.config)
    if record.rollout is None:
        _require_replay(source, record.config())
    return _guarded(source, record)


@functools.lru_cache(maxsize=64)
def _guarded(source: str, record: Algorithm) -> Algorithm:
    """One record for one source, however often it is asked for: what is compiled is kept under it."""
    guards: dict[str, Any] = {
        name: guard(source, name, function, RESULTS.get(name))
        for name in (*FUNCTIONS, *OPTIONAL)
        if (function := getattr(record, name)) is not None
    }
    if "value" in guards:
        value: Callable[..., Any] = guards["value"]
        guards["value"] = lambda cfg, policy: guard(source, "value", value(cfg, policy), None)
    return dataclasses.replace(record, source=source, **guards)


def _is_mode(value: Any) -> bool:
    return isinstance(value, ActionMode)


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(size) is int and size >= 0 for size in value)


RESULTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "native": (_is_mode, "an ActionMode"),
    "behaviour": (_is_mode, "an ActionMode"),
    "noise": (_is_shape, "a shape, a tuple of whole numbers"),
    "value": (callable, "a function of an observation and an action"),
    "rollout": (_is_length, "a whole number of steps, at least 1"),
}
"""What those functions must return that give no arrays."""


def guard(
    source: str, name: str, function: Callable[..., Any], result: tuple[Callable[[Any], bool], str] | None
) -> Callable[..., Any]:
    """``function``, whose errors say that they are those of ``source``, and where; signals pass through."""

    @functools.wraps(function)
    def guarded(*args: Any) -> Any:
        try:
            value = function(*args)
        except (FewstepError, KeyboardInterrupt):
            raise
        except BaseException as error:  # also SystemExit: whatever it is, it is not ours to obey
            raise AlgorithmError(
                f"algorithm {source}: {name} raised {foreign.said(source, error, function)}"
            ) from error
        if result is not None and not result[0](value):
            raise AlgorithmError(f"algorithm {source}: {name} must return {result[1]}, got {value!r}")
        return value

    return guarded


def _require(source: str, record: Algorithm, name: str, sound: Callable[[Any], bool], what: str) -> None:
    value = getattr(record, name)
    if not sound(value):
        raise UsageError(f"algorithm {source}: {name} must be {what}, got {value!r:.80}")


def _require_field(
    source: str, record: Algorithm, name: str, sound: Callable[[Any], bool], what: str
) -> None:
    _require(source, record, name, sound, what)
    try:
        hash(getattr(record, name))
    except TypeError:
        raise UsageError(f"algorithm {source}: {name} must be hashable, such as a plain function") from None


def _require_config(source: str, cls: Any) -> None:
    """That the settings can be read, changed one by one, written to ``config.toml`` and read again."""
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise UsageError(f"algorithm {source}: config must be a frozen dataclass, got {cls!r:.80}")
    try:
        default = cls()
        _require_frozen(default, "config")
        hash(default)
        text = settings.to_toml(settings.flatten(default))
        read = settings.dotted(config.parse_toml(text, "the defaults"), "the defaults")
        again = settings.build(cls, settings.checked(read, config.known_settings(cls), "the defaults"))
        require(
            settings.to_toml(settings.flatten(again)) == text, "its defaults change when they are read again"
        )
    except FewstepError as error:
        raise UsageError(f"algorithm {source}: config: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise AlgorithmError(f"algorithm {source}: config: {foreign.said(source, error, cls)}") from error


def _require_replay(source: str, default: Any) -> None:
    """That there is what the loop reads of an algorithm that learns from a replay buffer."""
    if not isinstance(getattr(default, "replay", None), config.ReplayConfig):
        raise UsageError(
            f"algorithm {source}: config needs the section `replay: ReplayConfig` (fewstep.config), as it "
            "learns from a replay buffer; one that learns from rollouts gives their length (rollout)"
        )
    if not isinstance(getattr(default, "discount", None), float):
        raise UsageError(f"algorithm {source}: config needs a number `discount`")


def _require_frozen(section: Any, name: str) -> None:
    require(section.__dataclass_params__.frozen, f"{name} must be a frozen dataclass")
    for field in dataclasses.fields(section):
        require(field.init, f"{name}.{field.name} must not be field(init=False): it could not be set")
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            _require_frozen(value, f"{name}.{field.name}")
