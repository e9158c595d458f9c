import gymnasium
import numpy as np
import pytest

from fewstep import envs
from fewstep.envs.toys import multigoal
from fewstep.envs.toys.multigoal import GOALS, MultigoalEnv, goal_of

TURN = np.array([[0.0, -1.0], [1.0, 0.0]])  # 90 degrees anticlockwise, exact in floating point


def roll(start, actions):
    env = MultigoalEnv()
    env.reset(seed=0)
    env.position = np.array(start, np.float64)
    rows = []
    for action in actions:
        obs, reward, terminated, _, info = env.step(action)
        rows.append((obs, reward, terminated, info["goal"]))
        if terminated:
            break
    return rows


def test_turning_the_plane_changes_nothing():
    rng = np.random.default_rng(0)
    for _ in range(50):
        start = rng.normal(0, 2, 2)
        actions = rng.uniform(-1.2, 1.2, (30, 2)) + rng.uniform(-0.5, 0.5, 2)
        plain, turned = roll(start, actions), roll(TURN @ start, actions @ TURN.T)
        assert len(plain) == len(turned)
        for (obs, reward, done, goal), (obs2, reward2, done2, goal2) in zip(plain, turned, strict=True):
            np.testing.assert_array_equal(obs2, (TURN @ obs).astype(np.float32))
            assert (reward2, done2) == (reward, done)
            assert goal2 == (goal if goal < 0 else (goal + 1) % 4)


@pytest.mark.parametrize("goal", range(4))
def test_each_goal_pays_the_same_and_ends_the_episode(goal):
    rows = roll([0, 0], [GOALS[goal] / 5] * 10)
    assert len(rows) == 4  # at distance exactly 1
    expected = [-0.5 - 0.04 * d**2 for d in (4, 3, 2, 1)]
    expected[-1] += 10
    np.testing.assert_allclose([r for _, r, _, _ in rows], expected, rtol=1e-12)
    assert [t for _, _, t, _ in rows] == [False, False, False, True]
    assert [g for _, _, _, g in rows] == [-1, -1, -1, goal]


def test_standing_still_costs_one_per_step_and_truncates_after_the_horizon():
    vector = envs.make("toy/multigoal")
    vector.reset([0])
    rewards, ends = [], []
    for _ in range(30):
        result = vector.step(np.zeros((1, 2), np.float32))
        rewards.append(result.reward[0])
        ends.append((bool(result.terminated[0]), bool(result.truncated[0])))
    np.testing.assert_allclose(rewards, -1.0, atol=0.15)
    assert ends == [(False, False)] * 29 + [(False, True)]


def test_the_arena_and_the_step_are_bounded():
    rows = roll([6.5, -6.8], [[5.0, -5.0]])
    assert rows[0][0].tolist() == [7.0, -7.0]
    assert roll([0, 3], [[-9.0, 9.0]])[0][0].tolist() == [-1.0, 4.0]
    worst = roll([7, 7], [[1.0, 1.0]])[0][1]
    assert worst == pytest.approx(-1.0 - 0.04 * 53)


def test_goal_of_positions():
    positions = np.array([[[4.1, 0.0], [0.0, 4.0], [0.0, 3.99]], [[-5, -0.9], [0.1, -5.5], [np.nan, np.nan]]])
    assert goal_of(positions).tolist() == [[0, 1, -1], [2, 3, -1]]


def test_starts_are_normal_around_the_origin():
    vector = envs.make("toy/multigoal")
    starts = np.concatenate([vector.reset([seed]) for seed in range(2000)])
    np.testing.assert_allclose(starts.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(starts.std(0), multigoal.START_STD, rtol=0.06)


def test_noise_is_off_by_default_and_seeded_when_on():
    assert roll([0, 0], [[0.5, 0.0]])[0][0].tolist() == [0.5, 0.0]

    def noisy(seed):
        env = MultigoalEnv(noise=0.2)
        env.reset(seed=seed)
        return [env.step(np.zeros(2))[0].tolist() for _ in range(5)]

    assert noisy(1) == noisy(1) != noisy(2)


def test_registered_with_gymnasium_and_probed_through_the_vector():
    assert isinstance(gymnasium.make("toy/multigoal").unwrapped, MultigoalEnv)
    vector = envs.make("toy/multigoal", 2)
    toy = vector.toy
    assert toy is not None
    assert (toy.name, toy.goal_count, toy.probe_obs.tolist()) == ("multigoal", 4, [0.0, 0.0])
    obs = vector.reset([0, 1])
    np.testing.assert_array_equal(toy.position(vector), obs)
    assert toy.goal_of(np.array([[0.0, 5.0], [0.0, 0.0]])).tolist() == [1, -1]
