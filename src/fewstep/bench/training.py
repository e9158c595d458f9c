"""Where the time of a training step goes: acting, the environment, drawing a batch, the update."""

import time
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import jax

from fewstep.algos.contract import Algorithm
from fewstep.bench.updates import require_replay
from fewstep.config import RunConfig
from fewstep.training.trainer import Trainer

WARM_UP = 50
"""Steps after the first update that are not timed."""
STRETCHES = 8


class Step(NamedTuple):
    """One environment step of training.

    Attributes:
        steps_per_second: of the loop as it trains, median of several stretches.
        act_ms, environment_ms, batch_ms, update_ms: medians of the parts, each waited for before the next
            begins: choosing the action, stepping and storing, drawing the batch, the update.
        start_seconds: from the making of the trainer to the end of the first update: mostly compilation, or
            reading the cache of an earlier one.
    """

    steps_per_second: float
    act_ms: float
    environment_ms: float
    batch_ms: float
    update_ms: float
    start_seconds: float

    @property
    def outside_ms(self) -> float:
        """All but the update."""
        return self.act_ms + self.environment_ms + self.batch_ms


def measure(config: RunConfig, algorithm: Algorithm, steps: int = 400) -> Step:
    """Train for a moment, with no evaluation and nothing written.

    Args:
        config: the run; its warm-up is cut to what one batch needs.
        algorithm: one that learns from a replay buffer.
        steps: joint steps of the environments that are timed, half of them part by part.

    Raises:
        UsageError: the algorithm learns from rollouts, or the environment cannot be used.
    """
    require_replay(algorithm)
    short = replace(config.algorithm.replay, learning_starts=config.algorithm.replay.batch_size)
    config = replace(config, algorithm=replace(config.algorithm, replay=short))
    start = time.perf_counter()
    trainer = Trainer(config, algorithm)
    try:
        while trainer.updates == 0:
            trainer.advance()
        jax.block_until_ready(trainer.learner.state)
        start_seconds = time.perf_counter() - start
        for _ in range(WARM_UP):
            trainer.advance()
        return Step(_rate(trainer, steps // 2), *_parts(trainer, steps // 2), start_seconds)
    finally:
        trainer.close()


def _rate(trainer: Trainer, steps: int) -> float:
    rates: list[float] = []
    each = max(1, steps // STRETCHES)
    for _ in range(STRETCHES):
        jax.block_until_ready(trainer.learner.state)
        start = time.perf_counter()
        for _ in range(each):
            trainer.advance()
        jax.block_until_ready(trainer.learner.state)
        rates.append(each * trainer.config.training.envs / (time.perf_counter() - start))
    return median(rates)


def _parts(trainer: Trainer, steps: int) -> tuple[float, float, float, float]:
    """Median milliseconds of acting, stepping, drawing and updating."""
    times: list[tuple[float, float, float, float]] = []
    for _ in range(steps):
        begin = time.perf_counter()
        action = trainer.learner.act(trainer.obs, trainer.noise_counter)
        acted = time.perf_counter()
        trainer.take(action)
        stepped = time.perf_counter()
        data = trainer.due()
        drawn = time.perf_counter()
        trainer.learner.learn(data)
        jax.block_until_ready(trainer.learner.state)
        times.append((acted - begin, stepped - acted, drawn - stepped, time.perf_counter() - drawn))
    act, environment, batch, update = (1e3 * median(part) for part in zip(*times, strict=True))
    return act, environment, batch, update
