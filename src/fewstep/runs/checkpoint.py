"""Checkpoints that are whole or absent: arrays as safetensors, counters as JSON, a manifest of SHA-256 sums.

A checkpoint is a folder, written under a hidden name, flushed to disk and renamed, so a crash at any moment
leaves the older ones as they were. What grows with the run (the replay) lies beside it in segments that
several share (``runs.segments``). On reading, every file is compared with its sum; a damaged checkpoint is
never loaded, the newest valid one is.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fewstep.errors import FewstepError
from fewstep.runs import arrays, segments
from fewstep.runs.files import read_json, sync, write_text
from fewstep.runs.segments import Rows

FORMAT = 3
Group = Mapping[str, NDArray[Any]]
"""Array name -> array. Of ``Rows`` only those that no earlier checkpoint holds are written."""
Groups = Mapping[str, Group]
"""File name (without ending) -> its arrays."""

_FILE = re.compile(r"[a-z_]+\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its arrays by group and the JSON values saved beside them."""

    env_steps: int
    groups: dict[str, Group]
    meta: dict[str, Any]


def save(root: Path, env_steps: int, groups: Groups, meta: Mapping[str, Any], keep: int) -> Path:
    """Write one checkpoint, then delete all but the newest ``keep``, and what only those needed.

    Args:
        root: folder of the run's checkpoints; it is made when missing.
        env_steps: names the checkpoint. One of the same name is replaced.
        groups: the arrays, one safetensors file per group.
        meta: JSON values.
        keep: checkpoints left on disk, at least 1.

    Raises:
        FewstepError: the disk is full or not writable. The older checkpoints are untouched.
    """
    return prepare(root, env_steps, groups, meta, keep)()


