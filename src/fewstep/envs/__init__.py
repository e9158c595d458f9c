"""Environments as fewstep sees them: N Gymnasium environments in one process, flat float32 vectors.

``make`` takes a Gymnasium id, ``module:Id-v0``, ``toy/NAME``, an environment, a function that builds one, or
several of these, and gives a ``VectorEnv``. Actions inside fewstep are in [-1, 1]; observations are float32
vectors; ``terminated`` and ``truncated`` stay apart; nothing resets by itself; and every value an environment
returns is checked before it is believed. Nothing in this room imports jax.
"""

from fewstep.envs.check import Finding, check_env
from fewstep.envs.process.supervised import Supervision
from fewstep.envs.registry import is_lent, name_of, several
from fewstep.envs.toys import Toy
from fewstep.envs.vector import Given, StepResult, VectorEnv, make
from fewstep.suites import list_ids

__all__ = [
    "Finding",
    "Given",
    "StepResult",
    "Supervision",
    "Toy",
    "VectorEnv",
    "check_env",
    "is_lent",
    "list_ids",
    "make",
    "name_of",
    "several",
]
