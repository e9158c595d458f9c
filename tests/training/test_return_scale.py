"""Rewards divided by the running scale of returns: closed forms, invariance to the unit, exact resume."""

import json

import gymnasium
import jax
import numpy as np
import pytest

from fewstep.algos import registry
from fewstep.config import resolve
from fewstep.runs.checkpoint import Checkpoint
from fewstep.training.collect.return_scale import BOUND, ReturnScale, in_own_units
from fewstep.training.trainer import Trainer
from tests.faults.test_resume_everything import check_resume, go, trainer


def played(how, rewards, ended, discount=0.9):
    scale = ReturnScale(how, discount, rewards.shape[1])
    for reward, end in zip(rewards, ended, strict=True):
        scale.observe(reward, end)
    return scale


def returns(rewards, ended, discount=0.9):
    """The same, by the definition: g of every step, restarting after each end."""
    found, g = [], np.zeros(rewards.shape[1])
    for reward, end in zip(rewards, ended, strict=True):
        g = reward + discount * g
        found.append(g.copy())
        g = np.where(end, 0.0, g)
    return np.array(found)


@pytest.fixture
def steps():
    rng = np.random.default_rng(0)
    return rng.normal(2.0, 3.0, (500, 3)), rng.random((500, 3)) < 0.05


def test_it_is_the_deviation_of_all_returns_so_far(steps):
    g = returns(*steps)
    assert played("std", *steps).divisor == pytest.approx(g.std(), rel=1e-9)
    wanted = max(g.std(), np.abs(g).max() / BOUND)
    assert played("bounded", *steps).divisor == pytest.approx(wanted, rel=1e-9)
    assert played("raw", *steps).divisor == 1.0


def test_bounded_keeps_every_sum_within_five():
    """A constant reward: its return of 1 / (1 - discount) lies five deviations out and more. What is bounded
    sums up what has been; the return of a first state, which is to come, may be 1 + discount times that."""
    rewards, ended = np.ones((1000, 1)), np.zeros((1000, 1), bool)
    g = returns(rewards, ended, 0.99)
    assert (g / played("bounded", rewards, ended, 0.99).divisor).max() == pytest.approx(BOUND)
    assert (g / played("std", rewards, ended, 0.99).divisor).max() > 5.0
    rewards[1:] = 0.01
    ahead = float(rewards[:, 0] @ 0.99 ** np.arange(1000.0))
    assert ahead / played("bounded", rewards, ended, 0.99).divisor == pytest.approx(1.99 * BOUND, rel=1e-2)


@pytest.mark.parametrize("how", ["std", "bounded"])
def test_the_unit_of_reward_does_not_matter(how, steps):
    rewards, ended = steps
    assert played(how, 100 * rewards, ended).divisor == pytest.approx(100 * played(how, *steps).divisor)


def test_before_the_first_step_nothing_is_divided():
    assert ReturnScale("std", 0.9, 2).divisor == 1.0


def test_a_lost_step_and_an_abandoned_episode_leave_no_return():
    scale, other = (ReturnScale("std", 0.9, 1) for _ in range(2))
    no, yes = np.array([False]), np.array([True])
    for one in (scale, other):
        one.observe(np.array([3.0]), no)
    scale.observe(np.array([0.0]), yes, lost=yes)
    other.cut(yes)
    for one in (scale, other):
        one.observe(np.array([2.0]), no)
    assert scale.divisor == other.divisor == pytest.approx(np.std([3.0, 2.0]))


def test_it_goes_on_from_a_checkpoint_to_the_last_bit(steps):
    rewards, ended = steps
    whole, first = played("bounded", rewards, ended), played("bounded", rewards[:200], ended[:200])
    again = ReturnScale("bounded", 0.9, 3)
    again.restore(json.loads(json.dumps(first.snapshot())))
    for reward, end in zip(rewards[200:], ended[200:], strict=True):
        again.observe(reward, end)
    assert again.divisor == whole.divisor
    assert again.snapshot() == whole.snapshot()


