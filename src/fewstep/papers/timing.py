"""The time of one action as a policy acts when it is evaluated.

Runs log that of collecting experience, where a policy may act in another way: by a single sample, or as the
best of fewer candidates.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import jax
import numpy as np

from fewstep import envs
from fewstep.algos import registry
from fewstep.analysis.runs.reading import Run
from fewstep.analysis.statistics.comparison import native_mode
from fewstep.bench.acting import microseconds
from fewstep.config.run import from_file
from fewstep.runs.layout import RunDir
from fewstep.training import compiled
from fewstep.training.acting import Acting, bind

ROUNDS, CALLS = 41, 50
Name = TypeVar("Name", bound=Hashable)


def milliseconds(runs: Mapping[Name, Run]) -> dict[Name, float]:
    """Milliseconds per action of one observation, here and now, from Python with the action on the host.

    The networks are fresh ones of the run's configuration: what they have learned does not change the time.
    All are timed in turns, so that an hour of a busy machine falls on all of them; the median of ``ROUNDS``.
    """
    acting = {name: _acting(run) for name, run in runs.items()}
    rounds = [{name: _one(*each) for name, each in acting.items()} for _ in range(ROUNDS)]
    return {name: float(np.median([each[name] for each in rounds])) for name in runs}


def _acting(run: Run) -> tuple[Acting, np.ndarray]:
    config = from_file(RunDir(run.path).config, lambda name: registry.get(name).config)
    algorithm, cfg = registry.get(config.algo), config.algorithm
    env = envs.make(config.env, 1)
    spec = env.spec
    env.close()
    key = jax.random.key(0)
    policy = algorithm.policy(compiled.init(algorithm, cfg, spec)(key))
    obs = np.random.default_rng(0).normal(size=(CALLS, 1, spec.obs_size)).astype(np.float32)
    return bind(algorithm, cfg, spec, algorithm.mode(cfg, native_mode(run)), policy, key), obs


def _one(acting: Acting, obs: np.ndarray) -> float:
    return 1e-3 * microseconds(lambda i: acting(obs[i], i), 1, CALLS)[0]
