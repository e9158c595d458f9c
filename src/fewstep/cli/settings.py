"""List every setting: values, defaults, what each preset makes of it, meaning."""

import argparse
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from fewstep.config import TrainingConfig, presets, resolve
from fewstep.config.settings import dotted, flatten, ranges, schema, to_text

LOOP = "training."
HEADING = "\nAttributes:\n"
HEAD = """\
# Settings

Every setting of the training loop and of every algorithm, made from the source by
`fewstep settings --markdown`. `--set NAME=VALUE` and a file for `--config` take them
([quickstart](quickstart.md#settings)); `fewstep config ALGO ENV --preset NAME` prints what a run would use.

A column per preset; an empty cell means the value of `default`. What a preset changes for some environments
only is listed below an algorithm's tables.
"""


@dataclass(frozen=True)
class Row:
    """One setting.

    Attributes:
        name: dotted, as ``--set`` takes it.
        kind: what a value may be, in words.
        values: preset -> value, as ``--set`` takes it.
        meaning: the text of the config class.
    """

    name: str
    kind: str
    values: dict[str, str]
    meaning: str


@dataclass(frozen=True)
class Section:
    """The settings of one config class; ``about`` is what its docstring says before the fields."""

    title: str
    about: str
    rows: list[Row]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep settings``."""
    parser.add_argument(
        "algo",
        metavar="ALGO",
        nargs="?",
        help="algorithm (`fewstep algos`), or MODULE:ATTRIBUTE of your own; without it, the training loop's",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print it as Markdown; without ALGO, of every algorithm"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the reference."""
    from fewstep.algos import registry

    if arguments.markdown and arguments.algo is None:
        print(page(), end="")
    elif arguments.algo is None:
        print(_text([loop()]), end="")
    else:
        cls = registry.get(arguments.algo).config
        if arguments.markdown:
            print(_chapter(arguments.algo, cls), end="")
        else:
            print(_text([*algorithm(arguments.algo, cls), loop(arguments.algo, cls)]), end="")
            print("\n".join(_exceptions(arguments.algo)))
    return 0


def page() -> str:
    """The text of ``docs/settings.md``."""
    from fewstep.algos import registry

    chapters = [_chapter(name, registry.get(name).config) for name in registry.BUILT_IN]
    return "\n".join([HEAD, "## The training loop\n", _markdown(loop(), [presets.DEFAULT]), *chapters])


def algorithm(name: str, cls: type) -> list[Section]:
    """The settings of an algorithm itself, its own first, then section by section."""
    values = _values(name, cls)
    return [_section(f"{title}.".lstrip("."), section, values) for title, section in _classes(cls)]


def loop(name: str | None = None, cls: type | None = None) -> Section:
    """The settings of the training loop; with an algorithm, as its presets set them."""
    if name is None or cls is None:
        plain = {key: to_text(value) for key, value in flatten(TrainingConfig(), LOOP).items()}
        return _section(LOOP, TrainingConfig, {presets.DEFAULT: plain})
    return _section(LOOP, TrainingConfig, _values(name, cls))


