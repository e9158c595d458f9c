"""Checkpoints that are whole or absent: arrays as safetensors, counters as JSON, a manifest of SHA-256 sums.

A checkpoint is written into a hidden folder, flushed to disk and renamed, so a crash at any moment leaves the
older ones as they were. On reading, every file is compared with the manifest; a damaged checkpoint is never
loaded, the newest valid one is.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fewstep.errors import FewstepError
from fewstep.runs.files import sync, write_text

FORMAT = 2
Groups = Mapping[str, Mapping[str, np.ndarray]]
"""File name (without ending) -> array name -> array."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its arrays by group and the JSON values saved beside them."""

    env_steps: int
    groups: dict[str, dict[str, np.ndarray]]
    meta: dict[str, Any]


def save(root: Path, env_steps: int, groups: Groups, meta: Mapping[str, Any], keep: int) -> Path:
    """Write one checkpoint, then delete all but the newest ``keep``.

    Args:
        root: folder of the run's checkpoints; it is made when missing.
        env_steps: names the checkpoint. One of the same name is replaced.
        groups: the arrays, one safetensors file per group.
        meta: JSON values.
        keep: checkpoints left on disk, at least 1.

    Raises:
        FewstepError: the disk is full or not writable. The older checkpoints are untouched.
    """
    final = root / f"{env_steps:09d}"
    temporary = root / f".writing-{final.name}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        temporary.mkdir()
        _write(temporary, groups, {"format": FORMAT, "env_steps": env_steps, **meta})
        if final.exists():
            os.rename(final, root / f".replaced-{final.name}")
        os.rename(temporary, final)
        sync(root)
        _sweep(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise FewstepError(
            f"cannot save checkpoint {final}: {reason}; older checkpoints are intact"
        ) from error
    for old in _folders(root)[:-keep]:
        shutil.rmtree(old)
    return final


def _write(folder: Path, groups: Groups, meta: Mapping[str, Any]) -> None:
    for name, arrays in groups.items():
        path = folder / f"{name}.safetensors"
        # safetensors reads the raw memory, so views and Fortran order must be laid out first.
        save_file({key: np.asarray(array, order="C") for key, array in arrays.items()}, path)
        sync(path)
    write_text(folder / "meta.json", json.dumps(meta, indent=1))
    sums = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    write_text(folder / "manifest.json", json.dumps(sums, indent=1))
    sync(folder)


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
    return sorted(path for path in root.glob("[0-9]*") if path.is_dir())


def newest_step(root: Path) -> int | None:
    """Environment steps of the newest checkpoint, unverified; None if there are none."""
    folders = _folders(root)
    return int(folders[-1].name) if folders else None


def load(folder: Path, wanted: Callable[[str], bool] = lambda group: True) -> Checkpoint:
    """Read one checkpoint after comparing its files with its manifest.

    Args:
        folder: the checkpoint.
        wanted: which groups to read (and verify); the others are left on disk.

    Raises:
        FewstepError: a file is missing, was changed, or the format is newer than this version knows.
    """
    try:
        sums: dict[str, str] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        groups: dict[str, dict[str, np.ndarray]] = {}
        _verify(folder, "meta.json", sums)
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] not in (1, FORMAT):
            raise FewstepError(
                f"{folder} has format {meta['format']}; this fewstep reads formats up to {FORMAT}"
            )
        for name in sums:
            group = name.removesuffix(".safetensors")
            if name.endswith(".safetensors") and wanted(group):
                _verify(folder, name, sums)
                groups[group] = load_file(folder / name)
    except FileNotFoundError as error:
        raise FewstepError(f"{folder} is damaged: {Path(error.filename).name} is missing") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        raise FewstepError(f"{folder} is damaged: {error}") from error
    if meta["format"] == 1:
        meta, groups = _from_format_1(meta, groups)
    return Checkpoint(int(meta["env_steps"]), groups, meta)


def _from_format_1(meta: dict[str, Any], groups: Groups) -> tuple[dict[str, Any], dict[str, Any]]:
    """Format 1 kept the replay's counters on the top level, and nothing of the running episodes."""
    moved = {"began": meta.pop("buffer_began"), "warm_up_rng": meta.pop("warm_up_rng")}
    if "replay" in meta:
        meta["replay"] |= moved
    return meta, {**groups, "episodes": {}}


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
            warn(f"{error}; trying the one before")
    if folders:
        raise FewstepError(f"every checkpoint in {root} is damaged")
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
    if _sha256(folder / name) != sums[name]:
        raise FewstepError(f"{folder} is damaged: {name} does not match its checksum")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
