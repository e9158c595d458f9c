"""How long training stands still for a checkpoint, what it costs beside it, and how much is written.

    python -m benchmarks.checkpoint_stall --held 100000 --every 10000
    python -m benchmarks.checkpoint_stall --held 1000000 --every 50000

A synthetic replay of Humanoid-v4's size (376 observations, 17 actions) holds ``--held`` transitions and a
state of 20 MB stands for networks and optimisers. Between saves ``--every`` transitions are added.
The first save writes everything; the others write what is new. "Stall" is the time a save keeps its caller,
"background" the time from there until the files are on disk. In the background a stand-in for training goes
on: it adds a transition, draws a batch of 256, multiplies matrices. "Longest step" is the worst of these in
all backgrounds, "slowdown" the mean time of one there over that when nothing is written.
"""

import argparse
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks import record
from fewstep.replay import ReplayBuffer
from fewstep.runs import checkpoint
from fewstep.runs.segments import Part, Rows
from fewstep.training.run.background import Background
from fewstep.types import Spec, Transition

SPEC = Spec(376, 17)


def transitions(count: int, random: np.random.Generator) -> Transition:
    obs = random.standard_normal((count, SPEC.obs_size), np.float32)
    action = random.uniform(-1, 1, (count, SPEC.act_size)).astype(np.float32)
    return Transition(obs, action, obs[:, 0].copy(), obs[:, 1] > 2, obs[::-1])


def on_disk(folder: Path) -> set[tuple[int, int]]:
    """Inode and size of every file: what a save has written shows as new inodes."""
    found = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
    return {(path.stat().st_ino, path.stat().st_size) for path in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--held", type=int, default=100_000, help="transitions in the replay")
    parser.add_argument("--every", type=int, default=10_000, help="transitions between checkpoints")
    parser.add_argument("--saves", type=int, default=5, help="saves measured after the first")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    ring = ReplayBuffer(arguments.held, SPEC, 0)
    stored: list[Part] = []
    state = {f"w{i}": random.standard_normal((1000, 500), np.float32) for i in range(10)}
    root = Path(tempfile.mkdtemp(dir=arguments.folder))
    background = Background()
    for _ in range(0, arguments.held, 10_000):
        ring.add(transitions(min(10_000, arguments.held), random))

    one, matrix = transitions(1, random), random.standard_normal((400, 400), np.float32)

    def step() -> float:
        began = time.perf_counter()
        ring.add(one)
        ring.sample(1, 256)
        np.dot(matrix, matrix)
        return time.perf_counter() - began

    def save() -> tuple[float, float, float, list[float]]:
        before, began = on_disk(root), time.perf_counter()
        rows = Rows(ring.added - len(ring), ring.added, ring.read, stored, hold=ring.hold)
        copied = {name: array.copy() for name, array in state.items()}
        write = checkpoint.prepare(root, ring.added, {"state": copied, "replay": rows}, {}, keep=2)
        writing = threading.Event()
        background.start(lambda: (write(), writing.set())[1])
        stalled, steps = time.perf_counter() - began, list[float]()
        while not writing.is_set() and not background.failed:
            steps.append(step())
        background.finish()
        done = time.perf_counter() - began
        return stalled * 1e3, done, sum(size for _, size in on_disk(root) - before) / 1e6, steps

    try:
        alone = [step() for _ in range(200)]
        stall, seconds, written, _ = save()
        result: dict[str, object] = {
            "replay_mb": round(ring.nbytes / 1e6),
            "first_written_mb": round(written),
            "first_stall_ms": round(stall),
            "first_seconds": round(seconds, 2),
        }
        rows: list[tuple[float, float, float, list[float]]] = []
        for _ in range(arguments.saves):
            ring.add(transitions(arguments.every, random))
            rows.append(save())
        stalls, backgrounds, sizes = (
            np.array(column) for column in zip(*(row[:3] for row in rows), strict=True)
        )
        beside = np.concatenate([row[3] for row in rows])
        alone += [step() for _ in range(200)]
        result |= {
            "written_mb": round(float(np.median(sizes)), 1),
            "stall_ms_median": round(float(np.median(stalls)), 1),
            "stall_ms_worst": round(float(stalls.max()), 1),
            "background_seconds": round(float(np.median(backgrounds)), 2),
            "longest_step_ms": round(float(beside.max()) * 1e3, 1),
            "longest_step_alone_ms": round(max(alone) * 1e3, 1),
            "slowdown": round(float(beside.mean() / np.mean(alone)), 2),
        }
        record.update("checkpoint_stall", f"{arguments.held} held, {arguments.every} new", result)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
