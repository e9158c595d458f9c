"""Milliseconds per update of each preset, and time per action, at the sizes of the MuJoCo tasks.

    python -m benchmarks.update_speed                 # every row
    python -m benchmarks.update_speed --only authors

The state is donated as in training; the first calls (compilation, cold caches) are left out; the median and
the minimum of ``--repeats`` calls are given, because samples on a shared machine are now and then far too
slow. Beside them the floor (``benchmarks.floor``) and the ratio of the fastest call to it.
"""

import argparse
import time
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import record
from fewstep import config
from fewstep.algos import registry
from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.errors import UsageError
from fewstep.speed import floor, peak
from fewstep.types import Spec, Transition

SIZES = {"HalfCheetah-v4": Spec(17, 6), "Ant-v4": Spec(27, 8), "Humanoid-v4": Spec(376, 17)}
HALF_CHEETAH = "HalfCheetah-v4"
ROWS: list[tuple[str, str, str, dict[str, object]]] = [
    *(("mfpo", "authors", env, {}) for env in SIZES),
    ("mfpo", "default", HALF_CHEETAH, {}),
    ("mfpo", "small", HALF_CHEETAH, {}),
    ("smfp", "small", HALF_CHEETAH, {}),
    # The semi-implicit entropy in place of the hinge: fresh components, then components shared by 8 samples.
    ("smfp", "small", HALF_CHEETAH, {"entropy.kind": "semi_implicit", "entropy.components": 7}),
    ("smfp", "soft", HALF_CHEETAH, {}),
    ("smfp", "mujoco", HALF_CHEETAH, {}),
    ("sac", "small", HALF_CHEETAH, {}),
    ("sac", "crossq-critic", HALF_CHEETAH, {}),
]
"""Algorithm, preset, sizes of which task, and settings on top."""
TOGETHER = 6
"""Updates timed as one: a multiple of every preset's policy delay, so that each call does the same work."""


def batch(spec: Spec, size: int) -> Transition:
    rng = np.random.default_rng(0)
    obs, following = rng.normal(size=(2, size, spec.obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (size, spec.act_size)).astype(np.float32)
    return Transition(obs, action, rng.normal(size=size).astype(np.float32), np.zeros(size, bool), following)


def milliseconds(call, repeats: int, calls: int = 1) -> dict[str, float]:
    """Of one call, ``calls`` of them timed together: by the clock, and the least processor time."""
    times, busy = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
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


def row_name(algo: str, preset: str, env: str, settings: dict[str, object]) -> str:
    return " ".join([algo, preset, env, *(f"{key}={value}" for key, value in settings.items())])


class Case(NamedTuple):
    """One row, ready to run."""

    algorithm: Algorithm
    cfg: Any
    spec: Spec
    batch: Transition


def prepare(algo: str, preset: str, env: str, settings: dict[str, object]) -> Case:
    run = config.resolve(algo, registry.get(algo).config, env=env, preset=preset, overrides=settings)
    spec = SIZES[env]
    return Case(registry.get(algo), run.algorithm, spec, batch(spec, run.training.batch_size))


def update_times(case: Case, repeats: int, peak_rate: float) -> dict[str, float]:
    """Milliseconds per update, beside the floor at this many operations per second.

    ``ratio`` is of the fastest repeat to the floor, ``cpu_ratio`` of processor time spread over the cores.
    """
    state = case.algorithm.init(case.cfg, case.spec, jax.random.key(0))
    start = time.perf_counter()
    update = jax.jit(lambda s, b: case.algorithm.update(case.cfg, s, b), donate_argnums=0)
    compiled = update.lower(state, case.batch).compile()
    compile_seconds = time.perf_counter() - start

    def one():
        nonlocal state
        state, metrics = compiled(state, case.batch)
        return metrics

    for _ in range(TOGETHER):
        one()
    result = milliseconds(one, repeats, TOGETHER)
    result |= {"compile_seconds": round(compile_seconds, 1)}
    result |= {"temporaries_mb": round(compiled.memory_analysis().temp_size_in_bytes / 1e6, 2)}
    try:
        operations = floor.operations(case.cfg, case.spec, case.batch.reward.shape[0])
    except UsageError:  # no formula for this row: its time stands alone
        return result
    floor_ms = 1e3 * operations / peak_rate
    cores = record.machine()["cores_used"]
    return result | {
        "gflop": round(operations / 1e9, 3),
        "peak_gflop_per_second": round(peak_rate / 1e9, 1),
        "floor_ms": round(floor_ms, 3),
        "ratio": round(result["min_ms"] / floor_ms, 2),
        "cpu_ratio": round(result["cpu_ms"] / cores / floor_ms, 2),
    }


def act_times(case: Case, repeats: int) -> dict[str, float]:
    """Median milliseconds per action of one observation, host round trip included."""
    state = case.algorithm.init(case.cfg, case.spec, jax.random.key(0))
    policy, key = case.algorithm.policy(state), jax.random.key(1)
    found = {}
    for name, mode in (("sample", ActionMode()), ("native", case.algorithm.native(case.cfg))):
        act = jax.jit(lambda p, o, k, mode=mode: case.algorithm.act(case.cfg, p, o, k, mode))
        np.asarray(act(policy, case.batch.obs[:1], key))
        acting = milliseconds(lambda act=act: np.asarray(act(policy, case.batch.obs[:1], key)), repeats)
        found[f"act_{name}_median_ms"] = acting["median_ms"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    for row in ROWS:
        if arguments.only in row_name(*row):
            case = prepare(*row)
            found = update_times(case, arguments.repeats, peak.gemm_peak())
            record.update("update_speed", row_name(*row), found | act_times(case, 10 * arguments.repeats))


if __name__ == "__main__":
    main()
