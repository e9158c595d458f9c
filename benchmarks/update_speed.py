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
    """Of one call, ``calls`` of them timed together."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            found = call()
        jax.block_until_ready(found)
        times.append(1e3 * (time.perf_counter() - start) / calls)
    return {"median_ms": round(median(times), 3), "min_ms": round(min(times), 3)}


def row_name(algo: str, preset: str, env: str, settings: dict[str, object]) -> str:
    return " ".join([algo, preset, env, *(f"{key}={value}" for key, value in settings.items())])


def measure(algo: str, preset: str, env: str, settings: dict[str, object], repeats: int) -> None:
    run = config.resolve(algo, registry.get(algo).config, env=env, preset=preset, overrides=settings)
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

    for _ in range(TOGETHER):
        one()
    result = milliseconds(one, repeats, TOGETHER)
    policy, key = record_.policy(state), jax.random.key(1)
    for name, mode in (("sample", ActionMode()), ("native", record_.native(run.algorithm))):
        act = jax.jit(lambda p, o, k, mode=mode: record_.act(run.algorithm, p, o, k, mode))
        np.asarray(act(policy, data.obs[:1], key))
        acting = milliseconds(lambda act=act: np.asarray(act(policy, data.obs[:1], key)), 10 * repeats)
        result[f"act_{name}_median_ms"] = acting["median_ms"]
    extra = {"first_call_seconds": round(compile_seconds, 1)}
    record.update("update_speed", row_name(algo, preset, env, settings), result | extra)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    for row in ROWS:
        if arguments.only in row_name(*row):
            measure(*row, arguments.repeats)


if __name__ == "__main__":
    main()
