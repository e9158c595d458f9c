"""A run directory as one record. What is missing or damaged is listed in ``Run.problems``, never raised."""

import contextlib
import json
import math
import os
import re
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.analysis.numbers import listing
from fewstep.envs.registry import packages_of
from fewstep.errors import FewstepError, UsageError
from fewstep.runs import checkpoint
from fewstep.runs.files import read_json
from fewstep.runs.layout import RANDOM_RETURN
from fewstep.runs.provenance import simulator_words

RECORDS = ("provenance.json", "metrics.jsonl", "evaluations.jsonl")
TABLES = ("config.toml", *RECORDS)
"""The return of random actions on a run's task, in its own folder or in that of its experiment's task."""

Row = dict[str, Any]
Note = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one action mode.

    Attributes:
        returns, lengths: one number per episode.
        cut: how many had not ended when they were cut.
        success: 1 or 0 per episode, empty where the environment does not say.
        peaks: highest reward of a step per episode, empty where it says nothing of its own.
    """

    env_steps: int
    updates: int
    actions: str
    returns: tuple[float, ...]
    lengths: tuple[float, ...]
    cut: int = 0
    success: tuple[int, ...] = ()
    peaks: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Mean return over the episodes."""
        return sum(self.returns) / len(self.returns)


@dataclass(frozen=True)
class Run:
    """What a run directory holds.

    Attributes:
        path: the directory, as the user named it.
        config, provenance, policy: ``config.toml``, ``provenance.json``, ``policy/policy.json``, or empty.
        metrics: rows of ``metrics.jsonl``, environment steps strictly increasing.
        evaluations: rows of ``evaluations.jsonl``, ordered by environment steps.
        actions, trajectories: a toy's samples, environment steps to file.
        saved: counters of the newest checkpoint (``env_steps``, ``updates``), or empty.
        files: every file below the directory with its size in bytes, hidden ones apart.
        problems: one sentence for each thing missing or damaged.
        random: ``random_return.json`` (``analysis.random_return``), empty without one.
    """

    path: Path
    config: Row
    provenance: Row
    policy: Row
    metrics: tuple[Row, ...]
    evaluations: tuple[Evaluation, ...]
    actions: dict[int, Path]
    trajectories: dict[int, Path]
    saved: Row
    files: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]
    random: Row = field(default_factory=dict[str, Any])

    @property
    def env(self) -> str:
        """Environment id; empty if no file says which."""
        return self._text("env")

    @property
    def algo(self) -> str:
        """Algorithm name; empty if no file says which."""
        return self._text("algo")

    @property
    def seed(self) -> str:
        """Seed, as text; empty if no file says which."""
        return self._text("seed")

    def _text(self, key: str) -> str:
        value = self.config.get(key, self.policy.get(key))
        return "" if value is None else str(value)

    def version(self, package: str) -> str:
        """Version of a package that the run recorded; empty where there is none."""
        versions = self.provenance.get("versions")
        table = versions if isinstance(versions, dict) else self.provenance
        return str(table.get(package) or "")

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages beside Gymnasium that returns depend on. Of an environment that fewstep does not know:
        MuJoCo unless the run recorded that it was not loaded."""
        known = packages_of(self.env)
        if known is None:
            return () if self.provenance and not self.version("mujoco") else ("mujoco",)
        return known

    @property
    def simulator(self) -> str | None:
        """``packages`` with versions, and what repeats actions (``MuJoCo 3.17.0, action repeat 2``): None if
        there is nothing of the kind, empty if a version is not known."""
        found = {package: self.version(package) for package in self.packages}
        if not all(found.values()):
            return ""
        words = [simulator_words(found)] if found else []
        words += [f"action repeat {self.action_repeat}"] if self.action_repeat > 1 else []
        return ", ".join(words) or None

    @property
    def action_repeat(self) -> int:
        """Environment steps of what the run calls one."""
        repeat = self.setting("training", "action_repeat")
        return int(repeat) if math.isfinite(repeat) else 1

    @property
    def step_unit(self) -> str:
        """What its steps are."""
        return f"decisions of {self.action_repeat} steps" if self.action_repeat > 1 else "environment steps"

    @property
    def is_saved_model(self) -> bool:
        """Whether this is what ``Model.save`` writes: something to load, without a record of its training."""
        here = {name for name, _ in self.files}
        return bool(self.saved) and not here.intersection(RECORDS)

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing that a report could show."""
        known = (self.config, self.provenance, self.policy, self.metrics, self.evaluations, self.saved)
        return not any((*known, self.actions, self.trajectories))

    def setting(self, section: str, key: str) -> float:
        """A number of the configuration; NaN where it is absent or no number."""
        return _number(self.section(section).get(key))

    def section(self, name: str) -> Row:
        """A table of the configuration; empty where it is absent."""
        table = self.config.get(name)
        return table if isinstance(table, dict) else {}

    @property
    def act_size(self) -> int | None:
        """Size of the action vector, by a toy's samples or the saved policy's ``spec``; None if unknown."""
        for file in reversed(self.actions.values()):
            with contextlib.suppress(ValueError):
                return int(load_array(file).shape[-1])
        spec = self.policy.get("spec", self.policy)
        size = spec.get("act_size") if isinstance(spec, dict) else None
        return size if isinstance(size, int) else None

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """``(env_steps [n], values [n])`` of one metric, over the rows that hold a finite number for it."""
        pairs = [(row["env_steps"], _number(row.get(name))) for row in self.metrics]
        kept = [pair for pair in pairs if math.isfinite(pair[1])]
        return np.array([s for s, _ in kept], float), np.array([v for _, v in kept], float)

    def metric_names(self) -> list[str]:
        """Every algorithm metric (``group/quantity``) of any row, in order of first appearance."""
        return list(dict.fromkeys(name for row in self.metrics for name in row if "/" in name))


