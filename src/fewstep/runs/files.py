"""Writing files so that a reader, or a crash, sees the old content or the new one and nothing between."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace the file's content in one step: write a hidden sibling, flush it to disk, rename it."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sync(path: Path) -> None:
    """Flush a finished file, or a folder's list of names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
