"""Kill a run at random instants, again and again; watch memory and files of one that runs long; or both.

    python -m benchmarks.soak kills --kills 50
    python -m benchmarks.soak flat --minutes 30
    python -m benchmarks.soak loop --minutes 30 --life 75

``kills`` trains the tests' tiny algorithm on Humanoid-v4 with a checkpoint every ten steps, small replay
segments and a ring that goes round. Each life ends with SIGKILL at a random instant; afterwards the run is
finished and compared, file by file and bit by bit, with one that was never disturbed. ``flat`` trains SAC on
Pendulum-v1 and reads resident memory and open files of the process from /proc. ``loop`` trains the same with
its environment in a process of its own, and ends every life at a random instant, by SIGKILL and by SIGTERM to
the whole process group in turn; the next life continues. It compares memory and open files over the later
half of each life, looks for processes that outlive theirs, and finally trains undisturbed to the same step
(which takes about as long again) to compare the bits.
"""

import argparse
import atexit
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import record
from fewstep.runs import checkpoint

KILLED = ["tests.faults.small_segments:ALGORITHM", "Humanoid-v4", "--set", "replay.batch_size=8"]
KILLED += ["replay.learning_starts=20", "training.log_every=10", "training.eval_every=0"]
KILLED += ["training.checkpoint_every=10", "replay.capacity=1000", "training.keep_checkpoints=2"]
FLAT = ["sac", "Pendulum-v1", "--set", "replay.learning_starts=500", "training.checkpoint_every=500"]
FLAT += ["replay.capacity=5000", "training.eval_every=1000", "training.eval_episodes=2"]
FLAT += ["actor.hidden=32,32", "critic.hidden=32,32", "training.log_every=200"]
LOOP = [*FLAT, "training.env_process=true"]
SAMPLE_SECONDS = 1.0


def begin(*words: object) -> "subprocess.Popen[bytes]":
    """A command in a process group of its own."""
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    command = [sys.executable, "-m", "fewstep", *map(str, words), "--quiet"]
    environment = os.environ | {"PYTHONPATH": path}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    atexit.register(process.kill)  # does nothing once it has ended
    return process


def usage(pid: int) -> tuple[float, int]:
    """Resident memory in MB and number of open files of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[int]:
    """Processes that this one has started and that are there now."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]


def still_there(pids: list[int], seconds: float = 10.0) -> list[int]:
    """Those of the processes that do not end within some seconds."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


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
        samples.append((time.monotonic() - began, *usage(running.pid)))
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


@dataclass
class Life:
    """One process of a run, from its start to its end by a signal."""

    number: signal.Signals
    status: int
    saved: int
    """Step of its newest intact checkpoint."""
    lost: int
    """Logged steps behind that."""
    damaged: int
    outlived: int
    """Processes it had started and left behind."""
    tail: list[tuple[float, int]]
    """Memory and open files over the later half of its life."""


def live(running: "subprocess.Popen[bytes]", seconds: float, number: signal.Signals, run: Path) -> Life:
    """Let a process live that long, watch it, and send a signal to its group."""
    end, samples = time.monotonic() + seconds, list[tuple[float, int]]()
    while time.monotonic() < end - SAMPLE_SECONDS:
        time.sleep(SAMPLE_SECONDS)
        samples.append(usage(running.pid))
    time.sleep(max(0.0, end - time.monotonic()))
    started = children(running.pid)
    os.killpg(running.pid, number)
    status = running.wait()
    heard: list[str] = []
    saved = checkpoint.load_newest(run / "checkpoints", heard.append)
    assert saved is not None
    rows = (run / "metrics.jsonl").read_text().splitlines()
    whole = rows if status > 0 else rows[:-1]  # the last row of a killed process may be half a row
    logged = max((json.loads(row)["env_steps"] for row in whole), default=0)
    outlived = len(still_there(started))
    lost = max(0, logged - saved.env_steps)
    return Life(number, status, saved.env_steps, lost, len(heard), outlived, samples[len(samples) // 2 :])


def loop(minutes: float, seconds: float, folder: Path) -> dict[str, object]:
    """Lives of about ``seconds`` one after the other, for so many minutes, and the comparison."""
    chance, began = random.Random(0), time.monotonic()
    run, whole, lives = folder / "run", folder / "whole", list[Life]()
    running = begin("train", *LOOP, "--steps", 10**8, "--out", run)
    while time.monotonic() - began < minutes * 60:
        number = signal.SIGTERM if len(lives) % 2 else signal.SIGKILL
        life = live(running, seconds * chance.uniform(0.8, 1.2), number, run)
        memory = [mb for mb, _ in life.tail]
        print(
            f"life {len(lives) + 1}: {number.name}, status {life.status}, saved at {life.saved:,}, "
            f"{min(memory):.1f} to {max(memory):.1f} MB, {max(files for _, files in life.tail)} files",
            flush=True,
        )
        lives.append(life)
        running = begin("resume", run)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    total = lives[-1].saved + 500
    assert begin("resume", run, "--steps", total).wait() == 0
    assert begin("train", *LOOP, "--steps", total, "--out", whole).wait() == 0
    means = [np.mean([mb for mb, _ in life.tail]) for life in lives]
    growth = [np.polyfit(np.arange(len(life.tail)), [mb for mb, _ in life.tail], 1)[0] for life in lives]
    third = max(1, len(lives) // 3)
    return {
        "minutes": round(minutes, 1),
        "sigkill": sum(life.number == signal.SIGKILL for life in lives),
        "sigterm": sum(life.number == signal.SIGTERM for life in lives),
        "statuses": sorted({life.status for life in lives}),
        "damaged_checkpoints": sum(life.damaged for life in lives),
        "most_logged_steps_lost_by_sigkill": max(x.lost for x in lives if x.number == signal.SIGKILL),
        "most_logged_steps_lost_by_sigterm": max(
            (x.lost for x in lives if x.number == signal.SIGTERM), default=0
        ),
        "processes_left_over": sum(life.outlived for life in lives),
        "mb_first_third_of_lives": round(float(np.mean(means[:third])), 1),
        "mb_last_third_of_lives": round(float(np.mean(means[-third:])), 1),
        "mb_per_minute_in_a_life": round(float(np.median(growth)) * 60 / SAMPLE_SECONDS, 2),
        "files_each_life": [max(files for _, files in life.tail) for life in lives],
        "final_steps": total,
        "same_final_hash": fingerprint(run) == fingerprint(whole),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["kills", "flat", "loop"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--life", type=float, default=75, help="seconds that a life lasts (loop), +-20%%")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        if arguments.what == "kills":
            record.update("soak", f"{arguments.kills} kills", kills(arguments.kills, folder))
        elif arguments.what == "loop":
            result = loop(arguments.minutes, arguments.life, folder)
            record.update("soak", f"{arguments.minutes:g} minutes, killed and continued", result)
        else:
            record.update("soak", f"{arguments.minutes:g} minutes", flat(arguments.minutes, folder))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
