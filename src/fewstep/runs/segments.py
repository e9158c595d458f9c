"""Rows that only grow at their end, stored as immutable segment files that many checkpoints share.

A replay of a million transitions is gigabytes, of which a checkpoint adds a few per cent. Rows are numbered
from the first ever inserted; a segment holds consecutive ones, is named by their numbers and its hash, and is
written once. A checkpoint lists the segments it needs and holds the rest, less than one segment, itself.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from fewstep.runs.arrays import Arrays, sha256, write
from fewstep.runs.files import sync

FOLDER = "segments"
SEGMENT_BYTES = 16 * 2**20
"""Size of a segment: what a checkpoint rewrites at most, and what is copied or read at once."""

_NAME = re.compile(r"[a-z]+-\d{12,}-\d{12,}-[0-9a-f]{16}\.safetensors")

Read = Callable[[int, int], Arrays]
"""``(start, stop)`` -> a copy of these rows of every field."""
Hold = Callable[[int | None], None]
"""``number``: rows from this one on must stay as they are, as they are still to be read; None: no more."""


class Part(NamedTuple):
    """One segment file: rows ``[start, stop)``."""

    name: str
    start: int
    stop: int
    sha256: str


class Rows(Mapping[str, NDArray[Any]]):
    """Rows ``[start, stop)`` of several fields; as a mapping it gives a field's rows in one array.

    Attributes:
        start, stop: numbers of the first row and of the one after the last.
        read: gives some of them.
        bounds: where reading is best divided, from ``start`` to ``stop``.
        stored: the segments these rows are known to be in already, oldest first. Who owns the rows keeps this
            list; saving adds to it.
        hold: what keeps rows from being changed while a thread saves them; None if they never change.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        read: Read,
        stored: list[Part],
        bounds: tuple[int, ...] | None = None,
        hold: Hold | None = None,
    ) -> None:
        self.start, self.stop, self.read, self.stored = start, stop, read, stored
        self.bounds = (start, stop) if bounds is None else bounds
        self.hold: Hold = hold or (lambda number: None)

    def pieces(self) -> Iterator[tuple[int, Arrays]]:
        """All rows in turn: number of the first one, and the fields."""
        for start, stop in pairwise(self.bounds):
            yield start, self.read(start, stop)

    def __getitem__(self, field: str) -> NDArray[Any]:
        return self.read(self.start, self.stop)[field]

    def __iter__(self) -> Iterator[str]:
        return iter(self.read(self.start, self.start))

    def __len__(self) -> int:
        return len(self.read(self.start, self.start))


@dataclass
class Draft:
    """What a checkpoint adds to the segments; ``draft`` makes it.

    Its rows are on hold until ``write`` has read them, or ``release`` gives them up: one of the two must be
    called, since the training waits where it would change them. ``write`` may run in another thread.

    Attributes:
        rows: what is saved.
        parts: segments that exist.
        length: rows of a segment.
    """

    rows: Rows
    parts: list[Part]
    length: int

    @property
    def end(self) -> int:
        """The first row that is in no segment."""
        return self.parts[-1].stop if self.parts else self.rows.start

    def write(self, root: Path, group: str) -> tuple[dict[str, Any], Arrays]:
        """Write the segments that are new, reading one at a time.

        Gives what ``open_rows`` takes, as JSON values, and the rows that are left, for the checkpoint itself.
        """
        known = len(self.parts)
        while self.rows.stop - self.end >= self.length:
            first, last = self.end, self.end + self.length
            fields = self.rows.read(first, last)
            self.rows.hold(last)
            self.parts.append(_write(root, group, first, last, fields))
        tail = self.rows.read(self.end, self.rows.stop)
        self.release()
        if len(self.parts) > known:
            sync(root / FOLDER)
        listed = [list(part) for part in self.parts]
        return {"start": self.rows.start, "stop": self.rows.stop, "parts": listed}, tail

    def release(self) -> None:
        """The rows may change."""
        self.rows.hold(None)

    def committed(self) -> None:
        """The checkpoint stands: later ones build on these segments."""
        self.rows.stored[:] = self.parts