def read_run(path: Path) -> Run:
    """Read one run directory.

    Raises:
        UsageError: ``path`` is not a directory, or holds none of the files a run writes.
    """
    if not path.is_dir():
        raise UsageError(
            f"{path} is not a run: {'not a directory' if path.exists() else 'no such directory'}"
        )
    if not any((path / name).is_file() for name in TABLES):
        raise UsageError(f"{path} is not a run: it holds none of {', '.join(TABLES)}")
    problems: list[str] = []
    note = problems.append
    absent = [name for name in TABLES if not (path / name).is_file()]
    saved = _saved(path)
    if saved and set(RECORDS) <= set(absent):
        note("it is a saved model, which holds no metrics and no evaluations")
    elif absent:
        note(f"{listing(absent)} {'is' if len(absent) == 1 else 'are'} missing")
    config = _document(path / "config.toml", tomllib.loads, note)
    provenance = _document(path / "provenance.json", json.loads, note)
    metrics = _last_word(_rows(path / "metrics.jsonl", note))
    rows = _rows(path / "evaluations.jsonl", note)
    evaluations = {}
    for number, row in rows:
        evaluation = _evaluation(row)
        if evaluation is None:
            note(
                f"evaluations.jsonl line {number} is left out: it lacks env_steps, actions or numeric returns"
            )
        else:
            evaluations[evaluation.env_steps, evaluation.actions] = evaluation  # a resumed run repeats rows
    found = {"metrics": metrics, "evaluations": evaluations}
    empty = [name for name, read in found.items() if not read and f"{name}.jsonl" not in absent]
    if empty:
        note(f"there are no {' and no '.join(empty)}: it ended before the first")
    _compare_with_plan(config, metrics, list(evaluations.values()), note)
    if (path / "crash").is_dir():
        note("training stopped on a value that was not finite; crash/ holds the state")
    return Run(
        path=path,
        config=config,
        provenance=provenance,
        policy=_document(path / "policy" / "policy.json", json.loads, lambda _: None),
        metrics=metrics,
        evaluations=tuple(sorted(evaluations.values(), key=lambda e: e.env_steps)),
        actions=_samples(path, "actions", "npy"),
        trajectories=_samples(path, "trajectories", "npz"),
        saved=saved,
        files=_files(path),
        problems=tuple(problems),
        random=random_return(path) or random_return(path.resolve().parent.parent),
    )


def random_return(folder: Path) -> Row:
    """``random_return.json`` of a folder; empty where there is none that can be read."""
    return _document(folder / RANDOM_RETURN, json.loads, lambda _: None)


def _compare_with_plan(
    config: Row, metrics: Sequence[Row], evaluations: Sequence[Evaluation], note: Note
) -> None:
    """Note a run that ended (or is still) a log interval or more before the steps it was asked for.

    Without rows nobody knows how far it came.
    """
    if not metrics and not evaluations:
        return
    training = config.get("training")
    table = training if isinstance(training, dict) else {}
    planned, interval = _number(table.get("steps")), _number(table.get("log_every", 1))
    reached = max([0, *(row["env_steps"] for row in metrics), *(e.env_steps for e in evaluations)])
    if reached + interval <= planned:
        note(f"it has reached {reached:,.0f} of {planned:,.0f} environment steps")


