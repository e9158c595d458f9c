"""Action repeat: one step is several of the environment's."""

import gymnasium
import numpy as np
import pytest
from fake_env import FakeEnv

from fewstep import envs
from fewstep.algos import registry
from fewstep.config import resolve
from fewstep.errors import FewstepError, UsageError


def steps(vector, count):
    return [vector.step(np.full((vector.count, vector.spec.act_size), 0.3, np.float32)) for _ in range(count)]


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_rewards_are_summed_and_the_limit_is_in_the_environments_steps(repeat):
    made = []
    vector = envs.make(lambda: made.append(FakeEnv()) or made[-1], max_episode_steps=10, action_repeat=repeat)
    decisions = -(-10 // repeat)
    assert vector.max_episode_steps == decisions
    vector.reset([0])
    results = steps(vector, decisions)
    assert sum(float(r.reward[0]) for r in results) == 10.0, "the last decision is shorter where it must be"
    assert [bool(r.truncated[0]) for r in results] == [False] * (decisions - 1) + [True]
    assert made[0].t == 10
    assert np.array_equal(results[0].obs[0, :2], [repeat, repeat])


def test_it_ends_where_the_episode_does():
    made = []
    vector = envs.make(
        lambda: made.append(FakeEnv({3: {"terminated": True, "reward": 5.0}})) or made[-1], action_repeat=2
    )
    vector.reset([0])
    first, second = steps(vector, 2)
    assert (first.reward[0], first.terminated[0]) == (2.0, False)
    assert (second.reward[0], second.terminated[0]) == (5.0, True)


def test_a_success_of_any_of_the_steps_is_one():
    whole = (np.zeros(3, np.float32), 1.0, False, False)
    answers = {1: {"whole": (*whole, {"success": True})}, 2: {"whole": (*whole, {"success": False})}}
    vector = envs.make(lambda: FakeEnv(answers), action_repeat=2)
    vector.reset([0])
    assert steps(vector, 1)[0].success[0] == 1.0


@pytest.mark.parametrize("step", [1, 2])
def test_nonsense_is_one_line_as_ever(step):
    vector = envs.make(lambda: FakeEnv({step: {"whole": None}}), action_repeat=2)
    vector.reset([0])
    with pytest.raises(FewstepError, match="step returned"):
        steps(vector, 1)


def test_the_same_in_another_process():
    here = envs.make("Hopper-v5", 2, action_repeat=4)
    there = envs.make("Hopper-v5", 2, action_repeat=4, watch=envs.Supervision())
    assert here.max_episode_steps == there.max_episode_steps == 250
    here.reset([3, 4])
    there.reset([3, 4])
    for left, right in zip(steps(here, 5), steps(there, 5), strict=True):
        assert np.array_equal(left.obs, right.obs)
        assert np.array_equal(left.reward, right.reward)
    there.close()


def test_films_run_at_the_rate_of_decisions():
    made = gymnasium.make("Hopper-v5")
    rate = made.metadata["render_fps"]
    assert envs.make(lambda: made, action_repeat=5).steps_per_second == rate / 5


def test_bad_numbers():
    with pytest.raises(UsageError, match="action_repeat must be at least 1, got 0"):
        envs.make("Pendulum-v1", action_repeat=0)
    sac = registry.get("sac").config
    with pytest.raises(UsageError, match=r"training.action_repeat .*1"):
        resolve("sac", sac, "Pendulum-v1", sets=["training.action_repeat=0"])
