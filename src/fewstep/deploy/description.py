"""What goes with a program: where it comes from and what it may be asked."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from fewstep.deploy.program import NOISE, OBS, Program


@dataclass(frozen=True)
class Box:
    """An environment's action space: ``low`` and ``high`` per entry, row by row, and its ``shape``."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """Where an exported policy comes from, and what it takes and gives.

    Fields:
        algorithm, env: what was trained, and on which environment.
        env_steps, updates: for how long.
        actions: ``sample``, one draw of the policy per call, ``mode``, its noise-free action, or
            ``best-of-N``, the one of N draws that the critics like best.
        noise: ``input``, the caller gives it, ``inside``, the artefact can draw it itself, or ``fixed``, it
            is always the same, so that one observation gives one action.
        obs_names: what each number of a flat observation is called in the environment's own terms.
        action_shape: of the environment's own actions.
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
    action_shape: tuple[int, ...]
    weights: str
    fewstep: str

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of ``to_json``, for what ``json`` made of it."""
        tuples: dict[str, Any] = {name: tuple(values[name]) for name in ("obs_names", "action_shape")}
        return cls(**(values | tuples))


@dataclass(frozen=True)
class Exported:
    """A program and its description, ready to be written in any format."""

    program: Program
    description: Description

    @property
    def obs_size(self) -> int:
        """Numbers in a flat observation."""
        return self.program.inputs[OBS]

    @property
    def noise_size(self) -> int:
        """Standard normal numbers per action; 0 if it needs none."""
        return self.program.inputs.get(NOISE, 0)

    @property
    def act_size(self) -> int:
        """Numbers in a flat action."""
        return self.program.shapes()[self.program.output].size
