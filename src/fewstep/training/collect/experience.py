"""What a run keeps of its environment steps, and when an update is due on how much of it."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from numpy.typing import NDArray

from fewstep.algos.contract import Algorithm
from fewstep.config import ReplayConfig, TrainingConfig
from fewstep.data import Dataset
from fewstep.envs import StepResult
from fewstep.errors import FewstepError, UsageError
from fewstep.replay import NStep, ReplayBuffer
from fewstep.runs.segments import Part, Rows
from fewstep.training import seeds
from fewstep.training.collect import held_noise
from fewstep.training.collect.mixture import mixed
from fewstep.training.collect.return_scale import ReturnScale
from fewstep.training.collect.rollouts import Rollouts, fields
from fewstep.types import STORED, Spec, Transition

Arrays = Mapping[str, NDArray[Any]]
NONE = -(2**62)
"""In place of a transition's number: no transition is ``stride`` after it."""


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

    def offline(self, updates: int) -> Any | None:
        """The data of the next updates of a run that has made ``updates`` and is to learn from recorded data
        alone before its first step; None if that is over, or was not asked for."""
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

    def restart(self, steps: int, meta: Mapping[str, Any]) -> None:
        """Begin empty at this many steps: the checkpoint was saved, or is read, without the data. ``meta``
        are the JSON values of its snapshot."""
        ...

    def metrics(self) -> dict[str, float]:
        """What a row of metrics says about the data."""
        ...


