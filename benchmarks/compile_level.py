"""What LLVM's optimisation level costs in compiling an update, and what it gives: processor time on a CPU.

    python -m benchmarks.compile_level [--repeats N]

All levels of an algorithm are timed in turn, in one process; every row goes into its results file.
"""

import argparse
import time
from functools import partial

import jax

from benchmarks import record
from fewstep.algos import registry
from fewstep.algos.numerics import LEVEL
from fewstep.bench.updates import batch
from fewstep.config import resolve
from fewstep.types import Spec

ROWS = ("sac", "td3", "crossq", "smfp", "mfpo")
LEVELS = (0, 1, 2, 3)


def measure(algo: str, repeats: int) -> None:
    """Per level: processor time to compile, and the least of ``repeats`` for one update."""
    algorithm, spec = registry.get(algo), Spec(17, 6)
    run = resolve(algo, algorithm.config, env="HalfCheetah-v4", preset="small")
    assert run.replay is not None
    state = jax.jit(partial(algorithm.init, run.algorithm, spec))(jax.random.key(0))
    data = batch(spec, run.replay.batch_size)
    lowered = jax.jit(partial(algorithm.update, run.algorithm)).lower(state, data)
    # Once before the clock runs: the first compilation also pays for what the process makes only once.
    lowered.compile(compiler_options={LEVEL: LEVELS[0]})
    compiled, seconds = {}, {}
    for level in LEVELS:
        began = time.process_time()
        compiled[level] = lowered.compile(compiler_options={LEVEL: level})
        seconds[level] = time.process_time() - began
    times: dict[int, list[float]] = {level: [] for level in LEVELS}
    for _ in range(repeats):
        for level in LEVELS:
            began = time.process_time()
            jax.block_until_ready(compiled[level](state, data))
            times[level].append(1e3 * (time.process_time() - began))
    result: dict[str, object] = {}
    for level in LEVELS:
        result[f"level {level}: compile_cpu_seconds"] = round(seconds[level], 2)
        result[f"level {level}: update_cpu_ms"] = round(min(times[level]), 2)
    record.update("compile_level", f"{algo} small", result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=100)
    repeats = parser.parse_args().repeats
    for algo in ROWS:
        measure(algo, repeats)


if __name__ == "__main__":
    main()