def prepare(
    root: Path, env_steps: int, groups: Groups, meta: Mapping[str, Any], keep: int
) -> Callable[[], Path]:
    """``save`` in two halves: decide what is to be written now, read and write it when the result is called.

    The second half must be called. It may run in another thread; the caller lets it finish before preparing
    the next. Until then the arrays must not be changed, but ``Rows`` may grow: those yet to be read are held.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_saved(root / f"{env_steps:09d}", error) from error
    text = json.dumps({"format": FORMAT, "env_steps": env_steps, "groups": list(groups), **meta})
    rows = {name: segments.draft(root, group) for name, group in groups.items() if isinstance(group, Rows)}

    def write() -> Path:
        try:
            return _commit(root, env_steps, groups, rows, text, keep)
        finally:
            for one in rows.values():
                one.release()

    return write


def _commit(
    root: Path,
    env_steps: int,
    groups: Groups,
    rows: Mapping[str, segments.Draft],
    meta: str,
    keep: int,
) -> Path:
    final = root / f"{env_steps:09d}"
    temporary = root / f".writing-{final.name}"
    try:
        _sweep(root)
        temporary.mkdir()
        grown = {name: one.write(root, name) for name, one in rows.items()}
        listed = {name: parts for name, (parts, _) in grown.items()}
        tails = {name: tail for name, (_, tail) in grown.items()}
        _write(temporary, {**groups, **tails}, json.dumps({**json.loads(meta), "rows": listed}))
        if final.exists():
            os.rename(final, root / f".replaced-{final.name}")
        os.rename(temporary, final)
        sync(root)
        _sweep(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            segments.sweep(root, _needed(root))
        raise _not_saved(final, error) from error
    for one in rows.values():
        one.committed()
    for old in _folders(root)[:-keep]:
        if old != final:
            shutil.rmtree(old)
    segments.sweep(root, _needed(root))
    return final


def _not_saved(final: Path, error: OSError | SafetensorError) -> FewstepError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return FewstepError(f"cannot save checkpoint {final}: {reason}; older checkpoints are intact")


def _write(folder: Path, groups: Groups, meta: str) -> None:
    sums = {f"{name}.safetensors": "" for name in groups}
    for name in sums:
        sums[name] = arrays.write(folder / name, groups[name.removesuffix(".safetensors")])
    write_text(folder / "meta.json", meta)
    sums["meta.json"] = arrays.sha256(folder / "meta.json")
    write_text(folder / "manifest.json", json.dumps(sums, indent=1))
    sync(folder)


def _needed(root: Path) -> set[str]:
    """Names of the segments that the checkpoints list. One whose list cannot be read is damaged anyway."""
    names: set[str] = set()
    for folder in _folders(root):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            meta = read_json(folder / "meta.json")
            names |= {str(part[0]) for rows in meta["rows"].values() for part in rows["parts"]}
    return names


def _sweep(root: Path) -> None:
    """Remove what an interrupted save left; a replaced folder without its successor goes back in place."""
    for path in root.glob(".replaced-*"):
        final = root / path.name.removeprefix(".replaced-")
        if final.exists():
            shutil.rmtree(path)
        else:
            os.rename(path, final)
    for path in root.glob(".writing-*"):
        shutil.rmtree(path)


def _folders(root: Path) -> list[Path]:
    """Checkpoint folders, oldest first, damaged ones included."""
    found = (path for path in root.glob("[0-9]*") if path.name.isdecimal() and path.is_dir())
    return sorted(found, key=lambda path: int(path.name))


def newest_step(root: Path) -> int | None:
    """Environment steps of the newest checkpoint, unverified; None if there are none."""
    newest = newest_folder(root)
    return int(newest.name) if newest else None


def newest_folder(root: Path) -> Path | None:
    """Folder of the newest checkpoint, unverified; None if there are none."""
    folders = _folders(root)
    return folders[-1] if folders else None


def load(folder: Path, wanted: Callable[[str], bool] = lambda group: True) -> Checkpoint:
    """Read one checkpoint after comparing its files with its manifest.

    Args:
        folder: the checkpoint.
        wanted: which groups to read (and verify); the others are left on disk.

    Raises:
        FewstepError: a file is missing, was changed, or it is of another format.
    """
    try:
        sums = read_json(folder / "manifest.json")
        for name in sums:
            if name != "meta.json" and not _FILE.fullmatch(name):
                raise ValueError(f"its manifest names {name!r}")
        _verify(folder, "meta.json", sums)
        meta = read_json(folder / "meta.json")
        if meta["format"] != FORMAT:
            raise FewstepError(f"{folder} has format {meta['format']}; this fewstep reads format {FORMAT}")
        names = [name.removesuffix(".safetensors") for name in sums if name != "meta.json"]
        if sorted(meta["groups"]) != sorted(names):
            raise ValueError("its manifest does not list the groups of meta.json")
        groups = {name: _group(folder, name, sums, meta["rows"]) for name in names if wanted(name)}
        return Checkpoint(int(meta["env_steps"]), groups, meta)
    except FileNotFoundError as error:
        raise FewstepError(f"{folder} is damaged: {Path(error.filename).name} is missing") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        raise FewstepError(f"{folder} is damaged: {error}") from error


def _group(folder: Path, name: str, sums: Mapping[str, str], rows: Mapping[str, Any]) -> Group:
    file = f"{name}.safetensors"
    _verify(folder, file, sums)
    if name in rows:
        return segments.open_rows(folder.parent, rows[name], folder / file)
    return load_file(folder / file)


def load_newest(
    root: Path, warn: Callable[[str], None], wanted: Callable[[str], bool] = lambda group: True
) -> Checkpoint | None:
    """The newest intact checkpoint; ``warn`` hears of each damaged one passed over. None if there are none.

    Raises:
        FewstepError: there are checkpoints, and all are damaged.
    """
    folders = _folders(root)
    for folder in reversed(folders):
        try:
            return load(folder, wanted)
        except FewstepError as error:
            warn(f"{error}" + ("" if folder is folders[0] else "; trying the one before"))
    if folders:
        raise FewstepError(
            f"every checkpoint in {root} is damaged; if only the replay is, "
            f"`fewstep resume {root.parent} --without-replay` goes on"
        )
    return None


def set_aside_newer(root: Path, env_steps: int) -> None:
    """Rename the (damaged) checkpoints after ``env_steps`` to ``damaged-*``.

    A resume calls it when it had to go back, or the retention rule would count them as the newest.
    """
    for folder in _folders(root):
        if int(folder.name) > env_steps:
            aside = root / f"damaged-{folder.name}"
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(folder, aside)


def _verify(folder: Path, name: str, sums: Mapping[str, str]) -> None:
    if arrays.sha256(folder / name) != sums[name]:
        raise FewstepError(f"{folder} is damaged: {name} does not match its checksum")
