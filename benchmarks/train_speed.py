"""Environment steps per second from start to end: fewstep's SAC beside SBX's and Stable-Baselines3's.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install -r benchmarks/peers/requirements.txt
    python -m benchmarks.train_speed --peers /tmp/peers/bin/python

One environment, one update per step, batch 256, two hidden layers of 256, no evaluation and no checkpoint.
The libraries take turns, ``--rounds`` times, in processes of their own; a rate is taken over every 500 steps
after the first 1,000 that learn (compilation is over by then), and medians are given.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import record

ENV, STARTS, EVERY = "HalfCheetah-v4", 1000, 500


def ours(algo: str, steps: int, folder: Path, extra: list[str]) -> list[float]:
    """Rates of each interval of one run of fewstep."""
    settings = [f"replay.learning_starts={STARTS}", f"training.log_every={EVERY}", "training.eval_every=0"]
    settings += ["training.checkpoint_every=0", "training.eval_modes=native", *extra]
    command = [sys.executable, "-m", "fewstep", "train", algo, ENV, "--steps", str(steps), "--quiet"]
    command += ["--preset", "small", "--out", str(folder), "--set", *settings]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["wall_env_steps_per_second"] for row in rows if row["env_steps"] > STARTS + 1000]


def peer(python: Path, library: str, algo: str, steps: int, folder: Path) -> list[float]:
    """The same of another library."""
    script = Path(__file__).parent / "peers" / "train.py"
    words = [library, algo, ENV, "--steps", str(steps), "--learning-starts", str(STARTS)]
    words += ["--eval-every", str(EVERY), "--eval-episodes", "0", "--out", str(folder)]
    subprocess.run([python, script, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (path,) = folder.glob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    pairs = itertools.pairwise(rows)
    return [
        EVERY / (b["train_seconds"] - a["train_seconds"]) for a, b in pairs if a["env_steps"] >= STARTS + 1000
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="Python that has the other libraries")
    parser.add_argument("--algo", default="sac", choices=["sac", "td3"])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="settings of our runs")
    chosen = parser.parse_args()
    rates: dict[str, list[float]] = {"fewstep": [], "sbx": [], "sb3": []}
    for _ in range(chosen.rounds):
        for name, found in rates.items():
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "run"
                if name == "fewstep":
                    found += ours(chosen.algo, chosen.steps, out, chosen.set)
                else:
                    found += peer(chosen.peers, name, chosen.algo, chosen.steps, out)
    row: dict[str, object] = {f"{name}_steps_per_second": round(median(v), 1) for name, v in rates.items()}
    row |= {
        f"over_{name}": round(median(rates["fewstep"]) / median(rates[name]), 2) for name in ("sbx", "sb3")
    }
    record.update("train_speed", " ".join([chosen.algo, ENV, *chosen.set]), row)


if __name__ == "__main__":
    main()
