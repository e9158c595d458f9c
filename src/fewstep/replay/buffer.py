"""A ring of transitions in preallocated arrays."""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.errors import FewstepError, UsageError
from fewstep.replay.n_step import NStep, window
from fewstep.types import STORED, Spec, Transition

FOLLOWS = "follows"
"""The field of an n-step buffer that says whether a transition goes on from the one ``stride`` before it."""
FLAGS = ("terminated", FOLLOWS)


class ReplayBuffer:
    """Keeps the last ``capacity`` transitions and draws uniform batches of them, with replacement.

    Memory is reserved at once but committed by the operating system only as it fills. One transition costs
    ``8 obs_size + 4 act_size + 5`` bytes (Humanoid-v4: 3.08 GB per million), one more with n-step returns.
    Images are kept as bytes and drawn as such: ``2 obs_size`` in the place of ``8 obs_size``.
    """

    def __init__(self, capacity: int, spec: Spec, seed: int, n_step: NStep | None = None) -> None:
        """Reserve room for ``capacity`` transitions; ``seed`` (non-negative) starts the sampling stream.

        With ``n_step`` a drawn transition sums several steps (``replay.n_step``), and whether one goes on
        from the other is stored beside each: ``follows``.

        Raises UsageError if the capacity is below 1 or more than the machine can reserve.
        """
        if capacity < 1:
            raise UsageError(f"replay capacity must be at least 1, got {capacity}")
        if seed < 0:
            raise UsageError(f"the replay seed must not be negative, got {seed}")
        self._spec = spec
        self._capacity = int(capacity)
        self._n_step = n_step
        shapes = {"obs": (spec.obs_size,), "action": (spec.act_size,), "next_obs": (spec.obs_size,)}
        names = STORED if n_step is None else (*STORED, FOLLOWS)
        types: dict[str, Any] = dict.fromkeys(FLAGS, np.bool_)
        if spec.image is not None:
            types |= dict.fromkeys(("obs", "next_obs"), np.uint8)
        try:
            self._fields: dict[str, NDArray[Any]] = {
                name: np.empty((self._capacity, *shapes.get(name, ())), types.get(name, np.float32))
                for name in names
            }
        except MemoryError:
            seen = (8 if spec.image is None else 2) * spec.obs_size
            need = self._capacity * (seen + 4 * spec.act_size + 5) / 1e9
            raise UsageError(
                f"a replay buffer of {capacity} transitions needs {need:.1f} GB, more than this machine can "
                "reserve; choose a smaller capacity"
            ) from None
        self._added = 0
        self._held: dict[object, int] = {}
        self._held_changes = threading.Condition()
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def __len__(self) -> int:
        """How many transitions are held now."""
        return min(self._added, self._capacity)

    @property
    def added(self) -> int:
        """How many transitions were ever added; they are numbered from 0, and the last ``len`` are held."""
        return self._added

    @property
    def capacity(self) -> int:
        """How many transitions fit."""
        return self._capacity

    @property
    def cursor(self) -> int:
        """Where the next transition will be written, in ``[0, capacity)``."""
        return self._added % self._capacity

    @property
    def nbytes(self) -> int:
        """Bytes reserved by the arrays, filled or not."""
        return sum(field.nbytes for field in self._fields.values())

    def add(self, batch: Transition, follows: NDArray[np.bool_] | None = None) -> None:
        """Copy ``N`` transitions in (fields ``[N, ...]``), over the oldest once full (after waiting, if those
        are held for another thread).

        ``follows[N]`` is given where there are n-step returns, and there alone: whether each is the next step
        of the episode of the transition ``stride`` before it.

        Raises UsageError for wrong shapes, more rows than the capacity, flags that are not bool, non-finite
        rewards or actions outside [-1, 1]. Nothing is written then.
        """
        arrays = {name: np.asarray(value) for name, value in zip(STORED, batch[: len(STORED)], strict=True)}
        if self._n_step is not None:
            arrays[FOLLOWS] = np.asarray(follows)
        count = len(arrays["reward"]) if arrays["reward"].ndim else 0
        for name, field in self._fields.items():
            if arrays[name].shape != (count, *field.shape[1:]):
                raise UsageError(
                    f"transition field {name!r} has shape {arrays[name].shape}, expected "
                    f"{(count, *field.shape[1:])} (rewards have {count} rows)"
                )
        if count > self._capacity:
            raise UsageError(f"{count} transitions at once do not fit a replay buffer of {self._capacity}")
        for name in FLAGS:
            if name in arrays and arrays[name].dtype != np.bool_:
                raise UsageError(f"transition field {name!r} must be bool, got {arrays[name].dtype}")
        if not (np.abs(arrays["action"]) <= 1.0).all():  # false for NaN too
            raise UsageError(
                "transition field 'action' must lie in [-1, 1]; store the action as the policy gave it"
            )
        if not np.isfinite(arrays["reward"]).all():
            raise UsageError("transition field 'reward' is not finite")
        self._wait_until_free(self._added + count - self._capacity)
        self._put(self._added, arrays, count)
        self._added += count

    def hold(self, number: int | None, reader: object = None) -> None:
        """Keep the transitions from ``number`` on where they are, for another thread to ``read``.

        Each ``reader`` has a hold of its own. Only an ``add`` that comes round to a held one waits. The
        reader moves its hold on as it has read, and must end it with None, also when it fails. The thread
        that adds is the one that begins a hold: an ``add`` under way could not see it.
        """
        with self._held_changes:
            self._held.pop(reader, None)
            if number is not None:
                self._held[reader] = number
            self._held_changes.notify_all()

    def _wait_until_free(self, stop: int) -> None:
        """Wait until no transition below ``stop`` is held."""
        with self._held_changes:
            self._held_changes.wait_for(lambda: min(self._held.values(), default=stop) >= stop)

    def _put(self, number: int, arrays: Mapping[str, NDArray[Any]], count: int) -> None:
        """Write ``count`` (at most the capacity) transitions where those from ``number`` on belong."""
        at = number % self._capacity
        head = min(count, self._capacity - at)
        for name, field in self._fields.items():
            field[at : at + head] = arrays[name][:head]
            field[: count - head] = arrays[name][head:]

    def sample(self, updates: int, batch: int, *, numbered: bool = False) -> Transition:
        """``updates`` batches of ``batch`` transitions each, as fresh arrays ``[updates, batch, ...]``, with
        their numbers if ``numbered``. The number of one that sums several steps is that of the first.

        All indices come from one call of the generator. Raises UsageError for an empty buffer or sizes below
        1.
        """
        if updates < 1 or batch < 1:
            raise UsageError(f"a sample needs at least 1 update and 1 row, got {updates} and {batch}")
        if not self._added:
            raise UsageError("the replay buffer is empty; collect transitions before sampling")
        rows = self._rng.integers(0, len(self), size=(updates, batch))
        if self._n_step is None and not numbered:
            return self._rows(rows)
        newest = self._added - 1
        number = newest - (newest - rows) % self._capacity
        drawn = self._rows(rows) if self._n_step is None else self._windows(self._n_step, rows, number)
        return drawn._replace(number=number.astype(np.int32)) if numbered else drawn

    def _rows(self, rows: NDArray[np.int64]) -> Transition:
        # take() gathers rows about three times faster than indexing with an array for small observations.
        return Transition(*(field.take(rows, axis=0) for field in self._fields.values()))

    def _windows(self, n_step: NStep, rows: NDArray[np.int64], number: NDArray[np.int64]) -> Transition:
        """Transitions that reach over up to n steps."""
        field = self._fields
        reward, discount, last = window(n_step, number, self._added, field["reward"], field[FOLLOWS])
        return Transition(
            obs=field["obs"].take(rows, axis=0),
            action=field["action"].take(rows, axis=0),
            reward=reward,
            terminated=field["terminated"].take(last),
            next_obs=field["next_obs"].take(last, axis=0),
            discount=discount,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The filled part of every field, ``[len, ...]`` in storage order (views, not copies)."""
        return {name: field[: len(self)] for name, field in self._fields.items()}

    def read(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """A copy of the transitions numbered ``start`` to ``stop - 1``, in this order, which must be there.

        Another thread may call it for those it has on ``hold``, while this one adds.
        """
        added = self._added  # once: it grows meanwhile
        if not max(0, added - self._capacity) <= start <= stop <= added:
            raise UsageError(f"transitions {start} to {stop} are not in this replay buffer")
        at, count = start % self._capacity, stop - start
        head = min(count, self._capacity - at)
        return {
            name: np.concatenate([field[at : at + head], field[: count - head]])
            for name, field in self._fields.items()
        }

    @property
    def rng_state(self) -> dict[str, Any]:
        """State of the sampling generator, of plain values that JSON can hold (with 128-bit integers)."""
        return dict(self._rng.bit_generator.state)

    @rng_state.setter
    def rng_state(self, state: Mapping[str, Any]) -> None:
        self._rng = _generator(state)

    def refill(
        self,
        start: int,
        stop: int,
        pieces: Iterable[tuple[int, Mapping[str, NDArray[Any]]]],
        rng_state: Mapping[str, Any],
    ) -> None:
        """Take over the transitions numbered ``start`` to ``stop - 1``, to the last bit.

        ``pieces`` gives all of them in turn: the number of the first one, and what ``read`` gave. Raises
        FewstepError if they do not fit this buffer, which must not be used then.
        """
        if start != max(0, stop - self._capacity):
            raise FewstepError(
                f"saved replay holds transitions {start} to {stop}, this buffer fits {self._capacity}"
            )
        self.rng_state = rng_state
        due = start
        for number, arrays in pieces:
            count = self._checked(arrays)
            if number != due or number + count > stop:
                raise FewstepError(f"saved replay gives transition {number} where {due} should be")
            self._put(number, arrays, count)
            due += count
        if due != stop:
            raise FewstepError(f"saved replay ends at transition {due} instead of {stop}")
        self._added = stop

    def _checked(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        """How many saved transitions these are; raises FewstepError unless they are of this buffer's kind."""
        if set(arrays) != set(self._fields):
            raise FewstepError(f"saved replay has fields {sorted(arrays)}, expected {sorted(self._fields)}")
        size = len(arrays["reward"]) if arrays["reward"].ndim else -1
        for name, field in self._fields.items():
            if arrays[name].shape != (size, *field.shape[1:]) or arrays[name].dtype != field.dtype:
                raise FewstepError(
                    f"saved replay field {name!r} is {arrays[name].dtype} {arrays[name].shape}, "
                    f"expected {field.dtype} {(size, *field.shape[1:])}"
                )
        return size


def _generator(state: Mapping[str, Any]) -> np.random.Generator:
    bits: Any = np.random.PCG64(0)  # its state is typed more narrowly than a read-back one
    try:
        bits.state = dict(state)
    except (ValueError, TypeError, KeyError):
        raise FewstepError("saved replay has a damaged generator state") from None
    return np.random.Generator(bits)
