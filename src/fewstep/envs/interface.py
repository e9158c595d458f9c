"""Between an environment's own observations and actions and the flat vectors of policies."""

from typing import Any

import numpy as np

from fewstep.envs import VectorEnv
from fewstep.envs.spaces import ActionView, BadValue, ObservationView
from fewstep.errors import UsageError


class Interface:
    """The spaces of one environment.

    Attributes:
        observation_space, action_space: as the environment declares them.
    """

    def __init__(self, env: VectorEnv) -> None:
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._env_id = env.env_id
        self._observations = ObservationView(self.observation_space, env.env_id)
        self._actions = ActionView(self.action_space, env.env_id)

    def flatten(self, observation: Any) -> tuple[np.ndarray, bool]:
        """``[B, obs_size]`` float32 rows, and whether a batch was given (else B is 1). B may be 0.

        Raises:
            UsageError: it is neither one observation nor a batch of them, or it is not finite.
        """
        plain = self._observations.plain(observation)  # in a control loop every microsecond counts
        if plain is not None:
            return plain[None], False
        try:
            return self._observations.batch(observation)
        except BadValue as error:
            raise UsageError(f"the observation does not fit {self._env_id}: {error}") from None

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """``[B, *action_shape]`` in the environment's units for ``actions[B, act_size]`` in [-1, 1]."""
        if len(actions) == 1:
            return self._actions.to_env(actions[0])[None]
        space = self.action_space
        made = [self._actions.to_env(action) for action in actions]
        return np.array(made, space.dtype).reshape(len(actions), *(space.shape or ()))
