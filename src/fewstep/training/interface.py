"""Between an environment's own observations and actions and the flat vectors of policies."""

from typing import Any

import numpy as np
from gymnasium import spaces

from fewstep import foreign
from fewstep.envs.registry import name_of, resolve
from fewstep.envs.spaces import ActionView, BadValue, ObservationView
from fewstep.errors import UsageError


class Interface:
    """The spaces of one environment.

    Attributes:
        observation_space, action_space: as the environment declares them.
        steps_per_second: of simulated time, 30 where the environment does not say.
    """

    def __init__(self, env_or_id: Any) -> None:
        env, env_id = resolve(env_or_id)(None, None), name_of(env_or_id)
        try:
            spaces_and_speed = foreign.call(
                lambda error: UsageError(f"the spaces of {env_id} cannot be read: {foreign.brief(error)}"),
                lambda: (env.observation_space, env.action_space, float(env.metadata.get("render_fps", 30))),
            )
            self.observation_space: spaces.Space[Any] = spaces_and_speed[0]
            self.action_space: spaces.Space[Any] = spaces_and_speed[1]
            self.steps_per_second = spaces_and_speed[2]
            self._observations = ObservationView(self.observation_space, env_id)
            self._actions = ActionView(self.action_space, env_id)
        finally:
            problem = foreign.close(env, env_id)
        if problem:
            foreign.tell(f"{problem}; nothing is lost by it")
        self._env_id = env_id

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
