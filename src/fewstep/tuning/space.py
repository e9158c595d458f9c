"""What a setting may be: an interval of numbers or a list of choices, checked against its annotation."""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from fewstep.config import settings
from fewstep.config.settings import Range
from fewstep.errors import UsageError, shown
from fewstep.experiments import spec

KEYS = ("low", "high", "log", "step")
AUTO = "auto"


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        whole: whether they are whole numbers.
        log: whether equal ratios are equally likely, in place of equal differences.
        step: distance of neighbouring values; None: any (of whole numbers, all).
    """

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None

    def __str__(self) -> str:
        step = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{step}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """Some values of any type a setting can have, in the file's order, none twice."""

    values: tuple[Any, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as TOML: the form in which Optuna's storage and all tables hold them."""
        return tuple(map(settings.to_text, self.values))

    def __str__(self) -> str:
        return "one of " + ", ".join(self.texts)


Domain = Interval | Choices


def parse(tree: Any, known: Mapping[str, Any], ranges: Mapping[str, Range], source: str) -> dict[str, Domain]:
    """The domain of every setting in a table ``[search]``, dotted or nested.

    Args:
        tree: ``{"critic.tau" = {low = 1e-3, high = 0.1, log = true}, "actor.hidden" = [[64], [256]],
            "temperature.automatic" = "auto"}``.
        known: setting -> annotation.
        ranges: setting -> what its annotation allows.
        source: names the table in messages.

    Raises:
        UsageError: an unknown setting, or a domain that is empty or outside what the setting may be.
    """
    if not isinstance(tree, Mapping) or not tree:
        raise UsageError(
            f'{source} must be a table of settings, such as "critic.tau" = {{ low = 1e-3, high = 0.1 }}'
        )
    found: dict[str, Domain] = {}
    for given, value in _leaves(tree, known, ""):
        name = settings.known_name(given, known, source)
        if name in found:
            raise UsageError(f"{source}: {name} is given twice")
        found[name] = _domain(value, known[name], ranges.get(name), f"{source}: {name}")
    return found


def _leaves(tree: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted name and domain: a table is a section unless it has a setting's name or a domain's keys."""
    for key, value in tree.items():
        name = prefix + key
        if isinstance(value, Mapping) and name not in known and not set(value) & set(KEYS):
            yield from _leaves(value, known, f"{name}.")
        else:
            yield name, value


def _domain(value: Any, annotation: Any, allowed: Range | None, source: str) -> Domain:
    if value == AUTO:
        return _of_annotation(annotation, allowed, source)
    if isinstance(value, list):
        return _choices(value, annotation, allowed, source)
    if isinstance(value, Mapping):
        return _interval(value, annotation, allowed, source)
    raise UsageError(
        f'{source} must be {{ low = ..., high = ... }}, a list of choices or "auto", got {shown(value)}'
    )


def _of_annotation(annotation: Any, allowed: Range | None, source: str) -> Domain:
    """All that a setting may be, if these are few values or a closed interval."""
    kind, optional = settings.without_none(annotation)
    none = (None,) if optional else ()
    if kind is bool:
        return Choices((False, True, *none))
    if typing.get_origin(kind) is Literal:
        return Choices((*typing.get_args(kind), *none))
    if kind not in (int, float):
        raise UsageError(f'{source} has no range of its own for "auto"; give a list of choices')
    if allowed is None or not -float("inf") < allowed.low < allowed.high < float("inf"):
        may = "any number" if allowed is None else str(allowed)
        raise UsageError(f'{source} may be {may}, too much for "auto"; give {{ low = ..., high = ... }}')
    if allowed.low_open or allowed.high_open:
        raise UsageError(
            f'{source} may be {allowed}, an open interval, where "auto" would search up to a value that is '
            "not allowed; give { low = ..., high = ... }"
        )
    return Interval(allowed.low, allowed.high, kind is int)


def _choices(value: list[Any], annotation: Any, allowed: Range | None, source: str) -> Choices:
    if len(value) < 2:
        raise UsageError(f"{source} has {len(value)} choice(s); a search needs two or more")
    values = tuple(settings.convert(each, annotation, f"{source}: a choice") for each in value)
    for each in values:
        numbers = each if isinstance(each, tuple) else (each,)
        if allowed is not None and any(number is not None and number not in allowed for number in numbers):
            raise UsageError(f"{source}: a choice must be {allowed}, got {settings.to_text(each)}")
    choices = Choices(values)
    if len(set(choices.texts)) < len(values):
        raise UsageError(f"{source} names a choice twice: {', '.join(choices.texts)}")
    return choices


def _interval(table: Mapping[str, Any], annotation: Any, allowed: Range | None, source: str) -> Interval:
    kind, _ = settings.without_none(annotation)
    if kind not in (int, float):
        raise UsageError(f"{source} is not a number; give a list of choices")
    spec.only(table, KEYS, source)
    for key in ("low", "high"):
        if key not in table:
            raise UsageError(f"{source}: no {key}; an interval is {{ low = ..., high = ... }}")
    low, high = (settings.convert(table[key], kind, f"{source}: {key}") for key in ("low", "high"))
    if low >= high:
        raise UsageError(f"{source}: low must be less than high; got {low:g} and {high:g}")
    for key, end in (("low", low), ("high", high)):
        if allowed is not None and end not in allowed:
            raise UsageError(f"{source}: {key} must be {allowed}, got {end:g}")
    log = settings.convert(table.get("log", False), bool, f"{source}: log")
    if log and low <= 0:
        raise UsageError(f"{source}: with log = true, low must be positive, got {low:g}")
    step = table.get("step")
    if step is not None:
        step = settings.convert(step, kind, f"{source}: step")
        if log:
            raise UsageError(f"{source}: log and step exclude each other; give a list of choices")
        if not 0 < step <= high - low or Decimal(str(high)) - Decimal(str(low)) != _multiple(low, high, step):
            raise UsageError(
                f"{source}: low and high must be whole steps apart, got {low:g} to {high:g} in steps of "
                f"{step:g}"
            )
    return Interval(low, high, kind is int, log, step)


def _multiple(low: float, high: float, step: float) -> Decimal:
    """The largest multiple of ``step`` in the interval's width, by the numbers as they are written."""
    width = Decimal(str(high)) - Decimal(str(low))
    return width - width % Decimal(str(step))
