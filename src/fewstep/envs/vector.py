"""N environments stepped one after another in this process, reset only when told to.

There is no autoreset: the observation a step returns is always the true successor of that step, and the
caller resets the environments that have finished. Stepping in turn is deliberate; worker processes cost more
than they give at the speed of MuJoCo tasks on a few cores, and in one process an error can say exactly where
it happened.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from fewstep.envs.adapter import Adapter, check_seed
from fewstep.envs.registry import resolve
from fewstep.envs.rendering import render
from fewstep.envs.toys import Toy, toy_of
from fewstep.errors import NonFiniteError, UsageError
from fewstep.types import Spec


class StepResult(NamedTuple):
    """What one step of N environments gave; the arrays belong to the caller.

    Fields:
        obs: ``[N, obs_size]`` float32, the true successor of each step, also where the episode has ended.
        reward: ``[N]`` float32.
        terminated: ``[N]`` bool, a genuine terminal state was reached.
        truncated: ``[N]`` bool, the episode was cut off (a time limit). Both may be True at once.
    """

    obs: NDArray[np.float32]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


class VectorEnv:
    """N environments with equal spaces. Build it with ``make``.

    Fields:
        env_id: what the environment is called in messages and run directories.
        spec: sizes of observation and action vectors.
        count: N.
        max_episode_steps: the time limit of an episode, None if the environment declares none.
        toy: what a toy environment tells about itself, None for every other environment.
    """

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]], env_id: str) -> None:
        if not envs:
            raise UsageError("a vector environment needs at least one environment")
        if len({id(env) for env in envs}) != len(envs):
            raise UsageError(f"the function that builds {env_id} returned the same environment twice")
        self._adapters = [Adapter(env, env_id, index) for index, env in enumerate(envs)]
        first = self._adapters[0]
        for other in self._adapters[1:]:
            if other.observations.size != first.observations.size or not (
                np.array_equal(other.actions.low, first.actions.low)
                and np.array_equal(other.actions.high, first.actions.high)
            ):
                raise UsageError(f"environment {other.index} of {env_id} has other spaces than environment 0")
        self.env_id = env_id
        self.spec = Spec(first.observations.size, first.actions.size)
        self.count = len(envs)
        self.max_episode_steps = _time_limit(envs[0])
        self.toy: Toy | None = toy_of(envs[0])
        self._obs = np.zeros((self.count, self.spec.obs_size), np.float32)

    @property
    def obs(self) -> NDArray[np.float32]:
        """``[N, obs_size]`` copy of every environment's last observation (zeros before its first reset)."""
        return self._obs.copy()

    def reset(
        self, seeds: Sequence[int | None] | None = None, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Start new episodes where ``mask[N]`` is True (everywhere if None).

        ``seeds`` holds N entries; None (for all, or as an entry) continues that environment's own random
        stream. Entries of environments that are not reset are ignored. Returns ``[N, obs_size]``: first
        observations where reset, the last observation elsewhere (zeros if there has been none).
        """
        if seeds is not None and len(seeds) != self.count:
            raise UsageError(f"{self.env_id}: {len(seeds)} seeds were given for {self.count} environments")
        for index in self._selected(mask):
            seed = None if seeds is None else seeds[index]
            self._obs[index] = self._adapters[index].reset(None if seed is None else check_seed(seed))
        return self._obs.copy()

    def step(self, actions: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> StepResult:
        """Step the environments where ``mask[N]`` is True (all if None) with ``actions[N, act_size]``.

        Actions must be finite where they are used and are clipped to [-1, 1]. Environments left out keep
        their last observation and report reward 0 and both flags False. An environment whose episode has
        ended must be reset (or masked out) before its next step. If an environment fails, those before it
        have already been stepped.
        """
        if np.shape(actions) != (self.count, self.spec.act_size):
            raise UsageError(
                f"{self.env_id} needs actions of shape {(self.count, self.spec.act_size)}, "
                f"got {np.shape(actions)}"
            )
        reward = np.zeros(self.count, np.float32)
        terminated = np.zeros(self.count, np.bool_)
        truncated = np.zeros(self.count, np.bool_)
        finite = np.isfinite(actions)
        clipped = np.clip(actions, -1.0, 1.0)
        for index in self._selected(mask):
            adapter = self._adapters[index]
            if not finite[index].all():
                bad = int(np.flatnonzero(~finite[index])[0])
                raise NonFiniteError(f"action[{bad}] is {actions[index, bad]} for {adapter.where()}")
            self._obs[index], reward[index], terminated[index], truncated[index] = adapter.step(
                clipped[index]
            )
        return StepResult(self._obs.copy(), reward, terminated, truncated)

    def render(self, index: int = 0) -> NDArray[np.uint8]:
        """``[height, width, 3]`` picture of one environment, made with a ``render_mode``."""
        return render(self._adapters[index].env, self.env_id)

    def observation_name(self, index: int) -> str:
        """What entry ``index`` of a flat observation is called in the environment's own terms."""
        return self._adapters[0].observations.name(index)

    def close(self) -> None:
        """Release what the environments hold; may be called twice."""
        for adapter in self._adapters:
            adapter.env.close()

    def _selected(self, mask: NDArray[np.bool_] | None) -> Sequence[int]:
        if mask is None:
            return range(self.count)
        mask = np.asarray(mask)
        if mask.shape != (self.count,) or mask.dtype != np.bool_:
            raise UsageError(
                f"{self.env_id} needs a mask of {self.count} bools, got {mask.dtype} {mask.shape}"
            )
        return np.flatnonzero(mask).tolist()


def make(
    env: str | Callable[[], gymnasium.Env[Any, Any]],
    count: int = 1,
    *,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
) -> VectorEnv:
    """Build ``count`` copies of an environment.

    ``env`` is a Gymnasium id (``HalfCheetah-v4``), ``module:Id-v0`` for an environment that ``module``
    registers, ``toy/bandit`` or ``toy/multigoal``, or a function of no arguments that returns a new
    environment at each call. ``max_episode_steps`` replaces the time limit of an id, and adds one to what a
    function returns. ``render_mode`` is Gymnasium's (``"rgb_array"`` for pictures); None, the default, never
    touches a display.

    Raises UsageError for unknown ids, for environments that cannot be built and for spaces fewstep cannot
    learn on.
    """
    if count < 1:
        raise UsageError(f"the number of environments must be at least 1, got {count}")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UsageError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
    build = resolve(env)
    built: list[gymnasium.Env[Any, Any]] = []
    try:
        for _ in range(count):
            built.append(build(render_mode, max_episode_steps))
        return VectorEnv(built, env if isinstance(env, str) else _name_of(built[0]))
    except BaseException:
        for half in built:
            half.close()
        raise


def _name_of(env: gymnasium.Env[Any, Any]) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _time_limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """The tightest limit any TimeLimit wrapper sets, else what the environment declares."""
    limits: list[int] = []
    layer: gymnasium.Env[Any, Any] = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            limits.append(int(layer._max_episode_steps))  # pyright: ignore[reportPrivateUsage]
        layer = layer.env
    return min(limits) if limits else None
