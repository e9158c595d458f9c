"""Milliseconds per update, beside the floor of the processor."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

from fewstep.algos import numerics
from fewstep.algos.contract import Algorithm
from fewstep.bench import floor
from fewstep.bench.machine import cores
from fewstep.errors import UsageError
from fewstep.types import Spec, Transition

TOGETHER = 6
"""Updates timed as one: a multiple of every preset's policy delay, so that each call does the same work."""


class Case(NamedTuple):
    """One algorithm at one size, ready to run.

    Attributes:
        algorithm, cfg: what is updated.
        spec: sizes of observation and action.
        batch: what it is updated on.
    """

    algorithm: Algorithm
    cfg: Any
    spec: Spec
    batch: Transition


def batch(spec: Spec, size: int, numbered: bool = False) -> Transition:
    """Transitions of numbers as networks like them, with their own numbers if ``numbered``."""
    rng = np.random.default_rng(0)
    obs, following = rng.normal(size=(2, size, spec.obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (size, spec.act_size)).astype(np.float32)
    reward, terminated = rng.normal(size=size).astype(np.float32), np.zeros(size, bool)
    number = np.arange(size, dtype=np.int32) if numbered else None
    return Transition(obs, action, reward, terminated, following, number)


def milliseconds(call: Callable[[], Any], repeats: int, calls: int = 1) -> dict[str, float]:
    """Of one call, ``calls`` of them timed together: by the clock, and the least processor time."""
    times: list[float] = []
    busy: list[float] = []
    for _ in range(repeats):
        start, used, found = time.perf_counter(), time.process_time(), None
        for _ in range(calls):
            found = call()
        jax.block_until_ready(found)
        times.append(1e3 * (time.perf_counter() - start) / calls)
        busy.append(1e3 * (time.process_time() - used) / calls)
    return {
        "median_ms": round(median(times), 3),
        "min_ms": round(min(times), 3),
        "cpu_ms": round(min(busy), 3),
    }


@numerics.own
def update_times(case: Case, repeats: int, peak: float) -> dict[str, float]:
    """Milliseconds per update, beside the floor at ``peak`` operations per second.

    ``ratio`` is of the fastest repeat to the floor, ``cpu_ratio`` of processor time spread over the cores.
    Both are missing where nobody has counted the operations.
    """
    state = case.algorithm.init(case.cfg, case.spec, jax.random.key(0))
    start = time.perf_counter()
    update = jax.jit(
        lambda s, b: case.algorithm.update(case.cfg, s, b),
        donate_argnums=0,
        compiler_options=numerics.compiler_options(),
    )
    compiled = update.lower(state, case.batch).compile()
    compile_seconds = time.perf_counter() - start

    def one() -> Any:
        nonlocal state
        state, metrics = compiled(state, case.batch)
        return metrics

    for _ in range(TOGETHER):
        one()
    result = milliseconds(one, repeats, TOGETHER)
    result |= {"compile_seconds": round(compile_seconds, 1)}
    memory = compiled.memory_analysis()
    if memory is not None:  # not every backend tells
        result |= {"temporaries_mb": round(memory.temp_size_in_bytes / 1e6, 2)}
    try:
        operations = floor.operations(case.cfg, case.spec, case.batch.reward.shape[0])
    except UsageError:  # no formula for this row: its time stands alone
        return result
    floor_ms = 1e3 * operations / peak
    return result | {
        "gflop": round(operations / 1e9, 3),
        "peak_gflop_per_second": round(peak / 1e9, 1),
        "floor_ms": round(floor_ms, 3),
        "ratio": round(result["min_ms"] / floor_ms, 2),
        "cpu_ratio": round(result["cpu_ms"] / cores() / floor_ms, 2),
    }


def require_replay(algorithm: Algorithm) -> None:
    """Raise a UsageError if the algorithm is not updated on batches of transitions."""
    if algorithm.rollout is not None:
        raise UsageError(f"{algorithm.name} learns once per rollout: a step of it has no update to time")
