"""Push-T; skipped where it is not installed, since it brings 255 MB along."""

import numpy as np
import pytest

from fewstep import envs

pytest.importorskip("gym_pusht", reason="needs pip install 'fewstep[pusht]'")


@pytest.mark.parametrize(("env_id", "size"), [("pusht/state", 6), ("pusht/keypoints", 18)])
def test_an_episode_is_a_function_of_its_seed_and_actions(env_id, size):
    used, fresh = envs.make(env_id), envs.make(env_id)
    assert (used.spec.obs_size, used.spec.act_size) == (size, 2)
    assert used.max_episode_steps == 300
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 1, 2)).astype(np.float32)

    def play(vector):
        return [vector.reset([5]), *(vector.step(action).obs for action in actions)]

    play(used)
    for left, right in zip(play(used), play(fresh), strict=True):
        assert np.array_equal(left, right)
        assert np.abs(left).max() < 1.5
    used.close()
    fresh.close()


def test_observations_are_the_packages_own_on_another_scale():
    from gym_pusht.envs import PushTEnv

    theirs, ours = PushTEnv(), envs.make("pusht/state")
    state, _ = theirs.reset(seed=3)
    flat = ours.reset([3])[0]
    assert np.allclose(256 * (flat[:4] + 1), state[:4], atol=1e-3)
    assert np.arctan2(flat[5], flat[4]) % (2 * np.pi) == pytest.approx(state[4] % (2 * np.pi), abs=1e-5)
    ours.close()


def test_it_ends_with_a_success_once_the_place_is_covered():
    vector = envs.make("pusht/state")
    vector.reset([0])
    inner = vector._adapters[0].env.unwrapped
    inner.block.angle = inner.goal_pose[2]
    inner.block.position = tuple(inner.goal_pose[:2])
    inner.agent.position = (30.0, 30.0)
    stay = np.array([[30 / 256 - 1, 30 / 256 - 1]], np.float32)
    result = vector.step(stay)
    assert (result.terminated[0], result.success[0], result.reward[0]) == (True, 1.0, 1.0)
    vector.close()
