"""How cost grows with work: batch, candidates, observation size, environments, seeds; as lines with slopes.

    python -m benchmarks.scaling            # measure, then draw
    python -m benchmarks.scaling --only batch
    python -m benchmarks.scaling --draw     # the figure from what is recorded

Each line is the time of one call over what it is given, preset ``small``. The points of a line are timed in
turns, so that whatever else the machine does slows all of them, and the fastest of ``--rounds`` counts. A
straight line is fitted: ``base_ms + slope_ms x``. Beside its slope stands the floor's: counted operations per
unit of x over the best matrix product of this process. Environments and seeds have no such floor; their slope
is compared with the base line of one environment, of one seed.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks import record
from benchmarks.seeds_speed import program
from benchmarks.update_speed import HALF_CHEETAH, SIZES
from fewstep import config, envs
from fewstep.algos import registry
from fewstep.analysis.figures import style
from fewstep.bench import floor, peak, updates
from fewstep.types import Spec

CANDIDATES = {"smfp": "mirror.candidates", "mfpo": "proposals.gaussian"}
WHOLE_BATCH = {"sac": {}, "smfp": {"mirror.batch_size": 0}, "mfpo": {"actor.batch_size": 0}}
"""So that no part of an update looks at fewer states than the batch has."""
LABELS = {
    "batch": "transitions per update",
    "candidates": "candidates per state",
    "observation": "numbers in an observation",
    "environments": "environments in one process",
    "seeds": "seeds in one dispatch",
}


@dataclass(frozen=True)
class Point:
    """One x of a line: what to time, how often it does the work, and its counted operations (0: no count)."""

    x: int
    call: Callable[[], Any]
    times: int = 1
    operations: float = 0.0


def update(algo: str, x: int, *, batch: int = 256, spec: Spec | None = None, **settings: Any) -> Point:
    """One update of an algorithm as training runs it, several of them per call."""
    algorithm, spec = registry.get(algo), spec or SIZES[HALF_CHEETAH]
    words = [f"{name}={value}" for name, value in settings.items()]
    cfg = config.resolve(algo, algorithm.config, env=HALF_CHEETAH, preset="small", sets=words).algorithm
    state, data = algorithm.init(cfg, spec, jax.random.key(0)), updates.batch(spec, batch)
    step = jax.jit(lambda s, b: algorithm.update(cfg, s, b), donate_argnums=0)
    compiled = step.lower(state, data).compile()

    def call() -> Any:
        nonlocal state
        metrics: Any = None
        for _ in range(updates.TOGETHER):
            state, metrics = compiled(state, data)
        return metrics

    return Point(x, call, updates.TOGETHER, floor.operations(cfg, spec, batch))


def stepping(count: int) -> Point:
    """One joint step of ``count`` environments with random actions, resets included."""
    made, steps = envs.make(HALF_CHEETAH, count), 200
    made.reset(list(range(count)))
    rng = np.random.default_rng(0)

    def call() -> None:
        for _ in range(steps):
            result = made.step(rng.uniform(-1, 1, (count, made.spec.act_size)).astype(np.float32))
            ended = result.terminated | result.truncated
            if ended.any():
                made.reset(mask=ended)

    return Point(count, call, steps)


def lines(panel: str) -> dict[str, Callable[[], list[Point]]]:
    """The lines of a panel by name."""
    if panel == "batch":
        sizes = (64, 256, 512, 1024)
        return {a: lambda a=a: [update(a, n, batch=n, **WHOLE_BATCH[a]) for n in sizes] for a in WHOLE_BATCH}
    if panel == "candidates":
        counts = (4, 16, 32, 64)
        return {
            a: lambda a=a, name=name: [update(a, n, **{name: n}) for n in counts]
            for a, name in CANDIDATES.items()
        }
    if panel == "observation":
        sizes = (8, 128, 256, 376)
        return {a: lambda a=a: [update(a, n, spec=Spec(n, 6)) for n in sizes] for a in WHOLE_BATCH}
    if panel == "environments":
        return {HALF_CHEETAH: lambda: [stepping(n) for n in (1, 2, 4, 8, 16)]}
    return {"sac": lambda: [Point(n, program("sac", "small", n), updates.TOGETHER) for n in (1, 2, 4, 8)]}


def measure(panel: str, name: str, points: list[Point], rounds: int, rate: float) -> None:
    """Time the points in turns, fit a line, record it."""
    best = {point.x: float("inf") for point in points}
    for point in points:
        jax.block_until_ready(point.call())
    for _ in range(rounds):
        for point in points:
            start = time.perf_counter()
            jax.block_until_ready(point.call())
            best[point.x] = min(best[point.x], 1e3 * (time.perf_counter() - start) / point.times)
    x, ms = np.array(list(best)), np.array(list(best.values()))
    slope, base = np.polyfit(x, ms, 1)
    result: dict[str, Any] = {"x": x.tolist(), "ms": ms.round(3).tolist()}
    result |= {"slope_ms": round(float(slope), 5), "base_ms": round(float(base), 3)}
    if points[0].operations:
        per_unit = (points[-1].operations - points[0].operations) / (points[-1].x - points[0].x)
        result |= {
            "floor_slope_ms": round(1e3 * per_unit / rate, 5),
            "slope_ratio": round(float(slope) / (1e3 * per_unit / rate), 2),
            "floor_ms": [round(1e3 * point.operations / rate, 3) for point in points],
        }
    record.update("scaling", f"{panel} {name}", result)


def draw() -> None:
    """Five panels: times as dots, the fitted line, the floor dashed."""
    rows = json.loads((record.FOLDER / "scaling.json").read_text())
    with style.styled():
        figure = Figure(figsize=(11.0, 5.6))
        panels = figure.subplots(2, 3).ravel()
        colours = dict(zip(("sac", "smfp", "mfpo", HALF_CHEETAH), style.SERIES, strict=False))
        for axes, (panel, label) in zip(panels, LABELS.items(), strict=False):
            for key, row in rows.items():
                if key.split()[0] != panel:
                    continue
                name = key.split()[1]
                x, colour = np.array(row["x"]), colours[name]
                axes.plot(x, row["ms"], "o", ms=3.5, color=colour)
                axes.plot(x, row["base_ms"] + row["slope_ms"] * x, "-", color=colour, label=name)
                if "floor_ms" in row:
                    axes.plot(x, row["floor_ms"], ":", color=colour)
            axes.set_title(f"ms by {panel}")
            axes.set_xlabel(label)
            axes.set_ylim(0, None)
            if axes.lines:
                axes.legend()
        panels[-1].axis("off")
        panels[-1].text(0, 0.6, "dots: fastest of several, taken in turns\nlines: fitted\ndotted: the floor")
        figure.tight_layout()
        (record.FOLDER / "scaling.svg").write_bytes(style.to_file(figure, "svg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="panels whose name contains this text")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--draw", action="store_true", help="only draw what is recorded")
    chosen = parser.parse_args()
    rate = 0.0 if chosen.draw else peak.gemm_peak()
    for panel in LABELS:
        if chosen.draw or chosen.only not in panel:
            continue
        for name, make in lines(panel).items():
            measure(panel, name, make(), chosen.rounds, rate)
    draw()


if __name__ == "__main__":
    main()
