"""Replay: what the environment answered, kept as float32 arrays and drawn again in whole ``[U, B]`` batches.

Numpy only, so that it neither needs nor disturbs the device; every random draw comes from the buffer's own
generator, whose state is part of what is saved.
"""

from fewstep.replay.buffer import ReplayBuffer
from fewstep.replay.n_step import NStep

__all__ = ["NStep", "ReplayBuffer"]
