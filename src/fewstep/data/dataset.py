"""Recorded episodes as transitions: checked against the environment, in its flat and unit form."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.data import episodes, minari
from fewstep.data.episodes import Episode
from fewstep.envs.interface import Interface, finite
from fewstep.errors import UsageError
from fewstep.types import STORED, Transition


@dataclass(frozen=True)
class Summary:
    """What a run remembers of its data, once they lie in a buffer, and says in its provenance.

    Attributes:
        source: where they are from, as the user named it.
        episodes, transitions: how many there are.
        sha256: of all values, so that the same name with other content is noticed.
        largest_reward: the largest size of a reward.
    """

    source: str
    episodes: int
    transitions: int
    sha256: str
    largest_reward: float


@dataclass(frozen=True)
class Dataset:
    """All episodes, one after another.

    Attributes:
        summary: what there is.
        steps: ``[n]`` transitions, actions in [-1, 1].
        first: ``[n]`` bool, the first step of each episode.
    """

    summary: Summary
    steps: Transition
    first: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)


def load(source: str, interface: Interface) -> Dataset:
    """Read and check a dataset.

    Args:
        source: a folder of episodes (``data.episodes``), or ``minari:ID``.
        interface: of the environment it was recorded in.

    Raises:
        UsageError: it cannot be read, or does not fit the environment; the message names the episode.
    """
    digest = hashlib.sha256()
    parts: list[Transition] = []
    for name, episode in _episodes(source):
        steps = _transitions(name, episode, interface)
        for field in (steps.obs, steps.action, steps.reward, steps.terminated, steps.next_obs[-1:]):
            digest.update(np.ascontiguousarray(field).tobytes())
        parts.append(steps)
    if not parts:
        raise UsageError(f"{source} holds no episodes")
    lengths = [len(part.reward) for part in parts]
    first = np.zeros(sum(lengths), np.bool_)
    first[np.cumsum([0, *lengths[:-1]])] = True
    digest.update(first.tobytes())
    steps = Transition(*(np.concatenate([getattr(part, name) for part in parts]) for name in STORED))
    largest = float(np.abs(steps.reward).max())
    return Dataset(Summary(source, len(parts), len(first), digest.hexdigest(), largest), steps, first)


def _episodes(source: str) -> Iterator[tuple[str, Episode]]:
    if source.startswith(minari.PREFIX):
        return minari.read(source.removeprefix(minari.PREFIX))
    return episodes.read(Path(source))


def _transitions(name: str, episode: Episode, interface: Interface) -> Transition:
    """The steps of one episode.

    Raises:
        UsageError: it is not one of this environment; ``name`` begins the message.
    """
    try:
        return _checked(episode, interface)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def _checked(episode: Episode, interface: Interface) -> Transition:
    rewards = finite("rewards", episode.rewards)
    if rewards.ndim != 1 or not rewards.size:
        raise UsageError(f"rewards must have one number per step, at least one, got shape {rewards.shape}")
    count = len(rewards)
    terminated = _ends("terminated", episode.terminated, count)
    truncated = _ends("truncated", episode.truncated, count)
    if not (terminated or truncated):
        raise UsageError("it does not say how it ended: terminated or truncated must be true at its end")
    obs, action = interface.flat_rows(episode.observations), interface.from_env(episode.actions)
    for field, rows, wanted in (("observations", obs, count + 1), ("actions", action, count)):
        if len(rows) != wanted:
            raise UsageError(f"{count} rewards need {wanted} {field}, got {len(rows)}")
    flags = np.zeros(count, np.bool_)
    flags[-1] = terminated
    return Transition(obs[:-1], action, rewards, flags, obs[1:])


def _ends(field: str, value: Any, count: int) -> bool:
    """Whether the flag is set at the episode's end."""
    flags = np.asarray(value)
    if flags.dtype != np.bool_ or flags.shape not in ((), (count,)):
        got = f"{flags.dtype} {flags.shape}"
        raise UsageError(f"{field} must be one bool, or {count} of them (one per step), got {got}")
    if flags.ndim and flags[:-1].any():
        step = int(np.argmax(flags))
        raise UsageError(f"{field} is true at step {step} of {count}: every episode must be by itself")
    return bool(flags[-1] if flags.ndim else flags)
