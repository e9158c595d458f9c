"""Between an environment's own observations and actions and the flat vectors of policies."""

from typing import Any

import numpy as np
from gymnasium import spaces

from fewstep.envs.registry import resolve
from fewstep.envs.spaces import ActionView, BadValue, ObservationView
from fewstep.errors import UsageError
from fewstep.types import EnvInfo


class Interface:
    """The spaces of one environment.

    Attributes:
        observation_space, action_space: as the environment declares them.
        steps_per_second: of simulated time, 30 where the environment does not say.
    """

    def __init__(self, env_id: str) -> None:
        env = resolve(env_id)(None, None)
        self.observation_space: spaces.Space[Any] = env.observation_space
        self.action_space: spaces.Space[Any] = env.action_space
        self.steps_per_second = float(env.metadata.get("render_fps", 30))
        env.close()
        self._env_id = env_id
        self._observations = ObservationView(self.observation_space, env_id)
        self._actions = ActionView(self.action_space, env_id)

    @property
    def info(self) -> EnvInfo:
        """What a saved or exported policy keeps of the environment."""
        names = tuple(self._observations.name(i) for i in range(self._observations.size))
        low, high = (tuple(end.tolist()) for end in (self._actions.low, self._actions.high))
        return EnvInfo(self._env_id, names, low, high, self.action_space.shape or ())

    def flatten(self, observation: Any) -> tuple[np.ndarray, bool]:
        """``[B, obs_size]`` float32 rows, and whether a batch was given (else B is 1).

        Raises:
            UsageError: it is neither one observation nor a batch of them, or it is not finite.
        """
        plain = self._observations.plain(observation)  # in a control loop every microsecond counts
        if plain is not None:
            return plain[None], False
        extra = _extra_axes(observation, self.observation_space)
        if extra not in (0, 1):
            raise UsageError(
                f"the observation does not fit {self._env_id}: expected {self.observation_space}, "
                "or a batch of such"
            )
        try:
            if not extra:
                return self._observations.flatten(observation)[None], False
            rows = _unbatch(observation, self.observation_space)
            return np.stack([self._observations.flatten(row) for row in rows]), True
        except BadValue as error:
            raise UsageError(f"the observation does not fit {self._env_id}: {error}") from None

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """``[B, *action_shape]`` in the environment's units for ``actions[B, act_size]`` in [-1, 1]."""
        if len(actions) == 1:
            return self._actions.to_env(actions[0])[None]
        return np.stack([self._actions.to_env(action) for action in actions])


def _extra_axes(value: Any, space: spaces.Space[Any]) -> int | None:
    """How many axes the value has beyond the space's own; None if its structure is another."""
    try:
        if isinstance(space, spaces.Dict):
            key, inner = next(iter(space.spaces.items()))
            return _extra_axes(value[key], inner)
        if isinstance(space, spaces.Tuple):
            return _extra_axes(value[0], space.spaces[0])
        return np.ndim(value) - len(space.shape or ())
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _unbatch(value: Any, space: spaces.Space[Any]) -> list[Any]:
    if isinstance(space, spaces.Dict):
        parts = {key: _unbatch(value[key], inner) for key, inner in space.spaces.items()}
        return [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    if isinstance(space, spaces.Tuple):
        columns = [_unbatch(part, inner) for part, inner in zip(value, space.spaces, strict=True)]
        return list(zip(*columns, strict=True))
    return list(value)
