"""N environments stepped one after another, reset only when told to.

There is no autoreset: the observation a step returns is always the true successor of that step, and the
caller resets the environments that have finished. They live in this process unless they are to be supervised
(``envs.process.supervised``); stepping in turn is deliberate: worker processes cost more than they give at
the speed of MuJoCo tasks on a few cores.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from fewstep import foreign
from fewstep.envs.adapter import Adapter, check_seed
from fewstep.envs.layers import repeated, time_limit
from fewstep.envs.process.supervised import Lost, Supervision, start
from fewstep.envs.registry import is_lent, name_of, resolve, several
from fewstep.envs.rendering import choose_backend
from fewstep.envs.toys import Toy, toy_of
from fewstep.errors import NonFiniteError, UsageError
from fewstep.foreign import brief
from fewstep.interrupts import at_once
from fewstep.types import EnvInfo, Spec

LONGEST_EPISODE = 10_000
"""Steps of an episode that nobody has limited, see ``VectorEnv.longest_episode``."""


class StepResult(NamedTuple):
    """What one step of N environments gave; the arrays belong to the caller.

    Attributes:
        obs: ``[N, obs_size]`` float32, the true successor of each step, also where the episode has ended.
        reward: ``[N]`` float32.
        terminated: ``[N]`` bool, a genuine terminal state was reached.
        truncated: ``[N]`` bool, the episode was cut off (a time limit). Both may be True at once.
        lost: ``[N]`` bool, the environment's process failed and was replaced: this step did not happen, its
            observation is the one before and its reward 0. ``truncated`` is True too.
        success: ``[N]`` float32, 1 or 0 where the environment says that the task has or has not succeeded,
            NaN where it says neither (``Adapter.step``).
    """

    obs: NDArray[np.float32]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    success: NDArray[np.float32]


class Single(Protocol):
    """One environment as flat vectors, in this process (``Adapter``) or another (``RemoteAdapter``)."""

    index: int
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    steps_per_second: float | None
    obs_size: int
    image: tuple[int, int, int] | None
    low: NDArray[Any]
    high: NDArray[Any]

    def reset(self, seed: int | None) -> NDArray[np.float32]: ...  # noqa: D102 (as in Adapter, all of them)
    def step(self, action: NDArray[Any]) -> tuple[NDArray[np.float32], float, bool, bool, float]: ...  # noqa: D102
    def where(self) -> str: ...  # noqa: D102
    def observation_name(self, index: int) -> str: ...  # noqa: D102
    def render(self) -> NDArray[np.uint8]: ...  # noqa: D102
    def close(self) -> str: ...  # noqa: D102


class VectorEnv:
    """N environments with equal spaces. Build it with ``make``.

    Attributes:
        env_id: what the environment is called in messages and run directories.
        spec: sizes of observation and action vectors.
        count: how many environments there are, N.
        observation_space, action_space: as the environment declares them.
        steps_per_second: of simulated time; None where the environment does not say.
        max_episode_steps: the time limit of an episode, None if the environment declares none.
        toy: what a toy environment tells about itself, None for every other environment.
    """

    def __init__(
        self,
        adapters: Sequence[Single],
        env_id: str,
        max_episode_steps: int | None,
        toy: Toy | None,
        watch: Supervision | None = None,
    ) -> None:
        first = adapters[0]
        for other in adapters[1:]:
            same = np.array_equal(other.low, first.low) and np.array_equal(other.high, first.high)
            if (other.obs_size, other.image) != (first.obs_size, first.image) or not same:
                raise UsageError(f"environment {other.index} of {env_id} has other spaces than environment 0")
        self._adapters = adapters
        self._open = adapters
        self._watch = watch
        self.env_id = env_id
        self.spec = Spec(first.obs_size, len(first.low), first.image)
        self.observation_space, self.action_space = first.observation_space, first.action_space
        self.steps_per_second = first.steps_per_second
        self.count = len(adapters)
        self.max_episode_steps = max_episode_steps
        self.toy = toy
        self._obs = np.zeros((self.count, self.spec.obs_size), np.float32)

    def longest_episode(self, asked: int | None = None) -> int:
        """Steps after which whoever plays an episode to its end should cut it: ``asked``, or 10,000, or the
        time limit where that is longer. An environment may never end one by itself."""
        return max(LONGEST_EPISODE, self.max_episode_steps or 0) if asked is None else asked

    @property
    def info(self) -> EnvInfo:
        """What a saved or exported policy keeps of the environment."""
        first = self._adapters[0]
        names = tuple(map(first.observation_name, range(first.obs_size)))
        low, high = (tuple(end.tolist()) for end in (first.low, first.high))
        shape = self.action_space.shape or ()
        rate, image = self.steps_per_second, first.image
        return EnvInfo(self.env_id, names, low, high, shape, rate=rate, image=image)

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
            reset = self._adapters[index].reset
            self._obs[index] = at_once(reset, None if seed is None else check_seed(seed))
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
        lost = np.zeros(self.count, np.bool_)
        success = np.full(self.count, np.nan, np.float32)
        finite = np.isfinite(actions)
        clipped = np.clip(actions, -1.0, 1.0)
        for index in self._selected(mask):
            adapter = self._adapters[index]
            if not finite[index].all():
                bad = int(np.flatnonzero(~finite[index])[0])
                raise NonFiniteError(f"action[{bad}] is {actions[index, bad]} for {adapter.where()}")
            try:
                moved = at_once(adapter.step, clipped[index])
                self._obs[index], reward[index], terminated[index], truncated[index], success[index] = moved
            except Lost:
                truncated[index] = lost[index] = True
        return StepResult(self._obs.copy(), reward, terminated, truncated, lost, success)

    def render(self, index: int = 0) -> NDArray[np.uint8]:
        """``[height, width, 3]`` picture of one environment, made with a ``render_mode``."""
        return self._adapters[index].render()

    def take_notes(self) -> list[str]:
        """Lines on processes that were replaced since the last call."""
        if self._watch is None:
            return []
        notes, self._watch.notes = self._watch.notes, []
        return notes

    def changes_returned_arrays(self, steps: int = 5) -> bool:
        """Whether an environment of this process writes into observations it has already returned.

        It is reset and takes ``steps`` random steps; a check, not for use in training.
        """
        return any(isinstance(one, Adapter) and one.changes_returned_arrays(steps) for one in self._adapters)

    def shares(self, other: "VectorEnv") -> bool:
        """Whether an environment of this process is in both: a function has returned it again."""
        ours, theirs = (
            {id(one.env.unwrapped) for one in vector._adapters if isinstance(one, Adapter)}
            for vector in (self, other)
        )
        return not ours.isdisjoint(theirs)

    def observation_name(self, index: int) -> str:
        """What entry ``index`` of a flat observation is called in the environment's own terms."""
        return self._adapters[0].observation_name(index)

    def close(self) -> None:
        """Release what all the environments hold, once, however often it is called.

        One that fails in it keeps no other from being closed and no work from being complete: it is told of
        (``foreign.tell``).
        """
        adapters, self._open = self._open, []
        problems = [problem for adapter in adapters if (problem := adapter.close())]
        if problems:
            others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            foreign.tell(f"{problems[0]}{others}; nothing is lost by it")

    def _selected(self, mask: NDArray[np.bool_] | None) -> Sequence[int]:
        if mask is None:
            return range(self.count)
        mask = np.asarray(mask)
        if mask.shape != (self.count,) or mask.dtype != np.bool_:
            raise UsageError(
                f"{self.env_id} needs a mask of {self.count} bools, got {mask.dtype} {mask.shape}"
            )
        return np.flatnonzero(mask).tolist()


