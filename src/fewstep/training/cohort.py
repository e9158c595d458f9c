"""Trainers of equal configs but the seed, in step: one dispatch acts for all of them, one updates all."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from fewstep.algos import numerics
from fewstep.errors import FewstepError
from fewstep.training import stacked
from fewstep.training.trainer import Trainer


class Cohort:
    """Advances its trainers together.

    Every trainer keeps its environments, its experience and its random streams, so its data and its keys are
    those that it would have alone. Only the states move: ``advance`` stacks them, ``part`` gives each trainer
    its own back, complete, so that whatever can be done to a trainer (evaluate, log, save, drop) can be done
    then.

    Attributes:
        trainers: those that go on, in the order in which they joined.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers: list[Trainer] = []
        self._joined: tuple[Any, Any] | None = None
        self._keys: Any = None
        self._updates = 0
        for trainer in trainers:
            self.add(trainer)

    @property
    def env_steps(self) -> int:
        """Environment steps that each trainer has taken."""
        return self.trainers[0].env_steps

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
        state, totals = self._joined
        self._joined = None
        for index, trainer in enumerate(self.trainers):
            own = stacked.lane(state, index), stacked.lane(totals, index)
            trainer.learner.take_back(*own, self._updates)

    def advance(self) -> dict[Trainer, FewstepError | OSError]:
        """One step of every trainer's environments, and the updates that belong to it.

        Gives the trainers whose environment failed at this step, with the error. They have parted, with what
        they had learned before it, and the others have gone on without them.

        Raises:
            KeyboardInterrupt: an environment raised it; all else is as above.
        """
        if self._joined is None:
            self._join()
        failed, interrupted = self._step()
        for trainer in (*failed, *interrupted):
            self.drop(trainer)
        if self.trainers:
            if self._joined is None:
                self._join()
            self._learn()
        for interruption in interrupted.values():
            raise interruption
        return failed

    @numerics.own
    def _join(self) -> None:
        states, totals = zip(*(trainer.learner.lend() for trainer in self.trainers), strict=True)
        self._joined = stacked.stack(states), stacked.stack(totals)
        self._keys = jnp.stack([trainer.learner.act_key for trainer in self.trainers])
        self._updates = 0

    def _step(self) -> tuple[dict[Trainer, FewstepError | OSError], dict[Trainer, KeyboardInterrupt]]:
        failed: dict[Trainer, FewstepError | OSError] = {}
        interrupted: dict[Trainer, KeyboardInterrupt] = {}
        for trainer, action in zip(self.trainers, self._actions(), strict=True):
            try:
                trainer.take(action)
            except (FewstepError, OSError) as error:
                failed[trainer] = error
            except KeyboardInterrupt as error:
                interrupted[trainer] = error
        return failed, interrupted

    def _actions(self) -> Sequence[NDArray[np.float32]]:
        """Every trainer's next action, from its own stream whoever computes it."""
        random = [action for trainer in self.trainers if (action := trainer.warm_up_action()) is not None]
        if random:  # of all: it depends on the step and the config alone
            return random
        assert self._joined is not None
        first = self.trainers[0]
        act = stacked.act(first.algorithm, first.learner.choose)
        obs = np.stack([trainer.obs for trainer in self.trainers])
        return list(np.asarray(act(self._joined[0], obs, self._keys, np.uint32(self.env_steps))))

    def _learn(self) -> None:
        data = [due for trainer in self.trainers if (due := trainer.due()) is not None]
        if not data:
            return
        if len(data) < len(self.trainers):
            raise FewstepError(
                f"at step {self.env_steps:,} updates are due for {len(data)} of {len(self.trainers)} seeds "
                "(some go on from a checkpoint without replay): resume them one by one"
            )
        assert self._joined is not None
        update = stacked.updates(self.trainers[0].learner.update)
        self._joined = update(*self._joined, jax.tree.map(lambda *leaves: np.stack(leaves), *data))
        self._updates += len(jax.tree.leaves(data[0])[0])