def test_a_run_with_it_resumes_exactly_and_says_its_divisor(tmp_path, monkeypatch):
    check_resume("sac", tmp_path, monkeypatch, **{"replay.reward": "bounded"})
    one = trainer("sac", **{"replay.reward": "std"})
    go(one, 60)
    assert one.interval()["reward/divisor"] > 0
    one.close()
    assert "reward/divisor" not in trainer("sac").interval()


def test_updates_are_given_divided_rewards():
    one, raw = (trainer("sac", **{"replay.reward": how}) for how in ("bounded", "raw"))
    for each in (one, raw):
        each.seen = []
        each.learner.learn = each.seen.append
        go(each, 41)
    divisor = one.interval()["reward/divisor"]
    np.testing.assert_allclose(one.seen[-1].reward * divisor, raw.seen[-1].reward, rtol=1e-6)


def test_values_are_logged_in_the_environments_own_units():
    logged = in_own_units({"critic/q_mean": 2.0, "temperature/alpha": 0.3, "critic/loss": 2.0}, 10.0)
    assert logged == {"critic/q_mean": 20.0, "temperature/alpha": 3.0, "critic/loss": 2.0}
    width = {"temperature/alpha": 0.3, "policy/noise_std": 0.03}  # of added noise: no return
    assert in_own_units(width, 10.0) == width


def test_values_are_logged_in_units_of_the_reward_whatever_scale_the_critics_have():
    found = []
    for unit, scale in ((1.0, 0.25), (0.25, 1.0)):

        def env(unit=unit):
            return gymnasium.wrappers.TransformReward(gymnasium.make("Pendulum-v1"), lambda r: unit * r)

        algorithm = registry.get("sac")
        sets = dict(algorithm.tiny) | {"critic.reward_scale": scale, "replay.learning_starts": 20}
        one = Trainer(resolve("sac", algorithm.config, "scaled", overrides=sets), algorithm, env)
        go(one, 40)
        found.append(one.interval())
        one.close()
    scaled, small = found
    for name in ("critic/q_mean", "critic/q_std", "actor/q", "temperature/alpha"):
        assert scaled[name] == pytest.approx(4 * small[name], rel=1e-5), name
    assert scaled["critic/loss"] == pytest.approx(small["critic/loss"], rel=1e-5)


def test_it_outlives_a_replay_buffer_that_is_not_saved():
    """The critics are in its units: it does not begin anew from the next steps alone."""
    one, other = (trainer("sac", **{"replay.reward": "std"}) for _ in range(2))
    go(one, 60)
    groups, meta = one.snapshot(experience=False)
    assert "replay" not in groups
    other.restore(Checkpoint(60, groups, json.loads(json.dumps(meta))))
    assert other.interval()["reward/divisor"] == one.interval()["reward/divisor"]
    assert len(other.experience.buffer) == 0
    for each in (one, other):
        each.close()


def test_a_run_does_not_depend_on_the_unit_of_the_reward():
    """Rewards times 100 give the same networks over 300 updates, and a hundred times the values."""
    algorithm, found = registry.get("sac"), []
    sets = dict(algorithm.tiny) | {"replay.reward": "bounded", "replay.learning_starts": 50}
    for unit in (1.0, 100.0):

        def env(unit=unit):
            return gymnasium.wrappers.TransformReward(gymnasium.make("Pendulum-v1"), lambda r: unit * r)

        one = Trainer(resolve("sac", algorithm.config, "scaled", overrides=sets), algorithm, env)
        go(one, 349)
        assert one.updates == 300
        state = one.learner.state
        found.append((jax.device_get((state.actor, state.critics, state.temperature)), one.interval()))
        one.close()
    (ours, row), (theirs, scaled) = found
    for left, right in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-3)
    assert scaled["critic/q_mean"] == pytest.approx(100 * row["critic/q_mean"], rel=1e-3)
    assert scaled["reward/divisor"] == pytest.approx(100 * row["reward/divisor"], rel=1e-6)
    assert scaled["temperature/alpha"] == pytest.approx(100 * row["temperature/alpha"], rel=1e-3)
    assert scaled["critic/loss"] == pytest.approx(row["critic/loss"], rel=1e-3)
