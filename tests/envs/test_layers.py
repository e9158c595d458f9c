import json

import gymnasium
import numpy as np
import pytest
from fake_env import FakeEnv
from gymnasium import spaces, wrappers

from fewstep import envs
from fewstep.envs.process.space_json import from_json, to_json
from fewstep.errors import UsageError


class Mine(wrappers.NormalizeObservation):
    """A user's own version."""


class RunningMeanStd:
    """As many projects copy it."""


class Copied(gymnasium.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.statistics = RunningMeanStd()


class Holder(FakeEnv):
    """No wrapper: it keeps other environments in attributes."""

    def __init__(self, held):
        super().__init__()
        self.held = held


def vectorised():
    inner = gymnasium.vector.SyncVectorEnv([FakeEnv])
    return Holder(wrappers.vector.NormalizeObservation(inner))


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: wrappers.NormalizeObservation(FakeEnv()), "NormalizeObservation"),
        (lambda: wrappers.NormalizeReward(FakeEnv()), "NormalizeReward"),
        (lambda: wrappers.TimeLimit(wrappers.ClipReward(Mine(FakeEnv()), -1, 1), 9), "Mine"),
        (lambda: Copied(FakeEnv()), "Copied"),
        (lambda: Holder([wrappers.NormalizeReward(FakeEnv())]), "NormalizeReward"),
        (vectorised, "NormalizeObservation"),
    ],
)
def test_running_statistics_are_refused_by_name_wherever_they_are(build, name):
    built = []
    with pytest.raises(UsageError, match=f"contains {name}, whose running statistics") as caught:
        envs.make(lambda: built.append(build()) or built[-1], max_episode_steps=5)
    assert "\n" not in str(caught.value)
    assert built[0].unwrapped.closed == 1


def test_frozen_statistics_are_constants_and_pass():
    def build():
        env = wrappers.NormalizeObservation(FakeEnv())
        env.obs_rms.mean, env.update_running_mean = np.array([1.0, 0.0, 0.0]), False
        return env

    assert envs.make(build).reset([0])[0, 0] == pytest.approx(-1.0)


def limited():
    return wrappers.TimeLimit(FakeEnv(), 10)


def test_a_time_limit_that_cannot_be_had_is_refused():
    gymnasium.register("TwoLimits-v0", entry_point=limited, max_episode_steps=200)
    try:
        for env in ("TwoLimits-v0", limited):
            assert envs.make(env, max_episode_steps=10).max_episode_steps == 10
            assert envs.make(env, max_episode_steps=7).max_episode_steps == 7
            with pytest.raises(UsageError, match=r"max_episode_steps=100 .* TimeLimit of 10 steps"):
                envs.make(env, max_episode_steps=100)
        assert envs.make("TwoLimits-v0").max_episode_steps == 10
    finally:
        gymnasium.registry.pop("TwoLimits-v0")


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.array([1 / 3, np.inf]), (2,), np.float64),
        spaces.Box(0, 255, (1, 6), np.uint8),
        spaces.Box(-1, 1, ()),
        spaces.MultiBinary(4),
        spaces.Dict({"b": spaces.Discrete(3, start=-1), "a": spaces.Tuple([spaces.MultiBinary((2, 3))])}),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, 3]]),
    ],
)
def test_spaces_survive_the_way_between_processes(space):
    again = from_json(json.loads(json.dumps(to_json(space))))
    assert again == space
    assert again.dtype == space.dtype
