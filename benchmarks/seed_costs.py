"""Milliseconds per update and seed of SAC, SMFP and MFPO with every critic, beside two floors.

    python -m benchmarks.seed_costs
    python -m benchmarks.seed_costs --only "sac own" --seeds 1 16
    python -m benchmarks.seed_costs --out DIR --seconds 300   # what is missing there, as far as time allows

Sizes of the papers (presets ``default``, ``mujoco``, ``authors``) on HalfCheetah-v4; "own" is the critic of
the preset. S seeds are one dispatch, as in ``fewstep train --seeds``. ``arithmetic_ms`` is the time of the
counted operations (``fewstep.bench.floor``) at the rate of the best matrix product; ``bandwidth_ms`` that of
reading and writing the whole state and reading the batch once, at the rate of a copy (an update that leaves
the policy out moves less). Both rates are measured in the same process, and both times are of one device for
all seeds. ``compile_seconds`` is the time to the end of the first ``TOGETHER`` updates: the states of all
seeds, one after the other, compilation, and these updates. A row that is there already is not measured again.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import jax

from benchmarks import record
from benchmarks.seeds_speed import program
from benchmarks.update_speed import HALF_CHEETAH, SIZES
from fewstep import config
from fewstep.algos import registry
from fewstep.bench import floor, peak
from fewstep.bench.updates import TOGETHER, batch
from fewstep.training.several import placement

PRESETS = {"sac": "default", "smfp": "mujoco", "mfpo": "authors"}
NAMES = ("trunk", "head", "target", "hidden")
CRITICS: dict[str, dict[str, Any]] = {
    "own": {},
    **{
        values[0]: {f"critic.{name}": value for name, value in zip(NAMES, values, strict=True)}
        for values in (
            ("mlp", "scalar", "polyak", (256, 256)),
            ("layernorm", "categorical", "polyak", (256, 256, 256)),
            ("crossq", "scalar", "none", (2048, 2048)),
            ("xqc", "categorical", "polyak", (512, 512, 512, 512)),
            ("flash", "categorical", "polyak", (256, 256)),
        )
    },
}
"""Each trunk with the head, the target rule and the width of its paper (SAC, MFPO, CrossQ, XQC, FlashSAC)."""
SEEDS = (1, 4, 16)


def rows(only: str, seeds: list[int]) -> list[tuple[str, str, int]]:
    """Algorithm, critic and number of seeds, the algorithms' own critics first."""
    found = [(algo, critic, count) for critic in CRITICS for algo in PRESETS for count in seeds]
    return [row for row in found if only in name(*row)]


def name(algo: str, critic: str, count: int) -> str:
    return f"{algo} {critic} {count} seeds"


def floors(algo: str, critic: str, tiny: bool) -> tuple[float, int]:
    """Operations and bytes of one seed's update."""
    algorithm, spec = registry.get(algo), SIZES[HALF_CHEETAH]
    run = config.resolve(
        algo, algorithm.config, HALF_CHEETAH, preset=PRESETS[algo], overrides=settings(algo, critic, tiny)
    )
    state = jax.eval_shape(lambda: algorithm.init(run.algorithm, spec, jax.random.key(0)))
    size = run.replay.batch_size
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    read = sum(leaf.nbytes for leaf in jax.tree.leaves(batch(spec, size, algorithm.numbered)))
    return floor.operations(run.algorithm, spec, size), 2 * held + read


def settings(algo: str, critic: str, tiny: bool) -> dict[str, Any]:
    """What is laid over the preset; ``tiny`` is the smallest networks, to try this file."""
    return CRITICS[critic] | (dict(registry.get(algo).tiny) if tiny else {})


def measure(algo: str, critic: str, count: int, repeats: int, peaks: tuple[float, float], tiny: bool):
    """One row."""
    start = time.perf_counter()
    call = program(algo, PRESETS[algo], count, settings(algo, critic, tiny))
    call()
    compiled = time.perf_counter() - start
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start) / TOGETHER)
    operations, read = floors(algo, critic, tiny)
    least = 1e3 * count * operations / peaks[0], 1e3 * count * read / peaks[1]
    device = jax.devices()[0]
    return {
        "device": f"{device.platform} {device.device_kind}",
        "devices": placement.devices_for(count, jax.local_device_count()),
        "median_ms": round(median(times), 4),
        "min_ms": round(min(times), 4),
        "per_seed_ms": round(min(times) / count, 4),
        "arithmetic_ms": round(least[0], 5),
        "bandwidth_ms": round(least[1], 5),
        "times_floor": round(min(times) / max(least), 2),
        "peak_gflop_per_second": round(peaks[0] / 1e9),
        "copy_gb_per_second": round(peaks[1] / 1e9),
        "compile_seconds": round(compiled, 1),
    }


def missing(folder: Path, wanted: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """The rows that the folder's file does not have."""
    path = folder / "seed_costs.json"
    there = json.loads(path.read_text()) if path.exists() else {}
    return [row for row in wanted if name(*row) not in there]


def parser() -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("--only", default="", help="run only rows whose name contains this text")
    own.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    own.add_argument("--repeats", type=int, default=20)
    own.add_argument("--out", type=Path, default=record.FOLDER, help="folder of the results")
    own.add_argument("--seconds", type=float, default=float("inf"), help="begin no row after so many")
    own.add_argument("--tiny", action="store_true", help="the smallest networks, to try this file")
    return own


def main() -> None:
    own = parser()
    arguments = own.parse_args()
    # The rows have the names of the full ones, which would then count as measured.
    if arguments.tiny and arguments.out.resolve() == record.FOLDER.resolve():
        own.error("--tiny needs --out, another folder than that of the results")
    end = time.monotonic() + arguments.seconds
    left = missing(arguments.out, rows(arguments.only, arguments.seeds))
    peaks = (peak.gemm_peak(), peak.copy_rate()) if left else (0.0, 0.0)
    for row in left:
        if time.monotonic() > end:
            break
        found = measure(*row, arguments.repeats, peaks, arguments.tiny)
        record.update("seed_costs", name(*row), found, arguments.out)


if __name__ == "__main__":
    main()
