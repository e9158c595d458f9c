"""n-step returns: a drawn transition that reaches over the steps which follow it in its episode.

    R = sum_(k<m) gamma^k r_(t+k),   bootstrap discount gamma^m,   successor s_(t+m),

with m = n, or fewer steps where the episode ended before (then the successor is the one at its end, worth
nothing if that was a terminal state) or where the steps stored so far end. No correction is made for the
actions after the first, which an earlier policy chose (Hessel et al. 2018, arXiv 1710.02298).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class NStep(NamedTuple):
    """How far a drawn transition reaches.

    Attributes:
        steps: n, steps summed at most.
        discount: gamma.
        stride: rows from one step of an episode to its next: the environments are stored in turn.
    """

    steps: int
    discount: float
    stride: int = 1


class Window(NamedTuple):
    """What the steps from each drawn row on come to (fields of the shape of the draw).

    Attributes:
        reward: float32, R.
        discount: float32, gamma^m.
        last: the row of the last step, from which ``terminated`` and ``next_obs`` are.
    """

    reward: NDArray[np.float32]
    discount: NDArray[np.float32]
    last: NDArray[np.int64]


def window(
    how: NStep,
    number: NDArray[np.int64],
    added: int,
    reward: NDArray[np.float32],
    follows: NDArray[np.bool_],
) -> Window:
    """Sum the rewards of up to n steps from each transition on.

    Args:
        how: n, gamma and the stride.
        number: of each drawn transition, counted from the first one ever added.
        added: transitions ever added: the number of the next one.
        reward: ``[capacity]``, of the transition ``number`` at ``number % capacity``.
        follows: ``[capacity]``, whether a transition goes on from the one ``stride`` before it.
    """
    k = np.arange(how.steps).reshape(-1, *(1,) * number.ndim)
    ahead = number + how.stride * k
    rows = ahead % len(reward)
    # Behind the newest transition the ring holds the oldest ones.
    inside = np.logical_and.accumulate((k == 0) | ((ahead < added) & follows[rows]), axis=0)
    taken = inside.sum(axis=0)
    gamma = float(how.discount)
    total = (gamma**k * np.where(inside, reward[rows], 0.0)).sum(axis=0)
    last = (number + how.stride * (taken - 1)) % len(reward)
    return Window(total.astype(np.float32), (gamma**taken).astype(np.float32), last)
