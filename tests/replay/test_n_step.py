"""n-step windows: tables by hand, and the ring against a loop over whole episodes."""

import json

import numpy as np
import pytest

from fewstep.config import ReplayConfig
from fewstep.envs.vector import StepResult
from fewstep.errors import FewstepError, UsageError
from fewstep.replay import NStep, ReplayBuffer
from fewstep.replay.n_step import window
from fewstep.runs.segments import Rows
from fewstep.training.collect.experience import Replay
from fewstep.types import Spec, Transition

SPEC = Spec(1, 1)
GAMMA = 0.5


def windows(steps, stride, reward, follows, added=None, numbers=None):
    added = len(reward) if added is None else added
    numbers = np.arange(len(reward)) if numbers is None else np.array(numbers)
    found = window(
        NStep(steps, GAMMA, stride), numbers, added, np.array(reward, np.float32), np.array(follows, bool)
    )
    return [each.tolist() for each in found]


def test_a_table_of_two_episodes_of_one_environment():
    """Rewards 1, 2, 4, 8 and then 16, 32 of the next episode, n = 3: windows stop at the end of the first and
    at the newest step."""
    reward, discount, last = windows(3, 1, [1, 2, 4, 8, 16, 32], [0, 1, 1, 1, 0, 1])
    assert reward == [1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8, 16 + 16, 32]
    assert discount == [1 / 8, 1 / 8, 1 / 4, 1 / 2, 1 / 4, 1 / 2]
    assert last == [2, 3, 3, 3, 5, 5]


def test_a_table_of_two_environments_in_turn():
    """Rows 0, 2, 4, 6 are one environment's, 1, 3, 5, 7 the other's, whose episode ended at row 3."""
    reward, discount, last = windows(3, 2, [1, 10, 2, 20, 4, 40, 8, 80], [0, 0, 1, 1, 1, 0, 1, 1])
    assert reward == [3, 20, 6, 20, 8, 80, 8, 80]
    assert discount == [1 / 8, 1 / 4, 1 / 8, 1 / 2, 1 / 4, 1 / 4, 1 / 2, 1 / 2]
    assert last == [4, 3, 6, 3, 6, 7, 6, 7]


def test_a_table_of_a_ring_that_has_wrapped():
    """Capacity 4, six added: rows hold numbers 4, 5, 2, 3. All follow on, yet none runs from 5 over to 2."""
    reward, discount, last = windows(3, 1, [16, 32, 4, 8], [1, 1, 1, 1], added=6, numbers=[4, 5, 2, 3])
    assert reward == [16 + 16, 32, 4 + 4 + 4, 8 + 8 + 8]
    assert discount == [1 / 4, 1 / 2, 1 / 8, 1 / 8]
    assert last == [1, 1, 0, 1]


class Recorded:
    """Random episodes of N environments fed to a ``Replay``, and kept as plain lists.

    An observation is the number of the environment's step, so a drawn row is recognised by it and its reward,
    which no other has.
    """

    def __init__(self, envs, steps, capacity, seed=0, lose=0.0):
        self.rng = np.random.default_rng(seed)
        self.envs, self.lose = envs, lose
        rows = min(64, capacity)
        cfg = ReplayConfig(
            capacity=capacity, batch_size=rows, learning_starts=1, n_step=steps, updates_per_step=1 / envs
        )
        self.replay = Replay(cfg, envs, SPEC, 0, discount=GAMMA)
        self.episodes = [[] for _ in range(envs)]
        self.where = {}
        self.time = 0

    def step(self):
        n, rng = self.envs, self.rng
        ended = rng.random((2, n)) < 0.1
        lost = rng.random(n) < self.lose
        obs = (self.time * n + np.arange(n, dtype=np.float32))[:, None]
        reward = np.where(lost, 0.0, rng.normal(size=n)).astype(np.float32)
        result = StepResult(obs + 0.5, reward, ended[0] & ~lost, ended[1] | lost, lost, reward)
        self.replay.add(obs, np.zeros((n, 1), np.float32), result)
        for env in range(n):
            episode = self.episodes[env]
            if not lost[env]:
                self.where[float(obs[env, 0])] = (episode, len(episode))
                episode.append((float(reward[env]), result.terminated[env], float(result.obs[env, 0])))
            if ended[:, env].any() or lost[env]:
                self.episodes[env] = []
        self.time += 1

    def cut(self, env):
        self.replay.cut(np.arange(self.envs) == env)
        self.episodes[env] = []

    def expected(self, obs, steps):
        """Reward, discount, terminated and successor, by the definition."""
        episode, at = self.where[obs]
        steps = episode[at : at + steps]
        total, gamma = 0.0, 1.0
        for reward, _, _ in steps:
            total += gamma * reward
            gamma *= GAMMA
        return total, gamma, *steps[-1][1:]

    def drawn(self, updates=20):
        data = self.replay.buffer.sample(updates, 64)
        return zip(
            data.obs[..., 0].ravel(),
            data.reward.ravel(),
            data.discount.ravel(),
            data.terminated.ravel(),
            data.next_obs[..., 0].ravel(),
            strict=True,
        )


