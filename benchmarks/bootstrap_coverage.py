"""How often the 95 % bootstrap interval of the IQM holds the true value, by seeds and tasks.

    python -m benchmarks.bootstrap_coverage

Normal scores of mean 0 and standard deviation 1 on every task, whose true IQM is 0.
"""

import numpy as np

from benchmarks.record import update
from fewstep.analysis.statistics.aggregates import estimate, interquartile_mean

SIMULATIONS = 2000


def coverage(seeds: int, tasks: int) -> float:
    """Share of simulated comparisons whose interval holds 0."""
    rng, held = np.random.default_rng(0), 0
    for simulation in range(SIMULATIONS):
        found = estimate(interquartile_mean, rng.normal(size=(tasks, seeds)), 1000, seed=simulation)
        held += found.low <= 0 <= found.high
    return held / SIMULATIONS


def main() -> None:
    for seeds in (2, 3, 5, 10):
        shares = {f"tasks {tasks}": coverage(seeds, tasks) for tasks in (1, 5)}
        update("bootstrap_coverage", f"{seeds} seeds", dict(shares))


if __name__ == "__main__":
    main()
