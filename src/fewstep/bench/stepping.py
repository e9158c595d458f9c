"""Environment steps per second: Gymnasium's own step beside fewstep's, which checks every value."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fewstep import envs, foreign
from fewstep.envs.registry import resolve
from fewstep.errors import FewstepError

ROUNDS = 5
"""A rate is the best of this many stretches: others use the machine, too."""


@dataclass(frozen=True)
class Rates:
    """Environment steps per second with uniformly random actions, resets included.

    Attributes:
        gymnasium: the environment as Gymnasium makes it.
        one: through fewstep's adapter.
        several: ``count`` environments, all of their steps counted.
    """

    gymnasium: float
    one: float
    several: float
    count: int


def measure(env: str, count: int = 4, seconds: float = 0.5) -> Rates:
    """Rates of one environment; each of the three takes ``ROUNDS`` stretches of ``seconds``.

    Raises:
        UsageError: the environment does not exist or cannot be used.
    """

    def failed(error: BaseException) -> FewstepError:
        return FewstepError(f"{env} raised {foreign.brief(error)} while it was timed")

    return Rates(
        foreign.call(failed, _raw, env, seconds), _ours(env, 1, seconds), _ours(env, count, seconds), count
    )


def best_rate(step: Callable[[], int], seconds: float) -> float:
    """Steps per second of the best stretch; ``step`` says how many each call has taken."""
    best = 0.0
    for _ in range(ROUNDS):
        taken, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            taken += step()
        best = max(best, taken / elapsed)
    return best


def _raw(env: str, seconds: float) -> float:
    made = resolve(env)(None, None)
    made.action_space.seed(0)
    made.reset(seed=0)

    def step() -> int:
        _, _, terminated, truncated, _ = made.step(made.action_space.sample())
        if terminated or truncated:
            made.reset()
        return 1

    rate = best_rate(step, seconds)
    made.close()
    return rate


def _ours(env: str, count: int, seconds: float) -> float:
    made = envs.make(env, count)
    made.reset(list(range(count)))
    rng = np.random.default_rng(0)

    def step() -> int:
        result = made.step(rng.uniform(-1, 1, (count, made.spec.act_size)).astype(np.float32))
        ended = result.terminated | result.truncated
        if ended.any():
            made.reset(mask=ended)
        return count

    rate = best_rate(step, seconds)
    made.close()
    return rate
