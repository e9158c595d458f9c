"""Every random stream of a run, addressed by purpose and position instead of threaded from draw to draw.

A new use gets a new number, and no existing stream moves. Streams of jax and of numpy come from the same run
seed through separate derivations.
"""

from enum import IntEnum

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from fewstep.algos import numerics


class Stream(IntEnum):
    """jax keys: the algorithm's root, acting while collecting, evaluation, ``predict``, toy probes,
    iterations on the device."""

    ALGORITHM = 0
    ACT = 1
    EVALUATE = 2
    PREDICT = 3
    PROBE = 4
    DEVICE = 5


class Draw(IntEnum):
    """numpy generators and integers: warm-up actions, replay sampling, training resets, evaluation resets,
    toy probes, how long noise is held, sampling from recorded data."""

    WARM_UP = 0
    REPLAY = 1
    RESET = 2
    EVALUATION = 3
    PROBE = 4
    HELD_NOISE = 5
    DATASET = 6


@numerics.own
def key(seed: int, stream: Stream) -> PRNGKeyArray:
    """The root key of one jax stream; fold in a counter to address a draw."""
    return jax.random.fold_in(jax.random.key(seed), stream)


def generator(seed: int, draw: Draw, *position: int) -> np.random.Generator:
    """The numpy generator of one purpose, and of one position in it."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(draw, *position))))


def integer(seed: int, draw: Draw, *position: int) -> int:
    """A seed from 0 to 2**31 - 1 for others to use, addressed by purpose and position."""
    sequence = np.random.SeedSequence(seed, spawn_key=(draw, *position))
    return int(sequence.generate_state(1)[0]) >> 1


def reset_seed(seed: int, env_index: int, episode: int) -> int:
    """Reset seed of the n-th episode of one training environment."""
    return integer(seed, Draw.RESET, env_index, episode)


def evaluation_seeds(seed: int, episodes: int) -> list[int]:
    """Reset seeds of evaluation episodes: the same at every evaluation, disjoint from training's streams."""
    return [integer(seed, Draw.EVALUATION, episode) for episode in range(episodes)]


@numerics.own
def fold_in(root: PRNGKeyArray, counter: int) -> PRNGKeyArray:
    """The key of one position in a stream."""
    return jax.random.fold_in(root, counter)
