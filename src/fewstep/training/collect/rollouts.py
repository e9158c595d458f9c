"""On-policy experience: whole rollouts, each learned from once."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from fewstep.envs import StepResult
from fewstep.errors import FewstepError
from fewstep.types import Rollout, Spec

Arrays = Mapping[str, NDArray[Any]]


def fields(spec: Spec, names: tuple[str, ...]) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and type of one step's fields."""
    shapes = {"obs": (spec.obs_size,), "next_obs": (spec.obs_size,), "action": (spec.act_size,)}
    types: dict[str, Any] = dict.fromkeys(("terminated", "truncated"), np.bool_)
    if spec.image is not None:
        types |= dict.fromkeys(("obs", "next_obs"), np.uint8)
    return {name: (shapes.get(name, ()), types.get(name, np.float32)) for name in names}


class Rollouts:
    """On-policy: T steps of every environment in their order, given away once and then forgotten."""

    group = "rollout"

    def __init__(self, length: int, envs: int, spec: Spec) -> None:
        """Room for ``length`` steps of ``envs`` environments."""
        self._length, self._envs = length, envs
        self._fields = {
            name: np.zeros((length, envs, *shape), dtype)
            for name, (shape, dtype) in fields(spec, Rollout._fields).items()
        }
        self._filled = 0

    def warm_up_action(self, steps: int) -> NDArray[np.float32] | None:
        """None: what the policy did not do itself would teach it nothing."""
        return None

    def noise_counter(self, steps: int) -> int:
        """``steps``: new noise at every step."""
        return steps

    def add(self, obs: NDArray[np.float32], action: NDArray[np.float32], result: StepResult) -> None:
        """Write the next row; actions as they were drawn, both ways an episode can end.

        A step of a lost environment did not happen; its row, which the shape needs, says an end by a time
        limit after no reward.
        """
        if self._filled == self._length:  # what interrupted the step that filled it kept it from its update
            self._filled = 0
        step = Rollout(obs, action, result.reward, result.terminated, result.truncated, result.obs)
        for name, value in step._asdict().items():
            self._fields[name][self._filled] = value
        self._filled += 1

    def cut(self, mask: NDArray[np.bool_]) -> None:
        """The last row ends its episode there, as a time limit would."""
        if self._filled:
            self._fields["truncated"][self._filled - 1] |= mask

    def due(self, steps: int) -> Rollout | None:
        """``[1, T, N]`` for the one update of a full rollout; the next step begins another."""
        if self._filled < self._length:
            return None
        self._filled = 0
        # Copies: the update may still be reading while the next steps are written.
        return Rollout(**{name: field[None].copy() for name, field in self._fields.items()})

    def offline(self, updates: int) -> None:
        """None: recorded actions have no density under the policy."""
        return

    def first_update(self) -> tuple[int, str]:
        """One full rollout."""
        return self._length * self._envs, "one rollout, rollout length x training.envs"

    def example(self) -> Rollout:
        """One rollout."""
        return Rollout(**{n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in self._fields.items()})

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """The rows of the rollout that has been begun."""
        return {name: field[: self._filled].copy() for name, field in self._fields.items()}, {
            "filled": self._filled
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go back to a snapshot, to the last bit.

        Raises:
            FewstepError: it is of rollouts of another size.
        """
        filled = meta["filled"]
        for name, field in self._fields.items():
            if filled >= self._length or arrays[name].shape != (filled, *field.shape[1:]):
                raise FewstepError(
                    f"the saved rollout has {name!r} {list(arrays[name].shape)} and does not fit rollouts of "
                    f"{list(field.shape)}"
                )
            field[:filled] = arrays[name]
        self._filled = filled

    def restart(self, steps: int, meta: Mapping[str, Any]) -> None:
        """A new rollout begins."""
        self._filled = 0

    def metrics(self) -> dict[str, float]:
        """Nothing: what a rollout is scaled by is the algorithm's own."""
        return {}