def draft(root: Path, rows: Rows) -> Draft:
    """Decide what becomes a segment, and hold it.

    Args:
        root: folder of the checkpoints.
        rows: what is to be saved.
    """
    parts = [part for part in rows.stored if part.stop > rows.start and (root / FOLDER / part.name).is_file()]
    if not _covers(parts, rows.start, rows.stop):
        parts = []
    last = rows.read(max(rows.start, rows.stop - 1), rows.stop)
    row_bytes = sum(field.nbytes for field in last.values())
    made = Draft(rows, parts, max(1, SEGMENT_BYTES // max(1, row_bytes)))
    rows.hold(made.end)
    return made


def _covers(parts: list[Part], start: int, stop: int) -> bool:
    """Whether the segments hold row ``start`` and go on without a gap to ``stop`` at most."""
    follow = all(left.stop == right.start for left, right in pairwise(parts))
    return bool(parts) and parts[0].start <= start and parts[-1].stop <= stop and follow


def _write(root: Path, group: str, start: int, stop: int, fields: Arrays) -> Part:
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    temporary = folder / f".writing-{start}"
    temporary.unlink(missing_ok=True)
    digest = write(temporary, fields)
    name = f"{group}-{start:012d}-{stop:012d}-{digest[:16]}.safetensors"
    os.replace(temporary, folder / name)
    return Part(name, start, stop, digest)


def open_rows(root: Path, listed: Mapping[str, Any], tail: Path) -> Rows:
    """The rows that a checkpoint lists, once each of its segments has proved unchanged.

    Args:
        root: folder of the checkpoints.
        listed: what ``Draft.write`` gave.
        tail: the (verified) file of the rows behind the last segment.

    Raises:
        ValueError: the list makes no sense or a segment was changed.
        FileNotFoundError: a segment is missing.
    """
    start, stop = int(listed["start"]), int(listed["stop"])
    parts = [Part(str(name), int(a), int(b), str(digest)) for name, a, b, digest in listed["parts"]]
    for part in parts:
        if not _NAME.fullmatch(part.name):
            raise ValueError(f"{part.name!r} is not the name of a segment")
        if sha256(root / FOLDER / part.name) != part.sha256:
            raise ValueError(f"{FOLDER}/{part.name} does not match its checksum")
    if not 0 <= start <= stop or (parts and not _covers(parts, start, stop)):
        raise ValueError(f"its segments do not hold rows {start} to {stop}")
    end = parts[-1].stop if parts else start
    files = [(root / FOLDER / part.name, part.start, part.stop) for part in parts] + [(tail, end, stop)]

    def read(first: int, last: int) -> Arrays:
        held = [one for one in files if one[1] < last and first < one[2]] or files[-1:]
        pieces = [_slice(file, a, b, max(a, first), min(b, last)) for file, a, b in held]
        if len(pieces) == 1:
            return pieces[0]
        return {field: np.concatenate([piece[field] for piece in pieces]) for field in pieces[0]}

    bounds = (start, *(part.stop for part in parts), *([stop] if stop > end or not parts else []))
    return Rows(start, stop, read, parts, bounds)


def _slice(file: Path, start: int, stop: int, first: int, last: int) -> Arrays:
    fields = load_file(file)
    for name, field in fields.items():
        if field.shape[:1] != (stop - start,):
            raise ValueError(f"{file.name}: {name} does not have {stop - start} rows")
    return {name: field[first - start : max(first, last) - start] for name, field in fields.items()}


def sweep(root: Path, needed: set[str]) -> None:
    """Delete the segments that no checkpoint needs, and what interrupted writes left."""
    folder = root / FOLDER
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name not in needed:
            path.unlink()
    if not needed:
        folder.rmdir()
