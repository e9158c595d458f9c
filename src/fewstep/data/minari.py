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
    try:
        dataset = minari.load_dataset(name)
    except Exception as error:  # whatever its storage raises
        raise UsageError(
            f"minari cannot open {name!r}: {brief(error).rstrip('.')}; `minari download {name}` fetches one "
            "that is published"
        ) from error
    for episode in dataset.iterate_episodes():
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
