"""Named settings: the one flat key space (``critic.atoms``) that presets, files and ``--set`` all write to.

A config is a tree of frozen dataclasses; its settings are the dotted paths of its leaves. Values come in as
TOML values, as text or as Python's and numpy's, are checked against the field's annotation, and the
dataclasses are then built once, so that their own validation sees the final values only.
"""

import dataclasses
import functools
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from fewstep import habits
from fewstep.errors import FewstepError, UsageError, shown, unknown

T = TypeVar("T")
Flat = dict[str, Any]
"""Dotted setting names and their values."""
LARGEST = 2**63
"""Whole numbers are smaller than this in size, as TOML's are."""
LARGEST_COUNT = 2**31
"""Those of a section are smaller than this, as updates and steps are counted in 32 bits."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included unless they are open ends."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            positive = self.low == 0 and self.low_open
            return "positive" if positive else f"{'more than' if self.low_open else 'at least'} {self.low:g}"
        ends = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"in {ends[0]}{self.low:g}, {self.high:g}{ends[1]}"


Positive = Annotated[float, Range(0, low_open=True)]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, high_open=True)]
Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Sizes = Annotated[tuple[int, ...], Range(1)]
"""Sizes of hidden layers, at least one layer."""


MOVED = {
    f"training.{old}": f"replay.{new}"
    for old, new in (
        ("batch_size", "batch_size"),
        ("learning_starts", "learning_starts"),
        ("overlap", "overlap"),
        ("replay_capacity", "capacity"),
        ("updates_per_step", "updates_per_step"),
    )
}
"""Earlier names -> names of today, where an algorithm has them."""


class InvalidSetting(UsageError):
    """One setting of a section has an impossible value; the message begins with its name in the section."""


class Section:
    """Base of a config's dataclasses: checks every field whose annotation has a ``Range``."""

    def __post_init__(self) -> None:
        for name, allowed in ranges(type(self)).items():
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if not values or any(each is not None and each not in allowed for each in values):
                got = list(value) if isinstance(value, tuple) else value
                what = "sizes, each " if isinstance(value, tuple) else ""
                raise InvalidSetting(f"{name} must be {what}{allowed}, got {got}")
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, int) and abs(each) >= LARGEST_COUNT:
                    raise InvalidSetting(f"{field.name} must be below 2**31, got {each}")


@functools.cache
def ranges(cls: type) -> Mapping[str, Range]:
    """Field -> the range its annotation gives, for the fields of a section that have one."""
    found: dict[str, Range] = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        for part in (hint, *typing.get_args(hint)):
            for rule in getattr(part, "__metadata__", ()):
                if isinstance(rule, Range):
                    found[name] = rule
    return found


def all_ranges(cls: type, prefix: str = "") -> dict[str, Range]:
    """Dotted name -> range of every leaf setting of a config class whose annotation has one."""
    found = {prefix + name: allowed for name, allowed in ranges(cls).items()}
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            found |= all_ranges(typing.cast(type, hint), f"{prefix}{name}.")
    return found


