"""What the speed measurements return; how large the numbers are is for benchmarks, not for tests."""

import pytest

from fewstep.algos import registry
from fewstep.bench import stepping, training
from fewstep.config import resolve
from fewstep.errors import UsageError


def test_a_rate_counts_every_step_and_keeps_the_best_stretch(monkeypatch):
    """Ten steps per call, one call per 0.1 s; in one stretch of five the clock shows half the time."""
    now = [0.0]
    pace = iter([0.1] * 100)
    monkeypatch.setattr(stepping.time, "perf_counter", lambda: now[0])

    def step():
        now[0] += next(pace) * (0.5 if 1.0 < now[0] < 2.0 else 1.0)
        return 10

    assert stepping.best_rate(step, 1.0) == pytest.approx(10 / 0.05, rel=0.1)


def test_environments_are_timed_raw_and_ours():
    found = stepping.measure("Pendulum-v1", count=3, seconds=0.01)
    assert min(found.gymnasium, found.one, found.several) > 0
    assert found.count == 3


def test_the_parts_of_a_step_make_up_its_whole():
    record = registry.get("sac")
    small = {"actor.hidden": (8, 8), "critic.hidden": (8, 8), "replay.batch_size": 8}
    config = resolve("sac", record.config, "Pendulum-v1", overrides=small)
    found = training.measure(config, record, steps=80)
    assert min(found) > 0
    assert found.outside_ms == found.act_ms + found.environment_ms + found.batch_ms


def test_what_learns_from_rollouts_has_no_such_step():
    record = registry.get("ppo")
    with pytest.raises(UsageError, match="ppo learns once per rollout"):
        training.measure(resolve("ppo", record.config, "Pendulum-v1"), record)