def meanings(cls: type) -> dict[str, str]:
    """Field -> its text in the docstring (``Attributes:``) of a config class and of those below it."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        entries = (inspect.cleandoc(base.__dict__.get("__doc__") or "")).partition(HEADING)[2]
        for names, text in re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", entries, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def _classes(cls: type, title: str = "") -> Iterator[tuple[str, type]]:
    yield title, cls
    default = cls()
    for field in fields(default):
        value = getattr(default, field.name)
        if is_dataclass(value):
            yield from _classes(type(value), f"{title}.{field.name}".lstrip("."))


def _section(prefix: str, cls: type, values: dict[str, dict[str, str]]) -> Section:
    about = inspect.cleandoc(cls.__doc__ or "").partition(HEADING)[0]
    if about.startswith(f"{cls.__name__}("):  # what dataclass writes where there is no docstring
        about = ""
    texts, allowed = meanings(cls), ranges(cls)
    rows = [
        Row(
            prefix + name,
            f"{_kind(annotation)}, {allowed[name]}" if name in allowed else _kind(annotation),
            {preset: found.get(prefix + name, "") for preset, found in values.items()},
            texts.get(name, ""),
        )
        for name, annotation in schema(cls).items()
        if "." not in name
    ]
    return Section(prefix.rstrip("."), " ".join(about.split()), rows)


def _values(name: str, cls: type) -> dict[str, dict[str, str]]:
    """Preset -> setting -> value where no environment has one of its own, the preset ``default`` first."""
    names = sorted(presets.names(name), key=lambda preset: (preset != presets.DEFAULT, preset))
    found: dict[str, dict[str, str]] = {}
    for preset in names:
        config = resolve(name, cls, "", preset=preset)
        flat = flatten(config.training, LOOP) | flatten(config.algorithm)
        found[preset] = {key: to_text(value) for key, value in flat.items()}
    return found


def _exceptions(name: str) -> list[str]:
    """A line for each environment that a preset has values of its own for."""
    lines: list[str] = []
    for preset in presets.names(name):
        for pattern, tables in presets.load(name, preset).get("for", {}).items():
            if pattern != "*":
                changes = ", ".join(
                    f"{key}={to_text(value)}" for key, value in dotted(tables, f"preset {preset}").items()
                )
                lines.append(f"preset `{preset}`, environments `{pattern}`: `{changes}`")
    return lines


def _kind(annotation: Any) -> str:
    members = [member for member in typing.get_args(annotation) if member is not type(None)]
    words = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    if annotation in words:
        return words[annotation]
    if typing.get_origin(annotation) is Literal:
        return ", ".join(map(str, members))
    if typing.get_origin(annotation) is tuple:
        return f"list of {_kind(members[0])}s"
    return f"{_kind(members[0])}, none"


def _text(sections: list[Section]) -> str:
    """For a terminal: a block per setting, with the presets that differ from ``default``."""
    lines: list[str] = []
    for section in sections:
        lines += [section.title or "(of the algorithm)", *_wrapped(section.about, "  "), ""]
        for row in section.rows:
            default = row.values[presets.DEFAULT]
            others = [f"{name} {value}" for name, value in row.values.items() if value != default]
            lines.append(f"  {row.name} = {default}" + (f"   ({'; '.join(others)})" if others else ""))
            lines += _wrapped(f"{row.kind}. {row.meaning}".replace("``", ""), "      ")
        lines.append("")
    return "\n".join(lines)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text.replace("``", ""), 100, initial_indent=indent, subsequent_indent=indent)


def _chapter(name: str, cls: type) -> str:
    training = loop(name, cls)
    columns = list(training.rows[0].values)
    parts = [f"## {name}\n", *(_markdown(section, columns) for section in algorithm(name, cls))]
    plain = {row.name: set(row.values.values()) for row in loop().rows}
    changed = [
        replace(row, meaning="") for row in training.rows if set(row.values.values()) != plain[row.name]
    ]
    if changed:
        about = "What the presets change of the [training loop](#the-training-loop)."
        parts.append(_markdown(Section(training.title, about, changed), columns))
    notes = [f"* {line}" for line in _exceptions(name)]
    return "\n".join([*parts, *notes, ""] if notes else parts)


def _markdown(section: Section, columns: Sequence[str]) -> str:
    heads = ["setting", "values", *(f"`{column}`" for column in columns), "meaning"]
    title = f"**{section.title}.** " if section.title else ""
    lines = [title + section.about, "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in section.rows:
        default = row.values[columns[0]]
        others = ["" if row.values[name] == default else f"`{row.values[name]}`" for name in columns[1:]]
        cells = [f"`{row.name}`", row.kind, f"`{default}`", *others, row.meaning.replace("|", "\\|")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).replace("``", "`") + "\n"
