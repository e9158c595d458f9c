"""What an environment says of success, from its ``info`` to the row of an evaluation."""

import gymnasium
import jax
import numpy as np
import pytest
from fake_env import FakeEnv

from fewstep import envs
from fewstep.algos import registry
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
