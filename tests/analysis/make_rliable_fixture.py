"""Writes ``rliable_fixture.json``: what rliable 1.2.0 computes on fixed scores; the tests only read it.

Run with a Python that has it (``pip install rliable==1.2.0``):

    python tests/analysis/make_rliable_fixture.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rliable import library, metrics

AGGREGATES = {
    "IQM": metrics.aggregate_iqm,
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "optimality gap": metrics.aggregate_optimality_gap,
}
REPLICATIONS = 20_000
TAUS = [-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5]


def main() -> None:
    rng = np.random.default_rng(7)
    cases = []
    for runs, tasks in ((3, 1), (3, 3), (5, 4), (10, 6)):
        x = rng.normal(0.6, 0.4, (runs, tasks)).round(3)
        y = (x.mean(0) + rng.normal(-0.1, 0.5, (runs, tasks))).round(1)
        y[0] = x[0]  # ties
        points = {name: float(function(x)) for name, function in AGGREGATES.items()}
        _, intervals = library.get_interval_estimates(
            {"x": x},
            lambda scores: np.array([function(scores) for function in AGGREGATES.values()]),
            method="percentile",
            reps=REPLICATIONS,
            random_state=np.random.RandomState(0),
        )
        better, better_interval = library.get_interval_estimates(
            {"x,y": (x, y)},
            metrics.probability_of_improvement,
            method="percentile",
            reps=REPLICATIONS,
            random_state=np.random.RandomState(0),
        )
        profile, _ = library.create_performance_profile({"x": x}, np.array(TAUS), reps=10)
        cases.append(
            {
                "x": x.tolist(),
                "y": y.tolist(),
                "points": points,
                "intervals": dict(zip(AGGREGATES, intervals["x"].T.tolist(), strict=True)),
                "better": float(better["x,y"]),
                "better_interval": better_interval["x,y"].ravel().tolist(),
                "above": profile["x"].tolist(),
            }
        )
    fixture = {"rliable": version("rliable"), "replications": REPLICATIONS, "taus": TAUS, "cases": cases}
    Path(__file__).with_name("rliable_fixture.json").write_text(json.dumps(fixture, indent=1) + "\n")


if __name__ == "__main__":
    main()
