"""Kill a run at random instants, again and again; or let it run for long and watch its memory and files.

    python -m benchmarks.soak kills --kills 50
    python -m benchmarks.soak flat --minutes 30

``kills`` trains the tests' tiny algorithm on Humanoid-v4 with a checkpoint every ten steps, small replay
segments and a ring that goes round. Each life ends with SIGKILL at a random instant; afterwards the run is
finished and compared, file by file and bit by bit, with one that was never disturbed. ``flat`` trains SAC on
Pendulum-v1 and reads resident memory and open files of the process from /proc.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record
from fewstep.runs import checkpoint

KILLED = ["tests.faults.small_segments:ALGORITHM", "Humanoid-v4", "--set", "training.batch_size=8"]
KILLED += ["training.learning_starts=20", "training.log_every=10", "training.eval_every=0"]
KILLED += ["training.checkpoint_every=10", "training.replay_capacity=1000", "training.keep_checkpoints=2"]
FLAT = ["sac", "Pendulum-v1", "--set", "training.learning_starts=500", "training.checkpoint_every=500"]
FLAT += ["training.replay_capacity=5000", "training.eval_every=1000", "training.eval_episodes=2"]
FLAT += ["actor.hidden=32,32", "critic.hidden=32,32", "training.log_every=200"]


def begin(*words: object) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    command = [sys.executable, "-m", "fewstep", *map(str, words), "--quiet"]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL)


def fingerprint(run: Path) -> str:
    """Hash of everything the run's newest checkpoint holds, and of its rows without the clock."""
    saved = checkpoint.load_newest(run / "checkpoints", warn=lambda text: sys.exit(text))
    assert saved is not None
    digest = hashlib.sha256()
    for group in sorted(saved.groups):
        for name in sorted(saved.groups[group]):
            digest.update(f"{group}/{name}".encode() + saved.groups[group][name].tobytes())
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = {name: value for name, value in json.loads(line).items() if not name.startswith("wall_")}
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def kills(count: int, folder: Path) -> dict[str, object]:
    chance = random.Random(0)
    run, whole = folder / "run", folder / "whole"
    running = begin("train", *KILLED, "--steps", 10**6, "--out", run)
    damaged, lives, reached, lost = 0, 0, 0, []
    for _ in range(count):
        while not (run / "config.toml").exists():
            time.sleep(0.1)
        before = reached
        deadline = time.monotonic() + 120
        while (checkpoint.newest_step(run / "checkpoints") or 0) <= before and time.monotonic() < deadline:
            time.sleep(0.05)  # each life saves something, so that the run gets on
        time.sleep(chance.uniform(0, 2))
        running.send_signal(signal.SIGKILL)
        running.wait()
        lives += 1
        rows = (run / "metrics.jsonl").read_text().splitlines()
        heard: list[str] = []
        saved = checkpoint.load_newest(run / "checkpoints", heard.append)
        assert saved is not None
        damaged += len(heard)
        reached = saved.env_steps
        logged = max((json.loads(row)["env_steps"] for row in rows[:-1]), default=0)
        lost.append(max(0, logged - reached))
        running = begin("resume", run)
    running.send_signal(signal.SIGKILL)
    running.wait()
    total = (checkpoint.newest_step(run / "checkpoints") or 0) + 20
    assert begin("resume", run, "--steps", total).wait() == 0
    assert begin("train", *KILLED, "--steps", total, "--out", whole).wait() == 0
    same = fingerprint(run) == fingerprint(whole)
    left = {str(path.relative_to(run)) for path in (run / "checkpoints").rglob("*")}
    left ^= {str(path.relative_to(whole)) for path in (whole / "checkpoints").rglob("*")}
    return {
        "kills": lives,
        "damaged_checkpoints": damaged,
        "most_logged_steps_lost": max(lost),
        "final_steps": total,
        "same_final_hash": same,
        "files_left_over": len(left),
    }


def flat(minutes: float, folder: Path) -> dict[str, object]:
    running = begin("train", *FLAT, "--steps", 10**8, "--out", folder / "run")
    began, samples = time.monotonic(), []
    while time.monotonic() - began < minutes * 60 and running.poll() is None:
        time.sleep(5)
        resident = int(Path(f"/proc/{running.pid}/statm").read_text().split()[1])
        files = len(os.listdir(f"/proc/{running.pid}/fd"))
        samples.append((time.monotonic() - began, resident * os.sysconf("SC_PAGE_SIZE") / 1e6, files))
    running.send_signal(signal.SIGINT)
    status = running.wait()
    third = len(samples) // 3
    early, late = samples[third : 2 * third], samples[2 * third :]
    return {
        "minutes": round(minutes, 1),
        "env_steps": checkpoint.newest_step(folder / "run" / "checkpoints"),
        "exit_status": status,
        "mb_second_third": round(sum(row[1] for row in early) / len(early), 1),
        "mb_last_third": round(sum(row[1] for row in late) / len(late), 1),
        "files_second_third": max(row[2] for row in early),
        "files_last_third": max(row[2] for row in late),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["kills", "flat"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=30)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        if arguments.what == "kills":
            record.update("soak", f"{arguments.kills} kills", kills(arguments.kills, folder))
        else:
            record.update("soak", f"{arguments.minutes:g} minutes", flat(arguments.minutes, folder))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
