"""Seconds from the making of the trainer to the end of the first update, per algorithm.

    python -m benchmarks.start [ALGO ...] [--preset small] [--warm N]

Each start is a process of its own (``fewstep bench train``): one with an empty compilation cache (cold), then
``--warm`` that find what it compiled, of which the fastest counts. Python's imports (under a second) come
before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import record
from fewstep.algos import registry


def seconds(algo: str, preset: str, cache: Path) -> float:
    """One start, with jax's compilation cache in the folder ``cache``."""
    out = cache / "row.json"
    command = [sys.executable, "-m", "fewstep", "bench", "train", algo, "--preset", preset]
    command += ["--env", "HalfCheetah-v4", "--repeats", "1", "--json", str(out)]
    where = {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | where)
    (row,) = json.loads(out.read_text())["rows"]
    return row["start_s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "algos", nargs="*", metavar="ALGO", help="default: all that learn from a replay buffer"
    )
    parser.add_argument("--preset", default="small")
    parser.add_argument("--warm", type=int, default=2)
    chosen = parser.parse_args()
    replaying = [name for name in registry.BUILT_IN if registry.get(name).rollout is None]
    for algo in chosen.algos or replaying:
        with tempfile.TemporaryDirectory() as folder:
            cold, *warm = (seconds(algo, chosen.preset, Path(folder)) for _ in range(1 + chosen.warm))
        record.update("start", f"{algo} {chosen.preset}", {"cold_s": cold, "warm_s": min(warm)})


if __name__ == "__main__":
    main()