def first_update(learning_starts: int, began: int) -> tuple[int, str]:
    """``first_update`` of a replay buffer that was empty at ``began`` steps (below 0: not empty at 0)."""
    cause = "replay.learning_starts" + (f", counted from {began:,} on" if began > 0 else "")
    return max(0, began + learning_starts), cause


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
        dataset: Dataset | None = None,
    ) -> None:
        """``discount`` is that of n-step returns and of those which rewards may be scaled by; ``numbered``:
        batches come with the numbers of their transitions; ``dataset``: that of ``replay.dataset``.

        Raises:
            UsageError: numbered data leave no room in the replay buffer.
        """
        self._cfg, self._envs, self._spec, self._numbered = cfg, envs, spec, numbered
        self._seed = seed
        self._scale = ReturnScale(cfg.reward, discount, envs)
        self._warm_up = seeds.generator(seed, seeds.Draw.WARM_UP)
        self._began = 0
        self._stored: list[Part] = []
        n_step = None if cfg.n_step == 1 else NStep(cfg.n_step, discount, envs)
        self._data, self._numbered_data = None, 0
        if dataset is not None:
            self._data = _buffer_of(
                dataset, spec, seed, None if n_step is None else n_step._replace(stride=1)
            )
            self._numbered_data = len(dataset) if numbered else 0
            if cfg.reward != "raw":
                self._scale.begin_with(dataset.steps.reward, dataset.first)
        room = cfg.capacity - self._numbered_data
        if room < envs:
            raise UsageError(
                f"replay.capacity ({cfg.capacity:,}) has no room beside the data's {self._numbered_data:,} "
                "transitions, which count in it where an algorithm keeps an action for each; raise it"
            )
        self.buffer = ReplayBuffer(room, spec, seeds.integer(seed, seeds.Draw.REPLAY), n_step)
        self._last = np.full(envs, NONE)

    def warm_up_action(self, steps: int) -> NDArray[np.float32] | None:
        """Uniform in [-1, 1], until ``learning_starts`` steps, to which loaded transitions count."""
        if steps - min(0, self._began) >= self._cfg.learning_starts:
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
        return self._drawn(cfg.updates_per_iteration(self._envs), cfg.data_rows)

    def offline(self, updates: int) -> Transition | None:
        """``[U, B]`` transitions of the data, as many updates as belong to one step later on."""
        left = self._cfg.dataset.updates - updates
        if left <= 0:
            return None
        return self._drawn(min(left, self._cfg.updates_per_iteration(self._envs)), self._cfg.batch_size)

    def _drawn(self, updates: int, data_rows: int) -> Transition:
        """Batches of which ``data_rows`` are from the data."""
        rows = self._cfg.batch_size - data_rows
        drawn: list[Transition] = []
        if data_rows and self._data is not None:
            drawn.append(self._data.sample(updates, data_rows, numbered=self._numbered))
        if rows:
            new = self.buffer.sample(updates, rows, numbered=self._numbered)
            drawn.append(new if new.number is None else new._replace(number=self._own(new.number)))
        data = drawn[0] if len(drawn) == 1 else mixed(*drawn)
        if self._cfg.reward == "raw":
            return data
        return data._replace(reward=(data.reward / self._scale.divisor).astype(np.float32))

    def _own(self, number: NDArray[np.int32]) -> NDArray[np.int32]:
        """The numbers of transitions of the ring beside those of the data, which are the first: modulo
        ``replay.capacity`` no two held at once are equal. Without data each is as it is.

        After a restart without the transitions they count on: what an algorithm has kept is for earlier ones.
        """
        number = number + max(0, self._began)
        rounds, place = np.divmod(number, self.buffer.capacity)
        return (self._cfg.capacity * rounds + self._numbered_data + place).astype(np.int32)

    def metrics(self) -> dict[str, float]:
        """The divisor of rewards, where they are divided."""
        return {} if self._cfg.reward == "raw" else {"reward/divisor": self._scale.divisor}

    def first_update(self) -> tuple[int, str]:
        """``learning_starts`` after it began empty; 0 with updates on recorded data."""
        if self._cfg.dataset.updates:
            return 0, "replay.dataset.updates"
        return first_update(self._cfg.learning_starts, self._began)

    def example(self) -> Transition:
        """One batch of B transitions."""

        rows = (self._cfg.batch_size,)
        return Transition(
            **{
                name: jax.ShapeDtypeStruct((*rows, *shape), dtype)
                for name, (shape, dtype) in fields(self._spec, STORED).items()
            },
            number=jax.ShapeDtypeStruct(rows, np.int32) if self._numbered else None,
            discount=None if self._cfg.n_step == 1 else jax.ShapeDtypeStruct(rows, np.float32),
        )

    def snapshot(self) -> tuple[Arrays, dict[str, Any]]:
        """The transitions held, in the order they came, and both random streams."""
        ring = self.buffer
        hold = partial(ring.hold, reader=object())  # a model may be saved while a checkpoint is written
        rows = Rows(ring.added - len(ring), ring.added, ring.read, self._stored, hold=hold)
        return rows, {
            "rng_state": ring.rng_state,
            "began": self._began,
            "warm_up_rng": self._warm_up.bit_generator.state,
            "return_scale": self._scale.snapshot(),
            **({} if self._cfg.n_step == 1 else {"last": self._last.tolist()}),
            **({} if self._data is None else {"data_rng_state": self._data.rng_state}),
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
        if self._data is not None:
            self._data.rng_state = meta["data_rng_state"]
        self._warm_up.bit_generator.state = meta["warm_up_rng"]

    def take_over(self, arrays: Arrays, meta: Mapping[str, Any], steps: int, updates: int) -> None:
        """Continue at this many steps with the transitions of a snapshot, of whatever run, in place of the
        own ones; they count towards ``learning_starts``. What rewards are divided by comes with them, unless
        there were ``updates`` already: then it goes on, as the critics are in its units.

        Raises:
            FewstepError: they do not fit, or n-step returns would mix the steps of several environments.
        """
        envs = len(meta.get("last", self._last))
        if envs != self._envs:  # rows of one environment are so many apart
            raise FewstepError(
                f"the saved replay buffer is of {envs} environments and replay.n_step is {self._cfg.n_step}: "
                f"it needs training.envs={envs}, here it is {self._envs}"
            )
        own = self.snapshot()[1]
        self.restore(arrays, own if updates else own | {"return_scale": meta["return_scale"]})
        self._scale.forget(self._envs)
        self._last[:] = NONE
        self._stored = []
        self._began = steps - len(self.buffer)

    def restart(self, steps: int, meta: Mapping[str, Any]) -> None:
        """Updates begin again once ``learning_starts`` new steps are in the ring; what rewards are divided by
        goes on, as the critics are in its units."""
        self._began = steps
        self._scale.restore(meta["return_scale"])
        self._scale.forget(self._envs)


def _buffer_of(dataset: Dataset, spec: Spec, seed: int, n_step: NStep | None) -> ReplayBuffer:
    """The data as a buffer that is full and stays as it is."""
    made = ReplayBuffer(len(dataset), spec, seeds.integer(seed, seeds.Draw.DATASET), n_step)
    made.add(dataset.steps, None if n_step is None else ~dataset.first)
    return made


def make(
    algorithm: Algorithm,
    cfg: Any,
    training: TrainingConfig,
    spec: Spec,
    seed: int,
    dataset: Dataset | None = None,
) -> Experience:
    """The kind of experience that the algorithm's updates are made from."""
    if algorithm.rollout is None:
        discount, numbered = float(cfg.discount), algorithm.numbered
        return Replay(
            cfg.replay, training.envs, spec, seed, discount=discount, numbered=numbered, dataset=dataset
        )
    return Rollouts(algorithm.rollout(cfg), training.envs, spec)
