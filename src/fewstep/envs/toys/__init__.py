"""Toy environments that show, in a minute, what a unimodal policy cannot do.

``toy/bandit`` has a known Boltzmann density with four unequal modes; ``toy/multigoal`` has four equivalent
goals. Both are registered with Gymnasium under these ids when this package is imported.
"""

from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from fewstep.envs.toys import bandit, multigoal


class Observed(Protocol):
    """Anything with the last observations of N environments (a ``VectorEnv``)."""

    @property
    def obs(self) -> NDArray[np.float32]:
        """``[N, obs_size]``."""
        ...


class Toy(Protocol):
    """What a toy tells about itself, so that probes and pictures need not know which toy it is.

    Attributes:
        name: ``"bandit"`` or ``"multigoal"``.
        probe_obs: ``[obs_size]`` float32, the observation at which the action distribution is worth a
        picture. goal_count: how many goals an episode can end in, 0 if the toy has none.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 (described above, as are the next two)
    @property
    def probe_obs(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def goal_count(self) -> int: ...  # noqa: D102

    def position(self, env: Observed) -> NDArray[np.float32] | None:
        """``[N, 2]`` where the point masses of ``env`` are now, None if the toy has no positions."""
        ...

    def goal_of(self, position: NDArray[Any]) -> NDArray[np.int64] | None:
        """``[...]`` index of the goal at ``position[..., 2]``, -1 for none; None if the toy has no goals."""
        ...


class _Bandit:
    name = "bandit"
    goal_count = 0

    @property
    def probe_obs(self) -> NDArray[np.float32]:
        return bandit.OBSERVATION.copy()

    def position(self, env: Observed) -> None:
        return None

    def goal_of(self, position: NDArray[Any]) -> None:
        return None


class _Multigoal:
    name = "multigoal"
    goal_count = len(multigoal.GOALS)

    @property
    def probe_obs(self) -> NDArray[np.float32]:
        return np.zeros(2, np.float32)

    def position(self, env: Observed) -> NDArray[np.float32]:
        return env.obs  # the observation is the position

    def goal_of(self, position: NDArray[Any]) -> NDArray[np.int64]:
        return multigoal.goal_of(position)


gymnasium.register(id="toy/bandit", entry_point="fewstep.envs.toys.bandit:BanditEnv")
gymnasium.register(
    id="toy/multigoal",
    entry_point="fewstep.envs.toys.multigoal:MultigoalEnv",
    max_episode_steps=multigoal.HORIZON,
)


def toy_of(env: gymnasium.Env[Any, Any]) -> Toy | None:
    """The probes of ``env`` if it is a toy, wrapped or not."""
    match env.unwrapped:
        case bandit.BanditEnv():
            return _Bandit()
        case multigoal.MultigoalEnv():
            return _Multigoal()
        case _:
            return None
