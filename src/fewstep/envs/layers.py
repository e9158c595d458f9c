"""The wrappers around an environment: time limits, action repeat, and those that make judging impossible."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from fewstep.errors import UsageError

Env = gymnasium.Env[Any, Any]
NOT_SAID = float("nan")
"""The success of a step that its environment says nothing about."""


def success_of(info: Any) -> float:
    """1 or 0 if ``info["success"]`` or ``["is_success"]`` says so by a bool or a number, else NaN."""
    for key in ("success", "is_success") if isinstance(info, dict) else ():
        value = info.get(key)
        if isinstance(value, bool | np.bool_ | int | float | np.number):
            return NOT_SAID if np.isnan(value) else float(bool(value))
    return NOT_SAID


class Lent(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that is its user's: ``close`` leaves it open."""

    def close(self) -> None:
        """Nothing: who made it closes it."""


class ActionRepeat(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One step is ``repeat`` of the environment's with one action, fewer where an episode ends.

    Rewards are summed. What else is given is that of the last of them, but a success of any stays one.
    """

    def __init__(self, env: Env, repeat: int) -> None:
        super().__init__(env)
        self.repeat = repeat
        frames = env.metadata.get("render_fps")
        if isinstance(frames, int | float):
            self.metadata = env.metadata | {"render_fps": frames / repeat}

    def step(self, action: Any) -> Any:
        """As the environment's; what it returns is checked by whoever asked."""
        result: Any = self.env.step(action)
        for _ in range(self.repeat - 1):
            if not (isinstance(result, tuple) and len(result) == 5) or result[2] or result[3]:
                return result
            _, reward, _, _, info = result
            result = self.env.step(action)
            if isinstance(result, tuple) and len(result) == 5:
                observation, more, terminated, truncated, last = result
                if success_of(info) == 1.0 and isinstance(last, dict):
                    last = last | {"success": True}
                result = observation, reward + more, terminated, truncated, last
        return result


def repeated(env: Env, repeat: int) -> Env:
    """``env``, each action ``repeat`` times."""
    return env if repeat == 1 else ActionRepeat(env, repeat)


def time_limit(env: Env) -> int | None:
    """The tightest limit any TimeLimit wrapper sets, in steps of ``env``; None without one."""
    limits: list[int] = []
    layer, repeat = env, 1
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, ActionRepeat):
            repeat *= layer.repeat
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            steps = int(layer._max_episode_steps)  # pyright: ignore[reportPrivateUsage]
            limits.append(-(-steps // repeat))
        layer = layer.env
    return min(limits) if limits else None


def require_limit(env: Env, env_id: str, asked: int | None) -> None:
    """Raise a UsageError if the time limit that was asked for is not the one that ``env`` now has."""
    actual = time_limit(env)
    if asked is not None and actual != asked:
        raise UsageError(
            f"max_episode_steps={asked} cannot be had: {env_id} has a TimeLimit of {actual} steps inside; "
            "ask for no more than that, or take the inner TimeLimit away"
        )


def refuse_running_statistics(env: Env, env_id: str) -> None:
    """Raise a UsageError if a layer of ``env`` scales by statistics of what it has seen.

    They belong to one instance and survive its resets. Another instance (evaluation, a resumed run) and a
    policy outside the environment would work with other numbers than were learned on, and nothing would show
    it. Frozen statistics (``update_running_mean`` False) are constants and pass.
    """
    for layer in _inside(env):
        if _has_running_statistics(layer) and getattr(layer, "update_running_mean", True):
            raise UsageError(
                f"{env_id} contains {type(layer).__name__}, whose running statistics evaluation, a resumed "
                "run and a saved or exported policy would not have: scale by constants "
                "(TransformObservation, TransformReward, or update_running_mean=False), or leave it "
                "out and have fewstep normalise: replay.normalise_obs=true, replay.reward=std (ppo does both)"
            )


def _has_running_statistics(layer: Any) -> bool:
    normalisers = (
        gymnasium.wrappers.NormalizeObservation,
        gymnasium.wrappers.NormalizeReward,
        gymnasium.wrappers.vector.NormalizeObservation,
        gymnasium.wrappers.vector.NormalizeReward,
    )
    # By its name: wrappers of many projects have a copy of this class.
    return isinstance(layer, normalisers) or any(
        type(value).__name__ == "RunningMeanStd" for value in vars(layer).values()
    )


def _inside(env: Env) -> Iterator[Any]:
    """``env`` and every environment that it holds, whether as a wrapper does or in some attribute."""
    kinds = (gymnasium.Env, gymnasium.vector.VectorEnv)
    waiting: list[Any] = [env]
    seen: set[int] = set()
    while waiting:
        layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        for value in list(vars(layer).values()):
            parts = value if isinstance(value, list | tuple) else (value,)
            waiting += [part for part in parts if isinstance(part, kinds)]
