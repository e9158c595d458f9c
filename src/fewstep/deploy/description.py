"""What goes with a program: where it comes from and what it may be asked."""

from dataclasses import dataclass

from fewstep.deploy.program import NOISE, OBS, Program


@dataclass(frozen=True)
class Box:
    """An environment's action space: ``low`` and ``high`` per entry, row by row, and its ``shape``."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """Where a program comes from.

    Fields:
        algorithm, env: what was trained, and on which environment.
        env_steps, updates: for how long.
        mode: ``sample``, one draw of the policy per call, or ``mode``, its noise-free action.
        noise: ``input``, the caller gives it, or ``inside``, the artefact can draw it itself.
        action_shape: of the environment's own actions.
        fewstep: the version that exported it.
    """

    algorithm: str
    env: str
    env_steps: int
    updates: int
    mode: str
    noise: str
    action_shape: tuple[int, ...]
    fewstep: str


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
        return self.program.sizes()[self.program.output]
