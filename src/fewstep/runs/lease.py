"""A run held for writing on a network file system, where ``flock`` may bind one machine's processes only.

A lease is a file that its owner creates exclusively and touches every ``BEAT`` seconds. One that has not been
touched for ``STALE`` seconds belongs to a lost machine, and whoever replaces it has the run. Ages are
differences of times that the file system itself gave, so no machine's clock matters.

Two that replace the same stale lease at once: the file names the later one, and both look again after
``SETTLE`` seconds. An owner whose machine slept past ``STALE`` finds another's name at its next beat and ends
at once, without saving, because the other one is writing.
"""

import json
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from fewstep.errors import FewstepError, UsageError

BEAT, STALE, SETTLE = 10.0, 60.0, 2.0
"""Seconds."""
NETWORK = re.compile(
    r"nfs4?|lustre|gpfs|beegfs\w*|ceph|cifs|smb3|9p|afs|glusterfs|panfs|pvfs2|orangefs|wekafs|fuse\..+"
)
"""Types of file systems that several machines may share."""
MOUNTS = Path("/proc/self/mounts")
CHOICE = "FEWSTEP_LOCK"
"""Environment variable: ``lease`` or ``flock``, where the type of the file system does not tell."""


def is_needed(folder: Path) -> bool:
    """Whether a run in this folder is held by a lease.

    Raises:
        UsageError: the environment variable says something else than ``lease`` or ``flock``.
    """
    chosen = os.environ.get(CHOICE)
    if chosen not in (None, "lease", "flock"):
        raise UsageError(f"{CHOICE} must be lease or flock, got {chosen!r}")
    return chosen == "lease" if chosen else NETWORK.fullmatch(_type_of(folder)) is not None


def _type_of(folder: Path) -> str:
    """Type of the file system that holds an existing folder; empty where the system does not say."""
    if not MOUNTS.exists():
        return ""
    folder, found = folder.resolve(), ("", "")
    for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        _, place, kind, *_ = line.split(" ")
        place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), place)
        if folder.is_relative_to(place) and len(place) >= len(found[0]):  # a later mount covers an earlier
            found = place, kind
    return found[1]


def owner(lease: Path) -> str | None:
    """Who holds a lease, in words; None if it is free or stale."""
    found = _read(lease)
    return None if found is None or _is_stale(lease, found) else _name(found[0])


@contextmanager
def held(lease: Path, lost: Callable[[str], None] | None = None) -> Generator[None]:
    """Hold a lease while the block runs.

    Args:
        lease: its file.
        lost: called in another thread, with the new owner's name, if another process has taken it over; by
            default this process ends at once.

    Raises:
        FewstepError: another process holds it.
        UsageError: it cannot be written.
    """
    mine = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex})
    _take(lease, mine)
    done = Event()
    beats = Thread(target=_beat, args=(lease, mine, done, lost or _end), daemon=True, name="lease")
    beats.start()
    try:
        yield
    finally:
        done.set()
        beats.join()
        if _content(lease) == mine:
            lease.unlink()


def _take(lease: Path, mine: str) -> None:
    try:
        _write(lease, mine)
        return None
    except FileExistsError:
        found = _read(lease)
    except OSError as error:
        raise UsageError(f"cannot write to {lease.parent}: {error.strerror}") from error
    if found is None:  # given back since
        return _take(lease, mine)
    new = lease.with_name(f"{lease.name}.{uuid.uuid4().hex}")
    if _is_stale(lease, found):
        _write(new, mine)
        if _read(lease) == found:
            os.replace(new, lease)
            time.sleep(SETTLE)
            if _content(lease) == mine:
                return None
        new.unlink(missing_ok=True)
    raise FewstepError(f"{lease.parent} is being written by {_name(_content(lease))}; wait for it or stop it")


def _beat(lease: Path, mine: str, done: Event, lost: Callable[[str], None]) -> None:
    while not done.wait(BEAT):
        with suppress(OSError):  # the file system is away for a while
            now = _content(lease)
            if now != mine:
                lost(_name(now))
                return
            os.utime(lease)


def _end(new_owner: str) -> None:
    print(
        f"fewstep: the run has been taken over by {new_owner}; nothing is saved", file=sys.stderr, flush=True
    )
    os._exit(1)


def _write(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _read(lease: Path) -> tuple[str, float] | None:
    """Content and time of the last touch: opened anew, so that a cache of the network is asked again."""
    try:
        with open(lease, encoding="utf-8") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None


def _content(lease: Path) -> str:
    found = _read(lease)
    return "" if found is None else found[0]


def _is_stale(lease: Path, found: tuple[str, float]) -> bool:
    return _now(lease) - found[1] > STALE


def _now(lease: Path) -> float:
    """The time as the file system has it: that of a file written just now."""
    probe = lease.with_name(f"{lease.name}.{uuid.uuid4().hex}")
    _write(probe, "")
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _name(content: str) -> str:
    """The owner in words."""
    try:
        found = json.loads(content)
        return f"process {found['pid']} of {found['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
