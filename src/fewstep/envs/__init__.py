"""Environments as fewstep sees them: N Gymnasium environments in one process, flat float32 vectors.

``make`` takes a Gymnasium id, ``module:Id-v0``, ``toy/NAME`` or a function that builds an environment, and
gives a ``VectorEnv``. Actions inside fewstep are in [-1, 1]; observations are float32 vectors; ``terminated``
and ``truncated`` stay apart; nothing resets by itself; and every value an environment returns is checked
before it is believed. Nothing in this room imports jax.
"""

from fewstep.envs.check import Finding, check_env
from fewstep.envs.process.supervised import Supervision
from fewstep.envs.registry import list_ids, name_of
from fewstep.envs.toys import Toy
from fewstep.envs.vector import StepResult, VectorEnv, make

__all__ = [
    "Finding",
    "StepResult",
    "Supervision",
    "Toy",
    "VectorEnv",
    "check_env",
    "list_ids",
    "make",
    "name_of",
]
