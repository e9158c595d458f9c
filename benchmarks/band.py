"""Our SAC and TD3 beside other libraries' under one protocol: do ours learn inside their band?

    fewstep train sac HalfCheetah-v4 --preset small --steps 100000 --seed 0 --out OURS/sac-small/seed-0
    PYTHON benchmarks/peers/train.py sbx sac HalfCheetah-v4 --seed 0 --out PEERS
    python -m benchmarks.band OURS PEERS    # seeds 0, 1, 2 of each

Noise-free actions of separate evaluation episodes, every 5,000 steps. The
band is what lies between the lowest and the highest of the library's seeds; three seeds make it a rough one.
Runs that have not reached the end are left out.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from benchmarks import record
from fewstep.analysis.figures import style

ENV, LAST = "HalfCheetah-v4", 10
Curves = dict[str, dict[int, float]]
PEERS = {"sbx": "SBX", "sb3": "Stable-Baselines3"}


def curve(path: Path) -> dict[int, float]:
    """Mean return by environment step, of one file of evaluations (ours or a peer's)."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["env_steps"]: fmean(row["returns"]) for row in rows if row.get("actions", "mode") == "mode"}


def peer(folder: Path, library: str, algo: str) -> Curves:
    """What ``benchmarks/peers/train.py`` wrote, by seed."""
    return {
        p.stem.split(f"{ENV}-")[1]: curve(p) for p in sorted(folder.glob(f"{library}-{algo}-{ENV}-*.jsonl"))
    }


def summary(curves: Curves) -> dict[str, object]:
    """Per seed: the last evaluation, the mean of the last ten, the mean of all."""
    values = {seed: list(one.values()) for seed, one in curves.items()}
    return {
        "env_steps": [max(one) for one in curves.values()],
        "last": [round(v[-1]) for v in values.values()],
        f"mean_of_last_{LAST}": [round(fmean(v[-LAST:])) for v in values.values()],
        "mean_of_all": [round(fmean(v)) for v in values.values()],
        "curves": {s: {str(k): round(v, 1) for k, v in one.items()} for s, one in curves.items()},
    }


def draw(found: dict[str, dict[str, Curves]]) -> None:
    """One panel per algorithm: each library's mean of seeds in the band from lowest to highest."""
    with style.styled():
        figure = Figure(figsize=(9.0, 3.2))
        for axes, (algo, sides) in zip(
            figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
        ):
            for colour, (side, curves) in zip(style.SERIES, sides.items(), strict=False):
                steps = sorted(set.intersection(*(set(one) for one in curves.values())))
                values = np.array([[one[s] for s in steps] for one in curves.values()])
                axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.18, lw=0)
                axes.plot(
                    steps,
                    values.mean(0),
                    color=colour,
                    label=f"{side}, {len(values)} seed{'s' * (len(values) > 1)}",
                )
            axes.set_title(f"{algo.upper()}, {ENV}")
            axes.set_xlabel("environment steps")
            axes.legend()
        figure.tight_layout()
        (record.FOLDER / "band.svg").write_bytes(style.to_file(figure, "svg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ours", type=Path, help="folder with ALGO-small/seed-N")
    parser.add_argument("peers", type=Path, help="folder with the peer's .jsonl files")
    chosen = parser.parse_args()
    found: dict[str, dict[str, Curves]] = {}
    for algo in ("sac", "td3"):
        ours = {
            p.parent.name: curve(p) for p in sorted(chosen.ours.glob(f"{algo}-small/*/evaluations.jsonl"))
        }
        sides = {"fewstep": ours} | {
            name: peer(chosen.peers, library, algo) for library, name in PEERS.items()
        }
        length = max(max(one) for curves in sides.values() for one in curves.values())
        whole = {side: {k: one for k, one in c.items() if max(one) == length} for side, c in sides.items()}
        found[algo] = {side: curves for side, curves in whole.items() if curves}
    for algo, sides in found.items():
        for side, curves in sides.items():
            record.update("band", f"{algo} {side} {ENV}", summary(curves))
    draw(found)


if __name__ == "__main__":
    main()
