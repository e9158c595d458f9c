"""``Model.predict``: observations as the environment gives them, actions as it takes them."""

from typing import Any

import numpy as np

from fewstep.algos.contract import ActionMode
from fewstep.envs.interface import Interface
from fewstep.training import acting, seeds
from fewstep.training.device.trainer import AnyTrainer


class Predictor:
    """Acts with what a trainer has learned so far.

    Attributes:
        interface: the environment's own spaces.
    """

    def __init__(self, trainer: AnyTrainer) -> None:
        self.interface = Interface(trainer.envs)
        self._trainer = trainer
        self._key = seeds.key(trainer.config.seed, seeds.Stream.PREDICT)
        self._predictions = 0
        self._bound: dict[tuple[ActionMode, bool], acting.Acting] = {}
        self._bound_to: Any = None

    def predict(self, observation: Any, deterministic: bool) -> np.ndarray:
        """An action, or one for each observation of a batch."""
        flat, batched = self.interface.flatten(observation)
        if not len(flat):
            return self.interface.to_env(flat)
        if deterministic:
            mode, counter = self._trainer.algorithm.native(self._trainer.config.algorithm), 0
        else:
            self._predictions += 1
            mode, counter = ActionMode(), self._predictions
        with self._trainer.learner.careful():
            chosen = self._acting(mode, each=deterministic)(flat, counter)
        actions = self.interface.to_env(chosen)
        return actions if batched else actions[0]

    def _acting(self, mode: ActionMode, each: bool) -> acting.Acting:
        """What acts in this mode now, on ``each`` row by itself; made anew once there has been an update."""
        trainer = self._trainer
        state = trainer.learner.state
        if self._bound_to is not state:
            self._bound_to, self._bound = state, {}
        if (mode, each) not in self._bound:
            bind = acting.bind_each if each else acting.bind
            cfg = trainer.config.algorithm
            self._bound[mode, each] = bind(
                trainer.algorithm, cfg, trainer.spec, mode, trainer.policy, self._key
            )
        return self._bound[mode, each]