def load_array(path: Path, field: str | None = None) -> np.ndarray:
    """An array of a ``.npy`` file, or one ``field`` of a ``.npz``.

    Raises:
        ValueError: the file is damaged, holds objects, or lacks the field.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return loaded[field]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"samples/{path.name} cannot be read: {type(error).__name__}") from error


def _document(path: Path, parse: Callable[[str], Any], note: Note) -> Row:
    """A whole-file table; empty, with a note, where it is missing or broken."""
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        note(f"{path.name} cannot be read: {str(error).splitlines()[0]}")
        return {}
    if not isinstance(value, dict):
        note(f"{path.name} is not a table")
        return {}
    return value


def _rows(path: Path, note: Note) -> list[tuple[int, Row]]:
    """``(line number, row)`` of a JSON-lines file; a torn last line is what a killed run leaves."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        note(f"{path.name} cannot be read: {error.strerror}")
        return []
    rows: list[tuple[int, Row]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            torn = number == len(lines)
            note(f"{path.name} {'ends in a torn line' if torn else f'line {number} is not JSON'}, left out")
            continue
        if isinstance(row, dict) and math.isfinite(_number(row.get("env_steps"))):
            rows.append((number, row))
        else:
            note(f"{path.name} line {number} is left out: it has no env_steps")
    return rows


def _last_word(rows: list[tuple[int, Row]]) -> tuple[Row, ...]:
    """Rows with strictly increasing steps: a resumed run logs again what followed its checkpoint."""
    kept: list[Row] = []
    for _, row in rows:
        while kept and kept[-1]["env_steps"] >= row["env_steps"]:
            kept.pop()
        kept.append(row)
    return tuple(kept)


def _evaluation(row: Row) -> Evaluation | None:
    returns, lengths = row.get("returns"), row.get("lengths")
    if not isinstance(returns, list) or not returns or not isinstance(row.get("actions"), str):
        return None
    numbers = tuple(_number(value) for value in returns)
    if not all(math.isfinite(value) for value in numbers):
        return None
    spans = tuple(_number(value) for value in lengths) if isinstance(lengths, list) else ()
    updates, cut = _number(row.get("updates", 0)), row.get("cut")
    return Evaluation(
        int(row["env_steps"]),
        int(updates) if math.isfinite(updates) else 0,
        row["actions"],
        numbers,
        spans,
        cut.count(True) if isinstance(cut, list) else 0,
        _successes(row.get("success"), len(returns)),
        _peaks(row.get("peaks"), len(returns)),
    )


def _successes(found: Any, episodes: int) -> tuple[int, ...]:
    told = isinstance(found, list) and len(found) == episodes and all(value in (0, 1) for value in found)
    return tuple(map(int, found)) if told else ()


def _peaks(found: Any, episodes: int) -> tuple[float, ...]:
    numbers = tuple(_number(value) for value in found) if isinstance(found, list) else ()
    return numbers if len(numbers) == episodes and all(map(math.isfinite, numbers)) else ()


def _saved(path: Path) -> Row:
    """Counters of the newest checkpoint; empty if there is none or it cannot be read."""
    newest = checkpoint.newest_folder(path / "checkpoints")
    with contextlib.suppress(FewstepError, OSError, ValueError):
        meta = read_json(newest / "meta.json") if newest else {}
        return {key: meta[key] for key in ("env_steps", "updates") if math.isfinite(_number(meta.get(key)))}
    return {}


def _samples(path: Path, stem: str, ending: str) -> dict[int, Path]:
    """``samples/<stem>-<env_steps>.<ending>``, oldest first."""
    folder = path / "samples"
    found = {}
    for file in folder.glob(f"{stem}-*.{ending}") if folder.is_dir() else ():
        if match := re.fullmatch(rf"{stem}-(\d+)\.{ending}", file.name):
            found[int(match[1])] = file
    return dict(sorted(found.items()))


def _files(path: Path) -> tuple[tuple[str, int], ...]:
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            if name.startswith("."):
                continue
            file = Path(folder, name)
            found.append((file.relative_to(path).as_posix(), file.lstat().st_size))
    return tuple(sorted(found))


def _number(value: object) -> float:
    """A JSON or TOML number as float, NaN for anything else (null, text, booleans, too large integers)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