@pytest.mark.parametrize(("envs", "steps", "capacity"), [(1, 3, 50), (3, 5, 64), (4, 100, 90), (2, 2, 3)])
def test_every_window_is_that_of_a_loop_over_whole_episodes(envs, steps, capacity):
    """Terminations, truncations, abandoned episodes; before and after the ring has wrapped at any place."""
    one = Recorded(envs, steps, capacity)
    lengths = set()
    for time in range(120):
        one.step()
        if time % 17 == 0:
            one.cut(time % envs)
        if time % 3:
            continue
        for obs, reward, discount, terminated, successor in one.drawn(1):
            wanted = one.expected(float(obs), steps)
            assert (discount, terminated, successor) == wanted[1:]
            assert reward == np.float32(wanted[0])
            lengths.add(float(discount))
    assert lengths >= {0.5**m for m in range(1, min(steps, 5, -(-capacity // envs)) + 1)}


def test_where_a_lost_environment_left_no_row_windows_are_shorter_and_true():
    """The others' windows end at the gap; each is still that of some number of steps."""
    one = Recorded(3, 4, 200, lose=0.05)
    for _ in range(100):
        one.step()
    full = 0
    for obs, reward, discount, terminated, successor in one.drawn():
        taken = int(np.log2(1 / discount))
        wanted = one.expected(float(obs), taken)
        assert (np.float32(wanted[0]), *wanted[1:]) == (reward, discount, terminated, successor)
        full += taken == 4
    assert full > 100


def test_one_step_is_the_buffer_without_it():
    """The same draws; no flag is stored, no discount given."""
    one, other = Recorded(2, 1, 50), ReplayBuffer(50, SPEC, 0)
    for _ in range(40):
        one.step()
    ring = one.replay.buffer
    assert ring.nbytes == other.nbytes
    assert list(ring.arrays()) == ["obs", "action", "reward", "terminated", "next_obs"]
    rows = np.random.Generator(np.random.PCG64(0))
    rows.bit_generator.state = ring.rng_state
    drawn, at = ring.sample(3, 16), rows.integers(0, len(ring), size=(3, 16))
    assert drawn.discount is None
    for name, field in ring.arrays().items():
        assert getattr(drawn, name).tobytes() == field[at].tobytes()
    assert "last" not in one.replay.snapshot()[1]


def test_one_step_drawn_as_a_window_is_that_step():
    """n = 1 by the way of n > 1: the same transitions, with gamma beside each."""
    plain, windowed = ReplayBuffer(40, SPEC, 1), ReplayBuffer(40, SPEC, 1, NStep(1, GAMMA))
    rng = np.random.default_rng(0)
    for _ in range(60):
        obs = rng.normal(size=(1, 1)).astype(np.float32)
        step = Transition(obs, np.tanh(obs), obs[:, 0], obs[:, 0] > 1, obs + 1)
        plain.add(step)
        windowed.add(step, np.ones(1, bool))
    left, right = plain.sample(4, 32, numbered=True), windowed.sample(4, 32, numbered=True)
    for name in ("obs", "action", "reward", "terminated", "next_obs", "number"):
        assert getattr(left, name).tobytes() == getattr(right, name).tobytes(), name
    assert (right.discount == np.float32(GAMMA)).all()


def test_it_goes_on_from_a_checkpoint_to_the_last_bit():
    """With an episode that is running across it."""
    one, other = (Recorded(3, 4, 40) for _ in range(2))
    for _ in range(31):
        one.step()
        other.step()
    arrays, meta = one.replay.snapshot()
    assert isinstance(arrays, Rows)
    again = Recorded(3, 4, 40).replay
    again.restore(arrays, json.loads(json.dumps(meta)))
    other.replay, numbers = again, []
    for _ in range(10):
        one.step()
        other.step()
        left, right = one.replay.due(100), other.replay.due(100)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(left, right, strict=True) if a is not None)
        numbers.append(left.discount.min())
    assert min(numbers) == 1 / 16


def test_what_was_saved_with_other_steps_is_refused():
    one, other = Recorded(1, 4, 40), Recorded(1, 1, 40)
    for each in (one, other):
        each.step()
    with pytest.raises(FewstepError, match=r"saved replay has fields .*follows"):
        other.replay.restore(*one.replay.snapshot())


def test_rewards_are_divided_after_they_are_summed():
    cfg = ReplayConfig(capacity=50, batch_size=32, learning_starts=1, n_step=3, reward="std")
    scaled, raw = (
        Replay(each, 1, SPEC, 0, discount=GAMMA)
        for each in (cfg, ReplayConfig(capacity=50, batch_size=32, learning_starts=1, n_step=3))
    )
    no = np.zeros(1, bool)
    for k in range(20):
        obs = np.full((1, 1), k, np.float32)
        for one in (scaled, raw):
            one.add(obs, np.zeros((1, 1), np.float32), StepResult(obs, obs[:, 0] ** 2, no, no, no, obs[:, 0]))
    divisor = scaled.metrics()["reward/divisor"]
    left, right = scaled.due(20), raw.due(20)
    np.testing.assert_allclose(left.reward * divisor, right.reward, rtol=1e-6)
    np.testing.assert_array_equal(left.discount, right.discount)


@pytest.mark.parametrize("steps", [0, 101])
def test_impossible_numbers_of_steps_are_refused_by_name(steps):
    with pytest.raises(UsageError, match="n_step must be in"):
        ReplayConfig(n_step=steps)


def test_flags_that_are_not_bool_are_refused():
    buffer = ReplayBuffer(4, SPEC, 0, NStep(2, GAMMA))
    one = np.zeros((1, 1), np.float32)
    with pytest.raises(UsageError, match="'follows' must be bool, got float32"):
        buffer.add(Transition(one, one, one[0], np.zeros(1, bool), one), np.zeros(1, np.float32))
