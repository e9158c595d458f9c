"""Resident memory of a million Humanoid transitions in replay, and what drawing a batch from them costs.

    python -m benchmarks.memory                    # Humanoid-v4's sizes, 1,000,000 transitions
    python -m benchmarks.memory --held 200000

The buffer is filled to the last row, because an operating system only counts pages that were written to.
"""

import argparse
import time

import numpy as np

from benchmarks import record
from benchmarks.update_speed import SIZES
from fewstep.replay.buffer import ReplayBuffer
from fewstep.types import Transition

CHUNK = 10_000


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--held", type=int, default=1_000_000)
    parser.add_argument("--env", default="Humanoid-v4", choices=list(SIZES))
    chosen = parser.parse_args()
    spec = SIZES[chosen.env]
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(CHUNK, spec.obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (CHUNK, spec.act_size)).astype(np.float32)
    rows = Transition(obs, action, obs[:, 0], np.zeros(CHUNK, bool), obs)
    before = resident()
    replay = ReplayBuffer(chosen.held, spec, seed=0)
    for start in range(0, chosen.held, CHUNK):
        replay.add(Transition(*(field[: chosen.held - start] for field in rows if field is not None)))
    held = resident() - before
    times: list[float] = []
    for _ in range(200):
        start = time.perf_counter()
        replay.sample(1, 256)
        times.append(time.perf_counter() - start)
    result = {
        "transitions": chosen.held,
        "resident_gb": round(held / 1e9, 3),
        "bytes_per_transition": round(held / chosen.held, 1),
        "sample_256_us": round(1e6 * float(np.median(times)), 1),
    }
    record.update("memory", f"{chosen.env} replay", result)


if __name__ == "__main__":
    main()