Given = (
    str
    | gymnasium.Env[Any, Any]
    | Callable[[], gymnasium.Env[Any, Any]]
    | Sequence[gymnasium.Env[Any, Any] | Callable[[], gymnasium.Env[Any, Any]]]
    | gymnasium.vector.SyncVectorEnv
)
"""An environment's id, one itself, a function that builds one, or several of the latter two."""


def make(
    env: Given,
    count: int = 1,
    *,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    action_repeat: int = 1,
    watch: Supervision | None = None,
) -> VectorEnv:
    """Build ``count`` copies of an environment.

    Args:
        env: a Gymnasium id (``HalfCheetah-v4``), ``module:Id-v0`` for an environment that ``module``
            registers, ``toy/bandit`` or ``toy/multigoal``; a function of no arguments that returns a new
            environment at each call; an environment, which is used as it is and not closed; or a list or
            Gymnasium's ``SyncVectorEnv`` of these, the functions of which are called in turn.
        count: how many, at least 1.
        render_mode: Gymnasium's (``"rgb_array"`` for pictures); None never touches a display.
        max_episode_steps: replaces the time limit of an id, and adds one to what a function returns; it
            counts steps of the environment.
        action_repeat: steps of the environment that one step here is, with the same action, rewards summed.
        watch: puts the environments of an id into processes of their own that are watched (toys excepted:
            they cannot fail).

    Raises:
        UsageError: the id is unknown, or the environment cannot be built, has another time limit than was
            asked for, spaces fewstep cannot learn on, or a wrapper that keeps running statistics.
    """
    if count < 1:
        raise UsageError(f"the number of environments must be at least 1, got {count}")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UsageError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
    if action_repeat < 1:
        raise UsageError(f"action_repeat must be at least 1, got {action_repeat}")
    if watch is not None and not (isinstance(env, str) and render_mode is None):
        raise UsageError(
            "only an environment named by its id, and not drawn, can live in another process: an object or "
            "function cannot be sent there (module:Id-v0 names an environment of your own)"
        )
    choose_backend(render_mode)  # before the module is imported: MuJoCo's users ask at their import
    given = several(env)
    if is_lent(env) and count > len(given):
        raise UsageError(
            f"{count} environments are needed, {len(given)} given: give a list of so many, or a function "
            "that builds one"
        )
    builds = [resolve(one) for one in given]
    if watch is not None and isinstance(env, str) and not env.startswith("toy/"):
        remote = start(env, count, max_episode_steps, action_repeat, watch)
        return VectorEnv(remote, env, remote[0].time_limit, None, watch)
    built: list[gymnasium.Env[Any, Any]] = []
    try:
        for index in range(count):
            build = builds[index % len(builds)]
            try:
                built.append(repeated(build(render_mode, max_episode_steps), action_repeat))
            except UsageError as error:
                if built:
                    raise UsageError(f"{error} ({len(built)} of {count} could be)") from error
                raise
        (name, limit, toy), bases = foreign.call(
            lambda error: UsageError(f"{name_of(env)} is no usable environment: {brief(error)}"),
            lambda: (_about(env, built[0]), {id(one.unwrapped) for one in built}),
        )
        if len(bases) != len(built):
            built.clear()  # whoever keeps it may be using it: it is not ours to close
            raise UsageError(
                f"{name} was given, or built, as the same environment twice: each must be a new one"
            )
        adapters = [Adapter(one, name, index) for index, one in enumerate(built)]
        return VectorEnv(adapters, name, limit, toy)
    except BaseException:
        for half in built:
            foreign.close(half, "a half-built environment")
        raise


def _about(asked: Any, env: gymnasium.Env[Any, Any]) -> tuple[str, int | None, Toy | None]:
    """What it is called, its time limit, and what it tells as a toy."""
    name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    return asked if isinstance(asked, str) else name, time_limit(env), toy_of(env)
