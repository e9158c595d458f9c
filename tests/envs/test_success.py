"""What an environment says of success, from its ``info`` to the row of an evaluation."""

import gymnasium
import jax
import numpy as np
import pytest
from fake_env import FakeEnv

from fewstep import envs
from fewstep.algos import registry
from fewstep.envs.registry import has_peaks
from fewstep.training.evaluation.evaluate import Evaluator, in_turn, rollout

NAN = float("nan")


def info_env(*infos):
    """Episodes of as many steps as there are infos, each returned in turn; the last one truncates."""

    def answer(step):
        return {"whole": (np.zeros(3, np.float32), 1.0, False, step == len(infos), infos[step - 1])}

    return FakeEnv({step: answer(step) for step in range(1, len(infos) + 1)})


@pytest.mark.parametrize(
    ("info", "success"),
    [
        ({"success": True}, 1),
        ({"success": np.bool_(False)}, 0),
        ({"is_success": 1.0}, 1),
        ({"is_success": np.float32(0)}, 0),
        ({"success": "yes", "is_success": False}, 0),
        ({"success": None}, NAN),
        ({"success": NAN}, NAN),
        ({"success": np.array([True])}, NAN),
        ({}, NAN),
        (None, NAN),
    ],
)
def test_of_one_step(info, success):
    vector = envs.make(lambda: info_env(info))
    vector.reset([0])
    result = vector.step(np.zeros((1, 2), np.float32))
    assert np.array_equal(result.success, np.float32([success]), equal_nan=True)


@pytest.mark.parametrize("play", [rollout, in_turn])
def test_an_episode_succeeds_if_any_of_its_steps_does(play):
    told = [
        [{}, {"success": True}, {"success": False}],
        [{"success": False}, {"success": False}],
        [{}, {}],
    ]
    for infos, success in zip(told, (1.0, 0.0, NAN), strict=True):
        vector = envs.make(lambda infos=infos: info_env(*infos))
        played = play(vector, lambda obs, step: np.zeros((1, 2), np.float32), [0], 10)
        assert np.array_equal(played.success, [success], equal_nan=True)


@pytest.mark.parametrize("play", [rollout, in_turn])
def test_the_highest_reward_of_each_episode(play):
    """An episode that has ended waits for the other without a reward, which would be above its own."""
    endings = iter((2, 4))

    def build():
        end, rewards = next(endings), (-5.0, -2.0, -3.0, -4.0)
        answers = {step: {"reward": rewards[step - 1]} for step in range(1, end)}
        return FakeEnv(answers | {end: {"reward": rewards[end - 1] - 1.0, "truncated": True}})

    vector = envs.make(build, 2 if play is rollout else 1)
    seeds = [0, 0] if play is rollout else [0]
    played = play(vector, lambda obs, step: np.zeros((len(seeds), 2), np.float32), seeds, 10)
    assert played.peaks.tolist() == ([-3.0, -2.0] if play is rollout else [-3.0])


def test_a_maze_goes_on_at_its_goal():
    made = gymnasium.make("maze/PointMaze_UMaze-v3")
    vector = envs.make(lambda: made)
    vector.reset([1])
    still = np.zeros((1, 2), np.float32)
    assert vector.step(still).success.tolist() == [0.0]
    inner = made.unwrapped
    inner.point_env.set_state(inner.goal, np.zeros(2))
    result = vector.step(still)
    assert (result.success[0], result.reward[0]) == (1.0, 1.0)
    assert not result.terminated[0]
    assert not result.truncated[0]


def test_peaks_are_told_where_the_suite_says_that_they_mean_something(monkeypatch):
    algorithm = registry.get("sac")
    cfg, spec = algorithm.config(), envs.make("Pendulum-v1").spec
    policy = algorithm.policy(algorithm.init(cfg, spec, jax.random.key(0)))
    for told in (False, True):
        monkeypatch.setattr("fewstep.training.evaluation.evaluate.has_peaks", lambda env, told=told: told)
        judge = Evaluator(
            algorithm, cfg, "Pendulum-v1", episodes=2, modes=("sample",), seed=0, max_episode_steps=5
        )
        (row,) = judge.evaluate(policy, 0, 0)
        judge.close()
        assert ("peaks" in row) == told
    returns, peaks = np.array(row["returns"]), np.array(row["peaks"])
    assert (peaks >= returns / 5).all()
    assert (peaks <= 0).all()
    assert has_peaks("pusht/state")
    assert not has_peaks("Pendulum-v1")
    assert not has_peaks(lambda: None)


@pytest.mark.parametrize(("env", "success"), [("maze/PointMaze_UMaze-v3", [0, 0]), ("Pendulum-v1", None)])
def test_the_row_of_an_evaluation_says_it_in_this_process_and_in_another(env, success):
    algorithm, rows = registry.get("sac"), []
    for timeout in (None, 60.0):
        judge = Evaluator(
            algorithm,
            algorithm.config(),
            env,
            episodes=2,
            modes=("sample",),
            seed=0,
            max_episode_steps=5,
            timeout=timeout,
        )
        spec = envs.make(env).spec
        policy = algorithm.policy(algorithm.init(algorithm.config(), spec, jax.random.key(0)))
        (row,) = judge.evaluate(policy, 0, 0)
        judge.close()
        assert row.get("success") == success
        rows.append(row["returns"])
    assert rows[0] == rows[1]
