"""What goes with a program: where it comes from and what it may be asked."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from fewstep.deploy.program.program import Program


@dataclass(frozen=True)
class Description:
    """Where an exported policy comes from, and what it takes and gives.

    Attributes:
        algorithm, env: what was trained, and on which environment.
        env_steps, updates: for how long.
        actions: ``sample``, one draw of the policy per call, ``mode``, its noise-free action, or
            ``best-of-N``, the one of N draws that the critics like best.
        noise: ``input``, the caller gives it, ``inside``, the artefact can draw it itself, or ``fixed``, it
            is always the same, so that one observation gives one action.
        obs_names: what each number of a flat observation is called in the environment's own terms.
        low, high: bounds of each entry of a flat action, in the environment's units; both are reached.
        action_shape: of the environment's own actions.
        rate: actions per second that it was trained at; None where the environment did not say.
        action_repeat: steps of the environment that each action is for: how often it was taken in training.
        weights: SHA-256 sum of the trained policy's arrays, the same in every format it is written in.
        fewstep: the version that exported it.
    """

    algorithm: str
    env: str
    env_steps: int
    updates: int
    actions: str
    noise: str
    obs_names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    action_shape: tuple[int, ...]
    rate: float | None
    action_repeat: int
    weights: str
    fewstep: str

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of ``to_json``, for what ``json`` made of it."""
        lists = ("obs_names", "low", "high", "action_shape")
        tuples: dict[str, Any] = {name: tuple(values[name]) for name in lists}
        return cls(**(values | tuples))


@dataclass(frozen=True)
class Exported:
    """What acts, and its description, ready to be written in any format.

    Attributes:
        description: where it comes from, what it takes and gives.
        noise_size: standard normal numbers per action; 0 if it needs none.
        translate: makes the program.
        function: the same as a function of jax arrays, ``(obs[B, obs_size], noise[B, noise_size])``, the
            latter only where there is noise, to actions ``[B, act_size]`` in the environment's units; None
            where it was read from a file.
    """

    description: Description
    noise_size: int
    translate: Callable[[], Program]
    function: Callable[..., Any] | None = None

    @cached_property
    def program(self) -> Program:
        """The policy as a program.

        Raises:
            UsageError: it takes an operation that programs do not have.
        """
        return self.translate()

    @property
    def obs_size(self) -> int:
        """Numbers in a flat observation."""
        return len(self.description.obs_names)

    @property
    def act_size(self) -> int:
        """Numbers in a flat action."""
        return math.prod(self.description.action_shape)
