"""Trainers of equal configs but the seed, in step: one dispatch acts for all of them, one updates all."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray

from fewstep.algos import numerics
from fewstep.errors import FewstepError
from fewstep.training import donation
from fewstep.training.several import placement, stacked
from fewstep.training.trainer import Trainer


class Cohort:
    """Advances its trainers together.

    Every trainer keeps its environments, its experience and its random streams, so its data and its keys are
    those that it would have alone. Only the states move: ``advance`` stacks them, ``part`` gives each trainer
    its own back, complete, so that whatever can be done to a trainer (evaluate, log, save, drop) can be done
    then. Where jax sees several devices, the stacked states are spread over them (``several.placement``).

    Attributes:
        trainers: those that go on, in the order in which they joined.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers: list[Trainer] = []
        self._joined: tuple[Any, Any] | None = None
        self._keys: Any = None
        self._mesh: Mesh | None = None
        for trainer in trainers:
            self.add(trainer)

    @property
    def env_steps(self) -> int:
        """Environment steps that each trainer has taken."""
        return self.trainers[0].env_steps

    @property
    def updates(self) -> int:
        """Updates that each trainer has made."""
        return self.trainers[0].updates

    def add(self, trainer: Trainer) -> None:
        """Take in one more.

        Raises:
            FewstepError: it has taken more or fewer steps, or made more or fewer updates, than the others.
        """
        self.part()
        first = self.trainers[0] if self.trainers else trainer
        for what in ("env_steps", "updates"):
            own, theirs = getattr(trainer, what), getattr(first, what)
            if own != theirs:
                raise FewstepError(
                    f"seed {trainer.config.seed} has {own:,} {what} and seed {first.config.seed} {theirs:,}: "
                    "they cannot go on together, resume them one by one"
                )
        self.trainers.append(trainer)

    def drop(self, trainer: Trainer) -> None:
        """Go on without this one; it keeps its state."""
        self.part()
        self.trainers.remove(trainer)

    def part(self) -> None:
        """Give every trainer its state back; until the next ``advance`` each is complete by itself."""
        if self._joined is None:
            return
        with self._careful():
            state, totals = placement.gathered(self._joined, self._mesh)
            parts = [(stacked.lane(state, i), stacked.lane(totals, i)) for i in range(len(self.trainers))]
        self._joined = None
        for trainer, own in zip(self.trainers, parts, strict=True):
            trainer.learner.take_back(*own)

    @contextmanager
    def _careful(self) -> Generator[None]:
        """As ``Learner.careful``, for the networks of all."""
        try:
            yield
        except Exception as error:
            gone = donation.is_gone(self._joined)
            if gone:
                self._joined = None
                for trainer in self.trainers:
                    trainer.learner.lose(error)
            told = donation.explained(error, gone)
            if told is not None:
                raise told from error
            raise

    def advance(self) -> dict[Trainer, FewstepError | OSError]:
        """One step of every trainer's environments, and the updates that belong to it; before the first step
        the updates on recorded data.

        Gives the trainers whose environment failed at this step, with the error. They have parted, with what
        they had learned until then, and the others have gone on without them.

        Raises:
            KeyboardInterrupt: an environment raised it; all else is as above.
            FewstepError: the device failed; the message says whether the networks are left.
        """
        recorded = [data for trainer in self.trainers if (data := trainer.offline()) is not None]
        if recorded:
            self._learn(recorded)
            return {}
        actions = dict(zip(self.trainers, self._actions(), strict=True))
        failed, interrupted = self._each(lambda trainer: trainer.take(actions[trainer]))
        if self.trainers:
            self._learn([due for trainer in self.trainers if (due := trainer.due()) is not None])
            failed_later, interrupted_later = self._each(Trainer.begin)
            failed |= failed_later
            interrupted += interrupted_later
        if interrupted:
            raise interrupted[0]
        return failed

    def _each(
        self, do: Callable[[Trainer], None]
    ) -> tuple[dict[Trainer, FewstepError | OSError], list[KeyboardInterrupt]]:
        """``do`` with every trainer; those for which it failed or was interrupted part from the others."""
        failed: dict[Trainer, FewstepError | OSError] = {}
        interrupted: dict[Trainer, KeyboardInterrupt] = {}
        for trainer in self.trainers:
            try:
                do(trainer)
            except (FewstepError, OSError) as error:
                failed[trainer] = error
            except KeyboardInterrupt as error:
                interrupted[trainer] = error
        for trainer in (*failed, *interrupted):
            self.drop(trainer)
        return failed, list(interrupted.values())

    def _together(self) -> tuple[Any, Any]:
        """States and totals of all, stacked."""
        if self._joined is None:
            self._join()
        assert self._joined is not None
        return self._joined

    @numerics.own
    def _join(self) -> None:
        states, totals = zip(*(trainer.learner.lend() for trainer in self.trainers), strict=True)
        state, keys = stacked.stack(states), jnp.stack([t.learner.act_key for t in self.trainers])
        self._mesh = placement.mesh_for(len(self.trainers))
        self._joined = (
            placement.spread(state, self._mesh, stacked.specs(state)),
            placement.spread(stacked.stack(totals), self._mesh),
        )
        self._keys = placement.spread(keys, self._mesh)

    def _actions(self) -> Sequence[NDArray[np.float32]]:
        """Every trainer's next action, from its own stream whoever computes it."""
        random = [action for trainer in self.trainers if (action := trainer.warm_up_action()) is not None]
        if random:  # of all: it depends on the step and the config alone
            return random
        first = self.trainers[0]
        obs = np.stack([trainer.obs for trainer in self.trainers])
        counters = np.array([trainer.noise_counter for trainer in self.trainers], np.uint32)
        with self._careful():
            states, _ = self._together()
            act = stacked.collect(first.algorithm, first.config.algorithm, self._mesh)
            obs, counters = placement.spread((obs, counters), self._mesh)
            return list(np.asarray(act(states, obs, self._keys, counters)))

    def _learn(self, data: Sequence[Any]) -> None:
        if not data:
            return
        if len(data) < len(self.trainers):
            raise FewstepError(
                f"at step {self.env_steps:,} updates are due for {len(data)} of {len(self.trainers)} seeds "
                "(some go on from a checkpoint without replay): resume them one by one"
            )
        rows = jax.tree.map(lambda *leaves: np.stack(leaves), *data)
        with self._careful():
            states, totals = self._together()
            update = stacked.updates(self.trainers[0].learner.update, self._mesh)
            self._joined = update(states, totals, placement.spread(rows, self._mesh))
        for trainer in self.trainers:
            trainer.learner.count(len(jax.tree.leaves(data[0])[0]))
