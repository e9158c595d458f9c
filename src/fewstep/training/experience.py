"""What a run keeps of its environment steps, and when an update is due on how much of it."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fewstep.config import TrainingConfig
from fewstep.envs import StepResult
from fewstep.replay import ReplayBuffer
from fewstep.runs.segments import Part, Rows
from fewstep.training import seeds
from fewstep.types import Spec, Transition

Arrays = Mapping[str, NDArray[Any]]


class Experience(Protocol):
    """Between environments and updates. Which kind a run has, its algorithm says (``Algorithm.rollout``).

    Attributes:
        group: name of its arrays in a checkpoint.
    """

    group: str

    def warm_up_action(self, steps: int) -> NDArray[np.float32] | None:
        """The random action ``[N, act_size]`` with which ``steps`` is reached, None once the policy acts."""
        ...

    def add(self, obs: NDArray[np.float32], action: NDArray[np.float32], result: StepResult) -> None:
        """Take in one step of N environments."""
        ...

    def due(self, steps: int) -> Any | None:
        """The data of the updates that are due now, one leading axis for the updates; None if none is."""
        ...

    def example(self) -> Any:
        """Shapes of one update's data."""
        ...

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and JSON values that ``restore`` takes.

        Arrays that only grow are given as ``Rows``: a checkpoint then writes what is new of them.
        """
        ...

    def restore(self, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Go back to a snapshot, to the last bit."""
        ...

    def restart(self, steps: int) -> None:
        """Begin empty at this many steps: the checkpoint was saved without the data."""
        ...


class Replay:
    """Off-policy: a ring of the last transitions, uniform batches, random actions before the first update."""

    group = "replay"

    def __init__(self, training: TrainingConfig, spec: Spec, seed: int) -> None:
        self._training, self._spec = training, spec
        self._warm_up = seeds.generator(seed, seeds.Draw.WARM_UP)
        self._began = 0
        self._stored: list[Part] = []
        self.buffer = ReplayBuffer(training.replay_capacity, spec, seeds.integer(seed, seeds.Draw.REPLAY))

    def warm_up_action(self, steps: int) -> NDArray[np.float32] | None:
        """Uniform in [-1, 1], until ``learning_starts`` steps."""
        if steps >= self._training.learning_starts:
            return None
        shape = (self._training.envs, self._spec.act_size)
        return self._warm_up.uniform(-1.0, 1.0, shape).astype(np.float32)

    def add(self, obs: NDArray[np.float32], action: NDArray[np.float32], result: StepResult) -> None:
        """Store the transitions; a time limit is not a terminal state."""
        batch = Transition(obs, action, result.reward, result.terminated, result.obs)
        if result.lost.any():
            batch = Transition(*(field[~result.lost] for field in batch))
        self.buffer.add(batch)

    def due(self, steps: int) -> Transition | None:
        """``[U, B]`` transitions for the updates that belong to one step of every environment."""
        if steps - self._began < self._training.learning_starts:
            return None
        return self.buffer.sample(self._training.updates_per_iteration, self._training.batch_size)

    def example(self) -> Transition:
        """One batch of B transitions."""

        def array(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((self._training.batch_size, *shape), dtype)

        obs, action = (self._spec.obs_size,), (self._spec.act_size,)
        return Transition(array(obs), array(action), array(()), array((), jnp.bool_), array(obs))

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """The transitions held, in the order they came, and both random streams."""
        ring = self.buffer
        rows = Rows(ring.added - len(ring), ring.added, ring.read, self._stored)
        return rows, {
            "rng_state": ring.rng_state,
            "began": self._began,
            "warm_up_rng": self._warm_up.bit_generator.state,
        }

    def restore(self, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Go back to a snapshot, to the last bit."""
        if isinstance(arrays, Rows):
            self.buffer.refill(arrays.start, arrays.stop, arrays.pieces(), meta["rng_state"])
            self._stored = list(arrays.stored)
        else:  # up to format 2: the ring as it lies in memory
            self.buffer.restore(arrays, meta["cursor"], meta["rng_state"])
        self._began = meta["began"]
        self._warm_up.bit_generator.state = meta["warm_up_rng"]

    def restart(self, steps: int) -> None:
        """Updates begin again once ``learning_starts`` new steps are in the ring."""
        self._began = steps
