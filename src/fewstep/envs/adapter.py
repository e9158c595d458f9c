"""One Gymnasium environment seen through flat float32 vectors, every value checked before it is believed."""

from numbers import Real
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from fewstep import foreign
from fewstep.envs.layers import success_of
from fewstep.envs.messages import kind
from fewstep.envs.place import Place
from fewstep.envs.rendering import explain, render
from fewstep.envs.spaces import ORDINARY, ActionView, BadValue, FloatVector, ObservationView
from fewstep.errors import FewstepError, NonFiniteError, UsageError
from fewstep.foreign import brief

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class Adapter:
    """Wraps one environment.

    Attributes:
        env: the wrapped environment.
        index: how messages call it.
        observations, actions: the flat views of its spaces.
        observation_space, action_space: its own.
        steps_per_second: of simulated time; None where it does not say.
        running: True between a reset and the end of the episode.
        obs_size, image: numbers in a flat observation; ``Spec.image``.
        low, high: the bounds of the environment's own actions.

    Raises UsageError for spaces that fewstep cannot learn on. Later every fault of the environment (an
    exception, a wrong shape, a non-number) is a FewstepError or NonFiniteError of one line that says what,
    where and when. ``close`` must have been called where the constructor has raised, too.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], env_id: str, index: int) -> None:
        def failed(error: BaseException) -> UsageError:
            return UsageError(f"the spaces of {env_id} cannot be read: {brief(error)}")

        self.env = env
        self.index = index
        self.observation_space, self.action_space, self.steps_per_second = foreign.call(
            failed, lambda: (env.observation_space, env.action_space, _steps_per_second(env))
        )
        self.observations = foreign.call(failed, ObservationView, self.observation_space, env_id)
        self.actions = foreign.call(failed, ActionView, self.action_space, env_id)
        self.obs_size, self.image = self.observations.size, self.observations.image
        self.low, self.high = self.actions.low, self.actions.high
        self.running = False
        self._place = Place(env_id, index)

    @ORDINARY
    def reset(self, seed: int | None) -> FloatVector:
        """Start an episode: from ``seed``, or (None) further along the environment's own random stream."""
        self.running = False
        self._place.reset(seed)
        result = foreign.call(lambda error: self._raised("reset", error), self._reset, seed)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise FewstepError(f"reset returned {kind(result)}, not (observation, info), in {self.where()}")
        observation = self._flatten(result[0])
        self.running = True
        return observation

    @ORDINARY
    def step(self, action: NDArray[Any]) -> tuple[FloatVector, float, bool, bool, float]:
        """Take ``action[act_size]``, finite and in [-1, 1]: observation, reward, terminated, truncated, and
        whether the task succeeded: 1 or 0 by ``info["success"]`` or ``["is_success"]``, else NaN."""
        if not self.running:
            raise FewstepError(f"step was called outside an episode; reset first, in {self.where()}")
        self.running = False  # until this step has proved sound
        self._place.step()
        scaled = self.actions.to_env(action)
        result: Any = foreign.call(
            lambda error: self._raised("step", error, scaled), self.env.step, scaled
        )  # whatever its annotation promises
        if not (isinstance(result, tuple) and len(result) == 5):
            raise FewstepError(
                f"step returned {kind(result)}, not (observation, reward, terminated, truncated, info), "
                f"in {self.where()}"
            )
        observation = self._flatten(result[0])
        reward = self._reward(result[1])
        terminated = self._flag("terminated", result[2])
        truncated = self._flag("truncated", result[3])
        self.running = not (terminated or truncated)
        return observation, reward, terminated, truncated, success_of(result[4])

    def _reset(self, seed: int | None) -> Any:
        result = self.env.reset(seed=seed)
        if seed is not None:
            self.env.action_space.seed(seed)
        return result

    def _raised(self, what: str, error: BaseException, action: NDArray[Any] | None = None) -> FewstepError:
        message = f"{what} raised {explain(error)} in {self.where()}"
        if action is not None:
            last = np.array2string(action.ravel(), precision=4, threshold=12, max_line_width=10_000)
            message += f", action {last}"
        return FewstepError(message)

    def where(self) -> str:
        """Which environment, when, and how to get there again."""
        return str(self._place)

    def changes_returned_arrays(self, steps: int) -> bool:
        """Whether a step writes into the observation that the one before returned (tried from a reset)."""
        self.running = False
        value: Any = foreign.call(lambda error: self._raised("reset", error), self._reset, None)[0]
        still = self.actions.to_env(np.zeros(self.actions.size))
        for _ in range(steps):
            before = self._flatten(value)
            value_then = value
            result = foreign.call(lambda error: self._raised("step", error, still), self.env.step, still)
            if not np.array_equal(before, self._flatten(value_then)):
                return True
            if result[2] or result[3]:
                break
            value = result[0]
        return False

    def observation_name(self, index: int) -> str:
        """What entry ``index`` of the flat observation is called in the environment's own terms."""
        return self.observations.name(index)

    def render(self) -> NDArray[np.uint8]:
        """``[height, width, 3]`` picture of an environment made with a ``render_mode``."""
        return render(self.env, self._place.env_id)

    def close(self) -> str:
        """Release what the environment holds; gives what went wrong, nothing if nothing did."""
        return foreign.close(self.env, self.where())

    def _flatten(self, observation: Any) -> FloatVector:
        plain = self.observations.plain(observation)
        if plain is not None:
            return plain
        return foreign.call(self._unreadable, self.observations.flatten, observation)

    def _unreadable(self, error: BaseException) -> FewstepError:
        if not isinstance(error, BadValue):  # the values are the user's objects and may do anything, too
            return FewstepError(f"the observation cannot be read, {brief(error)}, in {self.where()}")
        return (NonFiniteError if error.non_finite else FewstepError)(f"{error} in {self.where()}")

    def _reward(self, reward: Any) -> float:
        if isinstance(reward, np.bool_ | bool) or not isinstance(reward, Real):
            raise FewstepError(
                f"reward is {kind(reward)}, not a number, in {self.where()}; return float(reward)"
            )
        if isinstance(reward, float | int | np.floating):  # nearly always
            value = float(reward)
        else:
            value = foreign.call(lambda error: self._raised("float(reward)", error), float, reward)
        if not -_FLOAT32_MAX <= value <= _FLOAT32_MAX:  # false for NaN too
            overflow = " in float32" if np.isfinite(value) else ""
            raise NonFiniteError(f"reward is {value}{overflow}, not a finite number, in {self.where()}")
        return value

    def _flag(self, name: str, flag: Any) -> bool:
        if not isinstance(flag, np.bool_ | bool):
            raise FewstepError(f"{name} is {kind(flag)}, not a bool, in {self.where()}; return bool({name})")
        return bool(flag)


def _steps_per_second(env: gymnasium.Env[Any, Any]) -> float | None:
    declared = env.metadata.get("render_fps")
    return float(declared) if isinstance(declared, int | float) and declared > 0 else None


def check_seed(seed: Any) -> int:
    """``seed`` as a Python int. Raises UsageError unless it is a non-negative integer."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"a seed must be a non-negative integer, got {seed!r}")
    return int(seed)
