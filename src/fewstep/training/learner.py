"""The learning half of a run: the algorithm's state, its jitted calls and the sums of its metrics."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from fewstep.algos import registry
from fewstep.algos.contract import Algorithm
from fewstep.errors import FewstepError, UsageError
from fewstep.training import acting, compiled, demands, donation, seeds, state_io
from fewstep.training.collect.return_scale import in_own_units
from fewstep.types import Spec


class Learner:
    """One state that acts and learns.

    Between calls the state is kept as the list of its leaves, because jax takes a tree of modules apart in
    Python, at every call.

    Attributes:
        updates: updates done.
        update: what ``learn`` has jitted.
        act_key: root of the draws of ``act``.
    """

    def __init__(self, algorithm: Algorithm, cfg: Any, spec: Spec, seed: int, example: Any) -> None:
        """``example`` has the shapes of one update's data.

        Raises:
            AlgorithmError: an algorithm of the user's own breaks its contract.
            UsageError: observations are images, which the algorithm does not take.
        """
        if spec.image is not None and not algorithm.images:
            able = ", ".join(name for name in registry.BUILT_IN if registry.get(name).images)
            raise UsageError(f"{algorithm.name} does not learn from images; those that do: {able}")
        if algorithm.source is not None:
            demands.check(algorithm, cfg, spec, example)
        self._algorithm = algorithm
        state: Any = compiled.init(algorithm, cfg, spec)(seeds.key(seed, seeds.Stream.ALGORITHM))
        self._state: Any = state
        self._leaves, self._tree = jax.tree.flatten(state)
        self._lost: FewstepError | None = None
        self.updates = 0
        self.update = compiled.updates(algorithm, cfg)
        self.act_key = seeds.key(seed, seeds.Stream.ACT)
        self._act_bits = acting.key_bits(self.act_key)
        self._update_leaves = compiled.flat_updates(self.update, self._tree)
        self._read, self._act = acting.on_arrays(algorithm, cfg, spec, None, self._collecting)
        self._read_of_state = self._places_in_state()
        self._totals: Any = compiled.zero_totals(algorithm, cfg, state, example)
        self._in_interval = 0
        critic = getattr(cfg, "critic", None)
        self._reward_scale = float(getattr(critic, "reward_scale", 1.0))
        self._unproved = demands.root_key(state) if algorithm.source is not None else None
        self._to_time: set[str] = set()
        self._times: dict[str, float] = {}

    @property
    def state(self) -> Any:
        """The algorithm's state, the same object until the next update.

        Its arrays are given to that update: read it, do not keep it.
        """
        if self._lost is not None:
            raise self._lost
        if self._state is None:
            self._state = jax.tree.unflatten(self._tree, self._leaves)
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state, self._leaves = state, jax.tree.leaves(state)

    @property
    def policy(self) -> Any:
        """The pytree that can act now (valid until the next ``learn``)."""
        return self._algorithm.policy(self.state)

    @property
    def _collecting(self) -> Any:
        return self._algorithm.collecting(self.state)

    def act(self, obs: np.ndarray, counter: int) -> np.ndarray:
        """Actions ``[N, act_size]`` to collect experience with; the counter addresses the draw."""
        with self.careful():
            start = self._clock("act")
            action = np.asarray(self._act(self._acting_leaves(), obs, self._act_bits, np.uint32(counter)))
            self._stop("act", start, 1)
            return action

    def learn(self, data: Any) -> None:
        """One update per entry of the leading axis, in one dispatch."""
        updates = len(jax.tree.leaves(data)[0])
        with self.careful():
            start = self._clock("update")
            self._state = None
            self._leaves, self._totals = self._update_leaves(self._leaves, self._totals, data)
            self._stop("update", start, updates)
            self.count(updates)

    @contextmanager
    def careful(self) -> Generator[None]:
        """For whatever uses the networks: a failure of the device becomes one line that says what is left.

        Raises:
            FewstepError: the device failed, now or in an earlier update that took the networks with it.
        """
        if self._lost is not None:
            raise self._lost
        try:
            yield
        except BaseException as error:
            gone = donation.is_gone((self._leaves, self._totals))
            if gone:
                self.lose(error)
            told = donation.explained(error, gone)
            if told is not None:
                raise told from error
            raise

    def lose(self, error: BaseException) -> None:
        """``error`` took the networks away: whatever needs them says so from now on."""
        self._lost = donation.lost(error)

    def _places_in_state(self) -> list[int] | None:
        """Which leaves of the state acting reads; None if the policy is not made of such leaves alone."""
        places = {id(leaf): place for place, leaf in enumerate(self._leaves)}
        leaves = jax.tree.leaves(self._collecting)
        read = [places.get(id(leaves[place]), -1) for place in self._read]
        return None if -1 in read else read

    def _acting_leaves(self) -> list[Any]:
        """The arrays that acting reads, where it can be without building the policy."""
        if self._read_of_state is not None:
            return [self._leaves[place] for place in self._read_of_state]
        leaves = jax.tree.leaves(self._collecting)
        return [leaves[place] for place in self._read]

    def take_times(self) -> dict[str, float]:
        """``wall_act_ms`` of one action and ``wall_update_ms`` of one update since the last call, where there
        was one; the next of each will be timed.

        A timed call waits for the device before and after, which training otherwise never does. Before the
        first update nothing is timed: it would be the compiler.
        """
        found, self._times, self._to_time = self._times, {}, {"act", "update"}
        return found

    def _clock(self, what: str) -> float:
        """Now, with the device at rest, if the call that follows is to be timed."""
        if what not in self._to_time or not self.updates:
            return 0.0
        jax.block_until_ready(self._leaves)
        return time.perf_counter()

    def _stop(self, what: str, start: float, count: int) -> None:
        if start:
            jax.block_until_ready(self._leaves)
            self._times[f"wall_{what}_ms"] = round(1e3 * (time.perf_counter() - start) / count, 4)
            self._to_time.discard(what)

    def count(self, updates: int) -> None:
        """So many updates have been made: by ``learn``, or on what was lent."""
        self.updates += updates
        self._in_interval += updates

    def lend(self) -> tuple[Any, Any]:
        """Give state and sums of metrics away; until ``take_back`` this learner can do nothing."""
        lent = self.state, self._totals
        self._state, self._leaves, self._totals = None, [], None
        return lent

    def take_back(self, state: Any, totals: Any) -> None:
        """What ``lend`` gave, after the updates that ``count`` was told of."""
        self.state, self._totals = state, totals

    def take_means(self) -> dict[str, float]:
        """Mean of every metric over the updates since the last call, nothing if there were none.

        Values are in units of the rewards that ``learn`` was given, whatever ``critic.reward_scale``.

        The one place where the host waits for the device's metrics.

        Raises:
            AlgorithmError: an algorithm of the user's own has not counted these updates.
        """
        if not self._in_interval:
            return {}
        with self.careful():
            if self._unproved is not None:
                demands.check_count(self._algorithm, self.state, self.updates, self._unproved)
                self._unproved = None
            totals = jax.device_get(self._totals)
        means = {name: float(total) / self._in_interval for name, total in totals.items()}
        self._totals = jax.tree.map(jax.numpy.zeros_like, self._totals)
        self._in_interval = 0
        return in_own_units(means, 1.0 / self._reward_scale)

    def snapshot(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON values that ``restore`` takes."""
        with self.careful():
            arrays = state_io.to_arrays({"state": self.state, "totals": self._totals})
        return arrays, {"updates": self.updates, "updates_in_interval": self._in_interval}

    def restore(self, arrays: Mapping[str, np.ndarray], meta: dict[str, Any], what: str) -> None:
        """Go back to a snapshot.

        Raises:
            FewstepError: the arrays do not fit the networks; ``what`` names them.
        """
        template = jax.tree.unflatten(self._tree, self._leaves)
        tree = state_io.from_arrays({"state": template, "totals": self._totals}, arrays, what)
        self.state, self._totals = tree["state"], tree["totals"]
        self._lost = None
        self.updates, self._in_interval = int(meta["updates"]), int(meta["updates_in_interval"])
