"""Episodes in npz files, one each: written by ``fewstep evaluate --save-episodes``, read by a run."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewstep.envs.interface import Interface
from fewstep.errors import UsageError


class Episode(NamedTuple):
    """One whole episode of T steps, in the environment's own units.

    Attributes:
        observations: ``[T + 1, ...]``, the one after the last step included.
        actions: ``[T, ...]``.
        rewards: ``[T]``.
        terminated, truncated: how it ended: in a terminal state, or cut off (a time limit). A bool, or
            ``[T]`` bools of which the last alone may be True.
    """

    observations: Any
    actions: Any
    rewards: Any
    terminated: Any
    truncated: Any


def read(folder: Path) -> Iterator[tuple[str, Episode]]:
    """The episodes of a folder, ``*.npz`` in the order of their names, each with its path.

    Raises:
        UsageError: there is no such folder, it holds none, or a file is not an episode.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder of episodes; `fewstep evaluate --save-episodes` makes one"
            + ("" if folder.is_absolute() else f" (looked up from {Path.cwd()})")
        )
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise UsageError(f"{folder} holds no episodes (*.npz)")
    for file in files:
        yield str(file), _read(file)


def _read(file: Path) -> Episode:
    try:
        if not zipfile.is_zipfile(file):
            raise UsageError(f"{file} is no npz file, so no episode")
        with np.load(file, allow_pickle=False) as arrays:
            missing = [name for name in Episode._fields if name not in arrays]
            if missing:
                raise UsageError(f"{file} has no {', '.join(missing)}")
            return Episode(*(arrays[name] for name in Episode._fields))
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UsageError(f"{file} cannot be read as an episode: {reason}") from error


class Tape:
    """The steps of one episode as it is played, flat and with actions in [-1, 1]."""

    def __init__(self) -> None:
        self._obs: list[NDArray[np.float32]] = []
        self._actions: list[NDArray[np.float32]] = []
        self._rewards: list[float] = []
        self._terminated = False

    def begin(self, obs: NDArray[np.float32]) -> None:
        """An episode starts, and what was recorded is forgotten."""
        self.__init__()
        self._obs.append(obs.copy())

    def step(
        self, action: NDArray[np.float32], reward: float, terminated: bool, obs: NDArray[np.float32]
    ) -> None:
        """One step, ``obs`` its successor."""
        self._actions.append(np.clip(action, -1.0, 1.0))
        self._rewards.append(float(reward))
        self._terminated = bool(terminated)
        self._obs.append(obs.copy())

    def episode(self, interface: Interface) -> Episode:
        """The episode in the environment's units; one that did not end in a terminal state was cut off."""
        actions = interface.to_env(np.array(self._actions)).reshape(len(self._actions), -1)
        rewards = np.array(self._rewards, np.float32)
        return Episode(np.array(self._obs), actions, rewards, self._terminated, not self._terminated)


class Folder:
    """Where episodes are written: a new folder, or an empty one."""

    def __init__(self, path: Path) -> None:
        """Make it.

        Raises:
            UsageError: it holds something, or cannot be written.
        """
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UsageError(f"{path} is not empty; choose another folder for the episodes")
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror}; choose another folder") from error

    def write(self, name: str, episode: Episode) -> None:
        """Write ``NAME.npz``.

        Raises:
            UsageError: the disk is full or not writable.
        """
        try:
            np.savez_compressed(self._path / f"{name}.npz", **episode._asdict())
        except OSError as error:
            raise UsageError(f"cannot write to {self._path}: {error.strerror}") from error
