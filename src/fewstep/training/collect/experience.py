"""What a run keeps of its environment steps, and when an update is due on how much of it."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np
from numpy.typing import NDArray

from fewstep.algos.contract import Algorithm
from fewstep.config import ReplayConfig, TrainingConfig
from fewstep.envs import StepResult
from fewstep.errors import FewstepError
from fewstep.replay import NStep, ReplayBuffer
from fewstep.runs.segments import Part, Rows
from fewstep.training import seeds
from fewstep.training.collect import held_noise
from fewstep.training.collect.return_scale import ReturnScale
from fewstep.types import STORED, Rollout, Spec, Transition

Arrays = Mapping[str, NDArray[Any]]
NONE = -(2**62)
"""In place of a transition's number: no transition is ``stride`` after it."""


def _fields(spec: Spec, names: tuple[str, ...]) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and type of one step's fields."""
    shapes = {"obs": (spec.obs_size,), "next_obs": (spec.obs_size,), "action": (spec.act_size,)}
    flags = ("terminated", "truncated")
    return {name: (shapes.get(name, ()), np.bool_ if name in flags else np.float32) for name in names}


class Experience(Protocol):
    """Between environments and updates. Which kind a run has, its algorithm says (``Algorithm.rollout``).

    Attributes:
        group: name of its arrays in a checkpoint.
    """

    group: str

    def warm_up_action(self, steps: int) -> NDArray[np.float32] | None:
        """The random action ``[N, act_size]`` with which ``steps`` is reached, None once the policy acts."""
        ...

    def noise_counter(self, steps: int) -> int:
        """What addresses the noise of the action taken after ``steps``."""
        ...

    def add(self, obs: NDArray[np.float32], action: NDArray[np.float32], result: StepResult) -> None:
        """Take in one step of N environments."""
        ...

    def cut(self, mask: NDArray[np.bool_]) -> None:
        """What is added next does not continue what was added last, where ``mask[N]`` is True: the episodes
        there were abandoned."""
        ...

    def due(self, steps: int) -> Any | None:
        """The data of the updates that are due now, one leading axis for the updates; None if none is."""
        ...

    def first_update(self) -> tuple[int, str]:
        """The step before which no update can happen, and what it is that decides it."""
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

    def metrics(self) -> dict[str, float]:
        """What a row of metrics says about the data."""
        ...


