"""Episodes of a Minari dataset (https://minari.farama.org), of the optional extra ``data``."""

import importlib
from collections.abc import Iterator
from typing import Any

from fewstep.data.episodes import Episode
from fewstep.errors import UsageError
from fewstep.foreign import brief

PREFIX = "minari:"


def read(name: str) -> Iterator[tuple[str, Episode]]:
    """The episodes of the dataset ``name``, which must have been downloaded, each with what to call it.

    Raises:
        UsageError: Minari is not installed, or cannot open it.
    """
    try:
        minari: Any = importlib.import_module("minari")
    except ImportError as error:
        raise UsageError("minari is not installed; pip install 'fewstep[data]'") from error
    try:  # whatever its storage raises
        episodes = iter(minari.load_dataset(name).iterate_episodes())
    except Exception as error:
        raise _unreadable(name, error) from error
    while True:
        try:
            episode = next(episodes, None)
        except Exception as error:
            raise _unreadable(name, error) from error
        if episode is None:
            return
        yield (
            f"{PREFIX}{name}, episode {episode.id}",
            Episode(
                episode.observations,
                episode.actions,
                episode.rewards,
                episode.terminations,
                episode.truncations,
            ),
        )


def _unreadable(name: str, error: Exception) -> UsageError:
    return UsageError(
        f"minari cannot open {name!r}: {brief(error).rstrip('.')}; `minari download {name}` fetches one that "
        "is published"
    )
