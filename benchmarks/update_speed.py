"""Milliseconds per update of each preset, and time per action, at the sizes of the MuJoCo tasks.

    python -m benchmarks.update_speed                 # every row
    python -m benchmarks.update_speed --only authors

The state is donated as in training; the first calls (compilation, cold caches) are left out; the median and
the minimum of ``--repeats`` calls are given, because samples on a shared machine are now and then far too
slow.
"""

import argparse
import time
from statistics import median

import jax
import numpy as np

from benchmarks import record
from fewstep import config
from fewstep.algos import registry
from fewstep.algos.contract import ActionMode
from fewstep.types import Spec, Transition

SIZES = {"HalfCheetah-v4": Spec(17, 6), "Ant-v4": Spec(27, 8), "Humanoid-v4": Spec(376, 17)}
ROWS = [("authors", env) for env in SIZES] + [("default", "HalfCheetah-v4"), ("small", "HalfCheetah-v4")]


def batch(spec: Spec, size: int) -> Transition:
    rng = np.random.default_rng(0)
    obs, following = rng.normal(size=(2, size, spec.obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (size, spec.act_size)).astype(np.float32)
    return Transition(obs, action, rng.normal(size=size).astype(np.float32), np.zeros(size, bool), following)


def milliseconds(call, repeats: int) -> dict[str, float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - start))
    return {"median_ms": round(median(times), 3), "min_ms": round(min(times), 3)}


def measure(algo: str, preset: str, env: str, repeats: int) -> None:
    run = config.resolve(algo, registry.get(algo).config, env=env, preset=preset)
    record_, spec = registry.get(algo), SIZES[env]
    state = record_.init(run.algorithm, spec, jax.random.key(0))
    data = batch(spec, run.training.batch_size)
    update = jax.jit(lambda s, b: record_.update(run.algorithm, s, b), donate_argnums=0)
    start = time.perf_counter()
    state, _ = jax.block_until_ready(update(state, data))
    compile_seconds = time.perf_counter() - start

    def one():
        nonlocal state
        state, metrics = update(state, data)
        return metrics

    for _ in range(4):
        one()
    result = milliseconds(one, repeats)
    act = jax.jit(lambda p, o, k: record_.act(run.algorithm, p, o, k, ActionMode()))
    policy, key = record_.policy(state), jax.random.key(1)
    np.asarray(act(policy, data.obs[:1], key))
    acting = milliseconds(lambda: np.asarray(act(policy, data.obs[:1], key)), 10 * repeats)
    row = f"{algo} {preset} {env}"
    extra = {"act_median_ms": acting["median_ms"], "first_call_seconds": round(compile_seconds, 1)}
    record.update("update_speed", row, result | extra)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    for preset, env in ROWS:
        if arguments.only in f"mfpo {preset} {env}":
            measure("mfpo", preset, env, arguments.repeats)


if __name__ == "__main__":
    main()
