"""Writing files so that a reader, or a crash, sees the old content or the new one and nothing between."""

import ctypes
import json
import os
from pathlib import Path
from typing import Any

LARGEST_JSON = 64 * 2**20
"""Bytes. A file of counters beyond this is not one of ours."""


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file's content in one step: write a hidden sibling, flush it to disk, rename it."""
    # Of this process alone: another one may be writing the same file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb") as file:  # "x" never writes through a link
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """The JSON object in a file that others may have written.

    Raises:
        ValueError: it is larger than ``largest`` bytes, nested absurdly deep, not JSON or not an object.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"{path.name} has {size:,} bytes, more than any file of its kind")
    try:
        value: Any = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return value


def replace_folder(new: Path, final: Path) -> Path | None:
    """Put the folder ``new`` in the place of ``final``, in one step where the system can exchange two names
    (Linux, on most file systems); elsewhere ``final`` is absent for an instant.

    Gives where the folder that was there is now, None if there was none.
    """
    if not final.exists():
        try:
            new.rename(final)
            return None
        except OSError:
            if not final.exists():  # else another process has put one there since
                raise
    if _exchange(new, final):
        return new
    aside = new.with_name(f"{new.name}.old")
    final.rename(aside)
    new.rename(final)
    return aside


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths; False if this system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, bytes(first), here, bytes(second), both) == 0


def sync(path: Path) -> None:
    """Flush a finished file, or a folder's list of names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
