"""Milliseconds per update and seed when several seeds learn in one dispatch (``fewstep train --seeds``).

    python -m benchmarks.seeds_speed
    python -m benchmarks.seeds_speed --only sac --seeds 1 2 4 8 16

"single" is the program of an ordinary run; the others hold S seeds. All programs of a row are timed in turn,
so that whatever else the machine does slows each of them alike; median and minimum of ``--repeats`` rounds.
"""

import argparse
import time
from collections.abc import Mapping
from statistics import median
from types import MappingProxyType

import jax
import numpy as np

from benchmarks import record
from benchmarks.update_speed import HALF_CHEETAH, SIZES
from fewstep import config
from fewstep.algos import numerics, registry
from fewstep.bench.updates import TOGETHER, batch
from fewstep.training import compiled, seeds
from fewstep.training.several import placement, stacked

ROWS = ["sac", "smfp", "mfpo"]


def program(
    algo: str, preset: str, count: int | None, overrides: Mapping[str, object] = MappingProxyType({})
):
    """A function that makes ``TOGETHER`` updates, one dispatch each as in training, of ``count`` seeds; where
    jax sees several devices, spread over them as in training."""
    algorithm, spec = registry.get(algo), SIZES[HALF_CHEETAH]
    run = config.resolve(algo, algorithm.config, env=HALF_CHEETAH, preset=preset, overrides=dict(overrides))
    data = jax.tree.map(lambda leaf: leaf[None], batch(spec, run.replay.batch_size))
    example = jax.tree.map(lambda leaf: leaf[0], data)
    init, update = compiled.init(algorithm, run.algorithm, spec), compiled.updates(algorithm, run.algorithm)
    states = [init(seeds.key(seed, seeds.Stream.ALGORITHM)) for seed in range(count or 1)]
    totals = [compiled.zero_totals(algorithm, run.algorithm, states[0], example) for _ in states]
    if count is None:
        held, update = (states[0], totals[0]), numerics.jit(update, donate_argnums=(0, 1))
    else:
        state, mesh = stacked.stack(states), placement.mesh_for(count)
        held = (
            placement.spread(state, mesh, stacked.specs(state)),
            placement.spread(stacked.stack(totals), mesh),
        )
        update = stacked.updates(update, mesh)
        data = placement.spread(jax.tree.map(lambda leaf: np.stack([leaf] * count), data), mesh)

    def call() -> None:
        nonlocal held
        for _ in range(TOGETHER):
            held = update(*held, data)
        jax.block_until_ready(held)

    return call


def measure(algo: str, preset: str, counts: list[int], repeats: int) -> None:
    calls = {"single": program(algo, preset, None)}
    calls |= {f"{count} seeds": program(algo, preset, count) for count in counts}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            of_each = TOGETHER * (1 if name == "single" else int(name.split()[0]))
            times[name].append(1e3 * (time.perf_counter() - start) / of_each)
    device = jax.devices()[0]
    result: dict[str, object] = {"device": f"{device.platform} {device.device_kind}"}
    for name, each in times.items():
        result[f"{name}: median_ms"] = round(median(each), 3)
        result[f"{name}: min_ms"] = round(min(each), 3)
    record.update("seeds_speed", f"{algo} {preset} {HALF_CHEETAH}", result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only algorithms whose name contains this text")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    for algo in ROWS:
        if arguments.only in algo:
            measure(algo, arguments.preset, arguments.seeds, arguments.repeats)


if __name__ == "__main__":
    main()
