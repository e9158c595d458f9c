"""Returns of uniformly random actions: the zeros of ``fewstep.analysis.statistics.normalised_scores``.

    python -m benchmarks.random_returns [ENV ...]

Measured as for tasks that are not in the list (``fewstep.analysis.random_return``). Prints one line per task,
ready to be pasted.
"""

import sys

import numpy as np

from fewstep import envs
from fewstep.analysis.statistics.random_return import measure


def main(names: list[str]) -> None:
    for env_id in names or [env_id for env_id, *_ in envs.list_ids()]:
        vector = envs.make(env_id)
        returns, _, _ = measure(vector, vector.longest_episode())
        vector.close()
        error = np.std(returns, ddof=1) / np.sqrt(len(returns))
        print(f'    "{env_id}": Random({np.mean(returns):.4g}, {error:.2g}, {len(returns)}),', flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
