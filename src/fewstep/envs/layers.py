"""The wrappers around an environment: the time limit they set, and those that make judging impossible."""

from collections.abc import Iterator
from typing import Any

import gymnasium

from fewstep.errors import UsageError

Env = gymnasium.Env[Any, Any]


def time_limit(env: Env) -> int | None:
    """The tightest limit any TimeLimit wrapper sets, None without one."""
    limits: list[int] = []
    layer = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            limits.append(int(layer._max_episode_steps))  # pyright: ignore[reportPrivateUsage]
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
                "out and train ppo, which normalises observations and rewards itself"
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