def schema(cls: type, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> annotation of every leaf setting of a config class, in the order of its fields."""
    hints = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        annotation = hints[field.name]
        if dataclasses.is_dataclass(annotation):
            found |= schema(typing.cast(type, annotation), f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = annotation
    return found


def flatten(config: Any, prefix: str = "") -> Flat:
    """Dotted name -> value of every leaf setting of a config object."""
    flat: Flat = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{field.name}.")
        else:
            flat[prefix + field.name] = value
    return flat


def build(cls: type[T], flat: Mapping[str, Any], prefix: str = "") -> T:
    """Build a config from the settings that start with ``prefix``; absent ones keep their defaults.

    The defaults of a section are those its parent gives it, which may differ from the section's own: two
    algorithms share a section and start it differently.
    """
    return _overlay(cls(), flat, prefix)


def _overlay(config: T, flat: Mapping[str, Any], prefix: str) -> T:
    changes: Flat = {}
    for field in dataclasses.fields(typing.cast(Any, config)):
        name, value = prefix + field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _overlay(value, flat, f"{name}.")
        elif name in flat:
            changes[field.name] = flat[name]
    try:
        return typing.cast(T, dataclasses.replace(typing.cast(Any, config), **changes))
    except InvalidSetting as error:
        raise InvalidSetting(f"{prefix}{error}") from error
    except FewstepError:
        raise
    except Exception as error:
        if type(config).__module__.startswith("fewstep.") and not isinstance(error, ValueError):
            raise
        # A config class of the user's may refuse a value in whatever way Python has: assert, TypeError, ...
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UsageError(f"{prefix.rstrip('.') + ': ' if prefix else ''}{said}") from error


def dotted(tree: Mapping[str, Any], source: str) -> Flat:
    """The settings of a tree under their dotted names, however it is written: ``critic.atoms`` may be a
    dotted name, an entry of a table ``critic``, or both ways side by side.

    Raises:
        UsageError: one setting is given twice, in two ways; ``source`` names the tree.
    """
    flat: Flat = {}
    for name, value in _leaves(tree, ""):
        if name in flat:
            raise UsageError(f"{source}: {name} is given twice")
        flat[name] = value
    return flat


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def checked(tree: Mapping[str, Any], known: Mapping[str, Any], source: str) -> Flat:
    """The settings of a tree under their dotted names, with values converted to the annotated types.

    Args:
        tree: settings as a TOML file or a Python caller gives them, dotted, nested or mixed.
        known: the schema.
        source: where they come from, for the message ("preset small", "--set").

    Raises:
        UsageError: a name outside the schema (the nearest one is suggested), a setting given
            twice, or a value of the wrong type.
    """
    result: Flat = {}
    for name, value in dotted(tree, source).items():
        name = known_name(name, known, source)
        if name in result:
            raise UsageError(f"{source}: {name} is given twice")
        result[name] = convert(value, known[name], f"{source}: {name}")
    return result


def assignments(texts: Iterable[str], known: Mapping[str, Any]) -> Flat:
    """Settings from ``name=value`` texts as the user types them after ``--set``."""
    flat: Flat = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--set {text!r} is not of the form name=value, for example critic.atoms=51")
        name = known_name(name, known, "--set")
        flat[name] = convert(_read_text(value.strip(), known[name]), known[name], f"--set: {name}")
    return flat


def whole(text: str, name: str) -> int:
    """The whole number that a text stands for, as ``--set`` reads it: ``100000``, ``100_000`` or ``1e5``.

    Raises:
        UsageError: it stands for none; the message starts with ``name``.
    """
    return convert(_value(text.strip()), int, name)


def known_name(name: str, known: Mapping[str, Any], source: str) -> str:
    """The name itself, or that of today for one that scripts and files of earlier commits use."""
    if name not in known and MOVED.get(name) in known:
        return MOVED[name]
    if name not in known:
        own = next((each for each in known if each.startswith(f"{name}.")), None)
        if own is not None:
            raise UsageError(f"{source}: {name} is a section, whose settings are {own} and others")
        if name in ("algo", "env", "seed", "preset"):
            raise UsageError(f"{source}: {name} is no setting but an argument of its own")
        if ours := habits.named_here(name, known):
            raise UsageError(f"{source}: unknown setting {name!r}; here that is set by {' or '.join(ours)}")
        raise UsageError(f"{source}: {unknown('setting', name, known)}")
    return name


def _read_text(text: str, annotation: Any) -> Any:
    """The value that a bare command-line text stands for, given what is expected there."""
    choices, _ = without_none(annotation)
    if choices is str:
        quoted = _value(text) if text[:1] in ("'", '"') else None  # as ``to_text`` writes it
        return quoted if isinstance(quoted, str) else text
    if typing.get_origin(choices) is tuple and not text.startswith("["):
        return [_value(part.strip()) for part in text.split(",") if part.strip()]
    return _value(text)


def _value(text: str) -> Any:
    """A TOML value, a number as Python takes it (``.5``), or the text itself."""
    if text in ("True", "False"):
        return text == "True"
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also a number of 5000 digits, endless brackets
        pass
    try:
        return float(text)
    except ValueError:
        return text


def without_none(annotation: Any) -> tuple[Any, bool]:
    """Split ``X | None`` into X and whether None was allowed."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
        raise TypeError(
            f"settings of type {annotation} are not supported; use one type, optionally with None"
        )
    return annotation, False


def plain(value: Any) -> Any:
    """What numpy (or jax) holds as Python's own number, bool, text or list; anything else as it is."""
    return value.tolist() if hasattr(value, "dtype") and hasattr(value, "tolist") else value


def convert(value: Any, annotation: Any, name: str) -> Any:
    """``value`` as the annotated type, which is always Python's own. TOML has no null, so the text ``none``
    stands for None where it is allowed; a number without a fraction is a whole number however it is written.

    Raises:
        UsageError: the value is not of that type; the message starts with ``name``.
        TypeError: the annotation is none of bool, int, float, str, Literal, tuple or one of these with None.
    """
    expected, optional = without_none(annotation)
    value = plain(value)
    if optional and (value is None or value == "none"):
        return None
    origin = typing.get_origin(expected)
    if origin is Literal:
        choices = typing.get_args(expected)
        if value not in choices:
            raise UsageError(f"{name} must be one of {', '.join(map(str, choices))}; got {shown(value)}")
        return choices[choices.index(value)]
    if origin is tuple:
        return _convert_tuple(value, typing.get_args(expected), name)
    if expected is bool and isinstance(value, bool):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{name} must be finite; got {shown(value)}")
        if int in (expected, type(value)) and abs(value) >= LARGEST:
            raise UsageError(f"{name} must be smaller than 2**63; got {shown(value)}")
        if expected is int and value % 1 == 0:
            return int(value)
        if expected is float:
            return float(value)
    if expected is str and isinstance(value, str):
        return value
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if expected not in words:
        raise TypeError(f"{name}: settings of type {annotation} are not supported")
    raise UsageError(f"{name} must be {words[expected]}{' or none' if optional else ''}; got {shown(value)}")


def _convert_tuple(value: Any, members: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{name} must be a list; got {shown(value)}")
    if len(members) == 2 and members[1] is Ellipsis:
        members = (members[0],) * len(value)
    if len(value) != len(members):
        raise UsageError(f"{name} must have {len(members)} entries; got {len(value)}")
    return tuple(convert(item, member, name) for item, member in zip(value, members, strict=True))


def to_toml(flat: Mapping[str, Any]) -> str:
    """TOML text of settings: plain keys first, then one table per section; reading it back gives ``flat``."""
    tables: dict[str, list[str]] = {"": []}
    for name, value in flat.items():
        table, _, key = name.rpartition(".")
        tables.setdefault(table, []).append(f"{key} = {to_text(value)}")
    blocks = [
        "\n".join(([f"[{table}]"] if table else []) + lines) for table, lines in tables.items() if lines
    ]
    return "\n\n".join(blocks) + "\n"


def to_text(value: Any) -> str:
    """One value as TOML, which is also how ``--set`` takes it."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(to_text, value)) + "]"
    raise TypeError(f"no TOML form for {value!r}")
