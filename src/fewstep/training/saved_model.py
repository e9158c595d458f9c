"""Models saved from Python: a folder in the form of a run, written beside its place and put there at once."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewstep import foreign
from fewstep.envs.registry import is_known_here_only
from fewstep.errors import FewstepError, UsageError, shown
from fewstep.interrupts import deferred
from fewstep.runs import checkpoint
from fewstep.runs.checkpoint import Group
from fewstep.runs.files import replace_folder, sync, write_text
from fewstep.runs.layout import RunDir
from fewstep.runs.segments import Rows
from fewstep.training import saved_policy
from fewstep.training.device.trainer import AnyTrainer

OWN = ("checkpoints", "config.toml", "policy", ".lock", ".lease")
"""What a saved model consists of; a report or an export beside it is somebody's, and stays."""


def path_of(value: Any) -> Path:
    """What the user gave as a path, absolute.

    Raises:
        UsageError: it is none.
    """
    try:
        text = os.fsdecode(value)
    except TypeError:
        text = ""
    if not text or "\0" in text:
        raise UsageError(f"a path must be the name of a folder or file, got {shown(value)}")
    return Path(os.path.expanduser(text)).absolute()


def save(trainer: AnyTrainer, path: Any, replay: bool) -> None:
    """``Model.save``. Signals wait until it is done; killed, it leaves what was there or what is new."""
    put(path, "model", OWN, lambda fresh: _write(trainer, RunDir(fresh), replay))
    env = trainer.config.env
    if is_known_here_only(env):
        foreign.tell(
            f"only this program knows the environment {env}: for `fewstep evaluate {path}` and others "
            f"register it in a module and name it my_module:{env}"
        )


def put(path: Any, what: str, own: tuple[str, ...], write: Callable[[Path], None]) -> None:
    """A folder of ``own`` files and folders, which ``write`` makes, in place of an earlier one of its kind,
    which is known by the first of them.

    Raises:
        UsageError: the path holds something else, or cannot be written.
        FewstepError: it could not be written whole, and what was there before is as it was.
    """
    final = _place(path, what, own[0])
    digest = hashlib.sha256(os.fsencode(final.name)).hexdigest()[:16]
    fresh = final.with_name(f".{digest}.saving")  # a name of any length has one beside it
    with deferred():
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
        except OSError as error:
            raise UsageError(f"cannot write to {final}: {error.strerror}; choose another path") from error
        try:
            write(fresh)
            _keep_others(final, fresh, own)
            replaced = replace_folder(fresh, final)
        except BaseException as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if isinstance(error, OSError | FewstepError):
                reason = getattr(error, "strerror", None) or error
                raise FewstepError(f"cannot save the {what} at {final}: {reason}") from error
            raise
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
        sync(final.parent)


def _place(path: Any, what: str, known_by: str) -> Path:
    """Where to write: what a link points to is replaced, not the link."""
    given = path_of(path)
    final = Path(os.path.realpath(given))
    try:
        final.lstat()
        taken = True
    except (FileNotFoundError, NotADirectoryError):
        taken = False
    except OSError as error:  # a name too long, which Path.exists() hides from Python 3.14 on
        raise UsageError(f"cannot write to {given}: {error.strerror}; choose another path") from error
    if taken and not (final / known_by).is_dir():
        raise UsageError(f"{final} exists and is not a saved {what}; choose another path")
    if (final / "provenance.json").exists() or (final / "metrics.jsonl").exists():
        raise UsageError(f"{final} is a run; choose another path")
    here = Path(os.path.realpath("."))
    if final in (here, *here.parents):
        raise UsageError(f"{final} is the current folder or around it and cannot be replaced")
    for outer in final.parents:
        if (outer / "policy" / saved_policy.DESCRIPTION).is_file():
            raise UsageError(f"{final} lies inside the saved model or run {outer}; choose a path outside it")
    return final


def _write(trainer: AnyTrainer, run: RunDir, replay: bool) -> None:
    write_text(run.config, trainer.config.to_toml())
    groups, meta = trainer.snapshot(replay)
    groups = {name: unshared(group) for name, group in groups.items()}
    checkpoint.save(run.checkpoints, trainer.env_steps, groups, meta, keep=1)
    saved_policy.save(run.policy, saved_policy.of(trainer), trainer.config.algo)


def unshared(group: Group) -> Group:
    """The same arrays, apart from the segments of the run that is being written: those stay its own."""
    return (
        Rows(group.start, group.stop, group.read, [], hold=group.hold) if isinstance(group, Rows) else group
    )


def _keep_others(final: Path, fresh: Path, own: tuple[str, ...]) -> None:
    """Give ``fresh`` what somebody has put into ``final``."""
    for entry in final.iterdir() if final.exists() else ():
        if entry.name in own:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, fresh / entry.name, symlinks=True, copy_function=_link)
        else:
            _link(entry, fresh / entry.name)


def _link(source: Any, target: Any) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(source, target, follow_symlinks=False)
