"""Between an environment's own observations and actions and the flat vectors of policies."""

from typing import Any

import numpy as np

from fewstep.envs import VectorEnv
from fewstep.envs.spaces import ActionView, BadValue, ObservationView
from fewstep.errors import UsageError

ROUNDING = 1e-5
"""How far a recorded action may lie outside [-1, 1] once it is scaled: what float32 loses."""


def finite(name: str, values: Any) -> np.ndarray:
    """``values`` as float32.

    Raises:
        UsageError: they are no numbers, or not finite in float32; ``name`` is what the message calls them.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise UsageError(f"{name} are no numbers ({array.dtype})")
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        bad = np.argwhere(~np.isfinite(numbers))[0].tolist()
        raise UsageError(f"{name}{bad} is {array[tuple(bad)]}, not a finite number in float32")
    return numbers


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

    def flat_rows(self, observations: Any) -> np.ndarray:
        """``[B, obs_size]`` float32 rows of recorded observations: a batch of the space's own, or flat rows.

        Raises:
            UsageError: they are neither, or not finite.
        """
        if isinstance(observations, np.ndarray) and observations.ndim == 2:
            rows = observations
            if rows.shape[1] != self._observations.size:
                raise UsageError(
                    f"observations have {rows.shape[1]} numbers each, those of {self._env_id} "
                    f"{self._observations.size}"
                )
            return finite("observations", rows)
        rows, batched = self.flatten(observations)
        if not batched:
            raise UsageError("observations are a single one, not one per step and one more")
        return rows

    def from_env(self, actions: Any) -> np.ndarray:
        """``[B, act_size]`` float32 in [-1, 1] for recorded actions in the environment's units, flat or not.

        Raises:
            UsageError: they do not fit, are not finite, or lie outside the environment's bounds.
        """
        rows = finite("actions", actions)
        size = self._actions.size
        if rows.ndim < 1 or rows.size != len(rows) * size:
            raise UsageError(f"actions have shape {rows.shape}, those of {self._env_id} {size} numbers each")
        rows = rows.reshape(len(rows), size)
        unit = self._actions.from_env(rows)
        if not (np.abs(unit) <= 1.0 + ROUNDING).all():
            step, entry = (int(i) for i in np.argwhere(np.abs(unit) > 1.0 + ROUNDING)[0])
            low, high = self._actions.low[entry], self._actions.high[entry]
            raise UsageError(
                f"actions[{step}, {entry}] is {rows[step, entry]:g}, outside {self._env_id}'s bounds "
                f"[{low:g}, {high:g}]"
            )
        return np.clip(unit, -1.0, 1.0).astype(np.float32)

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """``[B, *action_shape]`` in the environment's units for ``actions[B, act_size]`` in [-1, 1]."""
        if len(actions) == 1:
            return self._actions.to_env(actions[0])[None]
        space = self.action_space
        made = [self._actions.to_env(action) for action in actions]
        return np.array(made, space.dtype).reshape(len(actions), *(space.shape or ()))
