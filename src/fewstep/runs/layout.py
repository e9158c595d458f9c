"""The run directory: names of everything in it, and the rules for making, opening and locking one."""

import fcntl
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from fewstep.errors import FewstepError, UsageError
from fewstep.runs import lease
from fewstep.runs.files import write_text

RANDOM_RETURN = "random_return.json"
"""In the folder of an experiment's task (``OUT/ENV``): the return of random actions there."""
_FIRST = re.compile(r"provenance\.json|\.lock|\.lease|\..+\.tmp")


def default_path(env: str, algo: str, seed: int, root: Path = Path("runs")) -> Path:
    """``runs/<env>/<algo>/seed-<S>``, with the characters that do not belong in a folder name replaced."""
    return root / re.sub(r"[/:\\]", "_", env) / re.sub(r"[/:\\]", "_", algo) / f"seed-{seed}"


def is_free(path: Path) -> bool:
    """Whether a run may begin in this folder: it does not exist, is empty, or holds what a run leaves that
    was killed before it had its ``config.toml``."""
    if not path.exists():
        return True
    return path.is_dir() and all(_FIRST.fullmatch(entry.name) for entry in path.iterdir())


@dataclass(frozen=True)
class RunDir:
    """Paths inside one run directory. Use ``create`` or ``open``; the constructor checks nothing."""

    path: Path

    @classmethod
    def create(cls, path: Path, config_toml: str, provenance: str = "{}\n") -> "RunDir":
        """Make a new run directory: ``provenance.json``, and last ``config.toml``, by which it is known as a
        run.

        Raises:
            UsageError: a run is there already, the folder holds other things, or it cannot be written.
        """
        cls.refuse_existing(path)
        run = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_text(run.provenance, provenance)
            write_text(run.config, config_toml)
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror}; choose another --out") from error
        return run

    @staticmethod
    def refuse_existing(path: Path) -> None:
        """Raise what ``create`` would raise for a path in use: to be asked before any long preparation."""
        if (path / "sums.json").exists():
            raise UsageError(f"{path} already holds a policy that was fetched; choose another --out")
        if (path / "config.toml").exists():
            raise UsageError(
                f"{path} already holds a run; continue it with `fewstep resume {quote(str(path))}` or choose "
                "--out"
            )
        if not is_free(path):
            raise UsageError(f"{path} exists and is not a run; choose another --out")

    @classmethod
    def open(cls, path: Path) -> "RunDir":
        """An existing run directory.

        Raises:
            UsageError: the path does not exist or has no ``config.toml``.
        """
        run = cls(path)
        if not path.exists():
            raise UsageError(f"{path} does not exist; `fewstep train` makes a run")
        if not run.config.is_file():
            raise UsageError(f"{path} is not a run: it has no config.toml")
        return run

    @property
    def config(self) -> Path:
        """Fully resolved settings."""
        return self.path / "config.toml"

    @property
    def provenance(self) -> Path:
        """Versions, device and command."""
        return self.path / "provenance.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per log interval."""
        return self.path / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """One JSON line per evaluation and action mode."""
        return self.path / "evaluations.jsonl"

    @property
    def log(self) -> Path:
        """The plain lines that were printed."""
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """Everything a resume needs, one folder per checkpoint."""
        return self.path / "checkpoints"

    @property
    def crash(self) -> Path:
        """Where a state that is no longer finite is kept for inspection; a resume never reads it."""
        return self.path / "crash"

    @property
    def policy(self) -> Path:
        """What can act, without the rest."""
        return self.path / "policy"

    @property
    def samples(self) -> Path:
        """Action samples and trajectories of toy environments."""
        return self.path / "samples"

    @property
    def sums(self) -> Path:
        """SHA-256 sums of a run that was fetched from others (``sharing.bundle``): it has no checkpoints."""
        return self.path / "sums.json"

    def is_locked(self) -> bool:
        """Whether a process is writing this run at this moment."""
        if lease.is_needed(self.path):
            self._refuse_links()
            return lease.owner(self.path / ".lease") is not None
        try:
            with self.locked():
                return False
        except FewstepError as error:
            if isinstance(error, UsageError):
                raise
            return True

    def _refuse_links(self) -> None:
        """A run from elsewhere must not lead the writer out of its directory."""
        for path in self.path.iterdir():
            if path.is_symlink():
                raise UsageError(
                    f"{path} is a symbolic link; a run is written only inside its own directory: move there "
                    "what it points to"
                )

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the run for writing; a second process gets an error instead of mixing its rows in.

        Raises:
            UsageError: the run cannot be written, or a part of it is a link to somewhere else.
            FewstepError: another process is writing it.
        """
        self._refuse_links()
        if lease.is_needed(self.path):
            with lease.held(self.path / ".lease"):
                yield
            return
        try:
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(f"cannot write to {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise FewstepError(
                f"{self.path} is being written by another process; wait for it or stop it"
            ) from error
        try:
            yield
        finally:
            os.close(handle)
