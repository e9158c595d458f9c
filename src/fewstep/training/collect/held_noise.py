"""Noise that is held for several steps of collecting (``replay.noise_repeat``), as in FlashSAC.

The policy's mean and spread follow the state; the noise behind an action stays the same, so that exploration
does not average out within a few steps.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from fewstep.training import seeds

BLOCK = 65_536
"""Steps after which a new hold begins in any case: one is found without all those before it."""


def probabilities(longest: int) -> NDArray[np.float64]:
    """Of holding for n = 1 .. ``longest`` steps: proportional to n^-2."""
    weights = 1.0 / np.arange(1, longest + 1) ** 2.0
    return weights / weights.sum()


def first_step(seed: int, longest: int, step: int) -> int:
    """The step at which the noise of ``step`` was drawn: a function of its arguments alone.

    Args:
        seed: of the run.
        longest: a hold has at most so many steps; 1: noise is never held.
        step: joint steps of all environments of the run before this one; they begin and end holds together,
            and the end of an episode ends none.
    """
    if longest == 1:
        return step
    block, place = divmod(step, BLOCK)
    return block * BLOCK + int(_first_places(seed, longest, block)[place])


@functools.lru_cache(maxsize=64)
def _first_places(seed: int, longest: int, block: int) -> NDArray[np.int64]:
    """For every step of a block the place in the block at which its hold began."""
    rng = seeds.generator(seed, seeds.Draw.HELD_NOISE, block)
    lengths = rng.choice(longest, BLOCK, p=probabilities(longest)) + 1
    ends = np.cumsum(lengths)
    return np.repeat(ends - lengths, lengths)[:BLOCK]
