import itertools

import gymnasium
import numpy as np
import pytest
from fake_env import FakeEnv

from fewstep import envs
from fewstep.errors import UsageError


def warnings_of(build, **arguments):
    found = envs.check_env(build, **arguments)
    return [f"{finding.message} | {finding.advice}" for finding in found if finding.level == "warning"]


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "InvertedPendulum-v5", "toy/bandit", "toy/multigoal"])
def test_sound_environments_have_nothing_to_report(env_id):
    found = envs.check_env(env_id, steps=60)
    assert [finding.level for finding in found] == ["info"]
    assert env_id in found[0].message


def test_an_ignored_seed_is_noticed():
    class Deaf(FakeEnv):
        def __init__(self):
            super().__init__(observe=lambda env: np.full(3, env.start))

        def reset(self, *, seed=None, options=None):
            return super().reset(seed=0)

    assert any("start from the same observation" in line for line in warnings_of(Deaf, steps=5))


def test_hidden_randomness_is_noticed():
    draws = itertools.count()
    lines = warnings_of(lambda: FakeEnv(observe=lambda env: np.full(3, float(next(draws)))), steps=5)
    assert any("two different rollouts" in line and "self.np_random" in line for line in lines)


class RunningMean(gymnasium.ObservationWrapper):
    """A user's own: nothing says what it is but what it does."""

    n, mean = 0, 0.0

    def observation(self, observation):
        self.n += 1
        self.mean = self.mean + (observation - self.mean) / self.n
        return (observation - self.mean).astype(np.float32)


def test_what_survives_a_reset_is_told_from_hidden_randomness():
    """Also where only one environment can exist."""
    alive = []

    class OnlyOne(FakeEnv):
        def __init__(self):
            assert not alive
            alive.append(self)
            super().__init__(observe=lambda env: np.array([env.t, env.start, 1]))

        def close(self):
            alive.clear()

    (line,) = [line for line in warnings_of(lambda: RunningMean(OnlyOne()), steps=5) if "seed 0 and" in line]
    assert "survives its resets" in line
    assert not alive


def test_large_values_and_endless_episodes_are_noticed():
    env = lambda: FakeEnv({3: {"reward": -5000.0}}, observe=lambda e: np.array([0, 1e4, e.start]))  # noqa: E731
    lines = warnings_of(env, steps=20)
    assert any(line.startswith("observation[1] reaches 1e+04") for line in lines)
    assert any(line.startswith("a reward of -5e+03") for line in lines)
    assert any("declares no time limit" in line for line in lines)


def test_arrays_that_are_changed_after_they_were_returned_are_noticed():
    class Reuses(FakeEnv):
        def __init__(self):
            self.buffer = np.zeros(3, np.float32)
            super().__init__(observe=self.write)

        def write(self, env):
            self.buffer[:] = [env.t, env.total, env.start]
            return self.buffer

    lines = warnings_of(Reuses, steps=5)
    assert any("changed by the next step" in line and "copy()" in line for line in lines)


def test_faulty_values_are_an_error_finding():
    found = envs.check_env(lambda: FakeEnv({4: {"reward": np.nan}}), steps=10)
    assert [finding.level for finding in found] == ["error"]
    assert "reward is nan" in found[0].message
    assert "episode step 4" in found[0].message


def test_requests_that_make_no_sense_raise():
    with pytest.raises(UsageError, match="did you mean"):
        envs.check_env("Pendulum-v11")
    with pytest.raises(UsageError, match="at least 1 step"):
        envs.check_env("Pendulum-v1", steps=0)
