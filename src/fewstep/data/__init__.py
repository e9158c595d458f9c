"""Recorded episodes: the files they are kept in, what is checked of them, and how a run reads them.

Values in the files are in the environment's own units. Nothing in this room imports jax.
"""

from fewstep.data.dataset import Dataset, Summary, load
from fewstep.data.episodes import Episode, Folder, Tape

__all__ = ["Dataset", "Episode", "Folder", "Summary", "Tape", "load"]