class Replay:
    """Off-policy: a ring of the last transitions, uniform batches, random actions before the first update."""

    group = "replay"

    def __init__(
        self,
        cfg: ReplayConfig,
        envs: int,
        spec: Spec,
        seed: int,
        *,
        discount: float = 0.99,
        numbered: bool = False,
    ) -> None:
        """``discount`` is that of n-step returns and of those which rewards may be scaled by; ``numbered``:
        batches come with the numbers of their transitions."""
        self._cfg, self._envs, self._spec, self._numbered = cfg, envs, spec, numbered
        self._seed = seed
        self._scale = ReturnScale(cfg.reward, discount, envs)
        self._warm_up = seeds.generator(seed, seeds.Draw.WARM_UP)
        self._began = 0
        self._stored: list[Part] = []
        n_step = None if cfg.n_step == 1 else NStep(cfg.n_step, discount, envs)
        self.buffer = ReplayBuffer(cfg.capacity, spec, seeds.integer(seed, seeds.Draw.REPLAY), n_step)
        self._last = np.full(envs, NONE)

    def warm_up_action(self, steps: int) -> NDArray[np.float32] | None:
        """Uniform in [-1, 1], until ``learning_starts`` steps."""
        if steps >= self._cfg.learning_starts:
            return None
        shape = (self._envs, self._spec.act_size)
        return self._warm_up.uniform(-1.0, 1.0, shape).astype(np.float32)

    def noise_counter(self, steps: int) -> int:
        """The steps at which it was drawn: fewer, while it is held (``replay.noise_repeat``)."""
        step = held_noise.first_step(self._seed, self._cfg.noise_repeat, steps // self._envs)
        return step * self._envs

    def add(self, obs: NDArray[np.float32], action: NDArray[np.float32], result: StepResult) -> None:
        """Store the transitions; a time limit is not a terminal state."""
        batch = Transition(obs, action, result.reward, result.terminated, result.obs)
        ended = result.terminated | result.truncated
        kept = ~result.lost
        if result.lost.any():
            batch = Transition(*(field[kept] for field in batch[: len(STORED)]))
        if self._cfg.n_step == 1:
            self.buffer.add(batch)
        else:
            number = self.buffer.added + np.cumsum(kept) - 1
            # Where a lost environment's row is missing the stride is another, and windows end.
            self.buffer.add(batch, (number - self._last == self._envs)[kept])
            self._last = np.where(kept & ~ended, number, NONE)
        self._scale.observe(result.reward, ended, result.lost)

    def cut(self, mask: NDArray[np.bool_]) -> None:
        """No window of n steps reaches over it; the running returns begin anew."""
        self._last[mask] = NONE
        self._scale.cut(mask)

    def due(self, steps: int) -> Transition | None:
        """``[U, B]`` transitions for the updates that belong to one step of every environment."""
        cfg = self._cfg
        if steps - self._began < cfg.learning_starts:
            return None
        data = self.buffer.sample(
            cfg.updates_per_iteration(self._envs), cfg.batch_size, numbered=self._numbered
        )
        if cfg.reward == "raw":
            return data
        return data._replace(reward=(data.reward / self._scale.divisor).astype(np.float32))

    def metrics(self) -> dict[str, float]:
        """The divisor of rewards, where they are divided."""
        return {} if self._cfg.reward == "raw" else {"reward/divisor": self._scale.divisor}

    def first_update(self) -> tuple[int, str]:
        """``learning_starts``."""
        return self._cfg.learning_starts, "replay.learning_starts"

    def example(self) -> Transition:
        """One batch of B transitions."""

        rows = (self._cfg.batch_size,)
        return Transition(
            **{
                name: jax.ShapeDtypeStruct((*rows, *shape), dtype)
                for name, (shape, dtype) in _fields(self._spec, STORED).items()
            },
            number=jax.ShapeDtypeStruct(rows, np.int32) if self._numbered else None,
            discount=None if self._cfg.n_step == 1 else jax.ShapeDtypeStruct(rows, np.float32),
        )

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """The transitions held, in the order they came, and both random streams."""
        ring = self.buffer
        rows = Rows(ring.added - len(ring), ring.added, ring.read, self._stored, hold=ring.hold)
        return rows, {
            "rng_state": ring.rng_state,
            "began": self._began,
            "warm_up_rng": self._warm_up.bit_generator.state,
            "return_scale": self._scale.snapshot(),
            **({} if self._cfg.n_step == 1 else {"last": self._last.tolist()}),
        }

    def restore(self, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Go back to a snapshot, to the last bit."""
        if not isinstance(arrays, Rows):
            raise FewstepError("the saved replay buffer is not in segments")
        self.buffer.refill(arrays.start, arrays.stop, arrays.pieces(), meta["rng_state"])
        self._stored = list(arrays.stored)
        self._scale.restore(meta["return_scale"])
        self._began = meta["began"]
        if self._cfg.n_step > 1:
            self._last = np.array(meta["last"], np.int64)
        self._warm_up.bit_generator.state = meta["warm_up_rng"]

    def restart(self, steps: int) -> None:
        """Updates begin again once ``learning_starts`` new steps are in the ring."""
        self._began = steps


class Rollouts:
    """On-policy: T steps of every environment in their order, given away once and then forgotten."""

    group = "rollout"

    def __init__(self, length: int, envs: int, spec: Spec) -> None:
        """Room for ``length`` steps of ``envs`` environments."""
        self._length, self._envs = length, envs
        self._fields = {
            name: np.zeros((length, envs, *shape), dtype)
            for name, (shape, dtype) in _fields(spec, Rollout._fields).items()
        }
        self._filled = 0

    def warm_up_action(self, steps: int) -> NDArray[np.float32] | None:
        """None: what the policy did not do itself would teach it nothing."""
        return None

    def noise_counter(self, steps: int) -> int:
        """``steps``: new noise at every step."""
        return steps

    def add(self, obs: NDArray[np.float32], action: NDArray[np.float32], result: StepResult) -> None:
        """Write the next row; actions as they were drawn, both ways an episode can end."""
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

    def first_update(self) -> tuple[int, str]:
        """One full rollout."""
        return self._length * self._envs, "one rollout (rollout length x training.envs)"

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

    def restart(self, steps: int) -> None:
        """A new rollout begins."""
        self._filled = 0

    def metrics(self) -> dict[str, float]:
        """Nothing: what a rollout is scaled by is the algorithm's own."""
        return {}


def make(algorithm: Algorithm, cfg: Any, training: TrainingConfig, spec: Spec, seed: int) -> Experience:
    """The kind of experience that the algorithm's updates are made from."""
    if algorithm.rollout is None:
        discount, numbered = float(cfg.discount), algorithm.numbered
        return Replay(cfg.replay, training.envs, spec, seed, discount=discount, numbered=numbered)
    return Rollouts(algorithm.rollout(cfg), training.envs, spec)
