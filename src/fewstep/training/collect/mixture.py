"""Batches that are in part from recorded data and in part from the replay buffer."""

import numpy as np
from numpy.typing import NDArray

from fewstep.types import Transition


def places(first: int, second: int) -> NDArray[np.int64]:
    """The order in which ``first`` rows and, behind them, ``second`` rows are mixed, evenly: every stretch of
    a batch has about the share of each that the whole has, so that a part of it may stand for it."""
    spread = [(np.arange(count) + 0.5) / max(1, count) for count in (first, second)]
    return np.argsort(np.concatenate(spread), kind="stable")


def mixed(first: Transition, second: Transition) -> Transition:
    """``[U, B]`` transitions of ``[U, B1]`` and ``[U, B2]``, B = B1 + B2, in the order of ``places``."""
    order = places(first.reward.shape[1], second.reward.shape[1])
    fields = [
        None if one is None else np.concatenate([one, other], axis=1)[:, order]
        for one, other in zip(first, second, strict=True)
    ]
    return Transition(*fields)
