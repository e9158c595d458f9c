"""Returns of uniformly random actions: the zeros of ``fewstep.analysis.statistics.normalised_scores``.

    python -m benchmarks.random_returns [ENV ...]

Episodes are played until there are at least 20 of them and at least 5,000 steps. Prints one line per task,
ready to be pasted.
"""

import sys

import numpy as np

from fewstep import envs

EPISODES, STEPS = 20, 5_000


def measure(env_id: str) -> tuple[float, float, int]:
    """Mean undiscounted return, its standard error, and the number of episodes; seeds 0, 1, 2, ..."""
    vector, rng = envs.make(env_id, 1), np.random.default_rng(0)
    returns, steps = [], 0
    while len(returns) < EPISODES or steps < STEPS:
        vector.reset([len(returns)])
        total, running = 0.0, True
        while running:
            result = vector.step(rng.uniform(-1, 1, (1, vector.spec.act_size)).astype(np.float32))
            total += float(result.reward[0])
            steps += 1
            running = not (result.terminated[0] or result.truncated[0])
        returns.append(total)
    vector.close()
    return float(np.mean(returns)), float(np.std(returns, ddof=1) / np.sqrt(len(returns))), len(returns)


def main(names: list[str]) -> None:
    for env_id in names or [env_id for env_id, *_ in envs.list_ids()]:
        mean, error, episodes = measure(env_id)
        print(f'    "{env_id}": Random({mean:.4g}, {error:.2g}, {episodes}),', flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
