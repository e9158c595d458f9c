"""``replay.noise_repeat``: how long noise is held, which follows from seed and step alone."""

import itertools

import jax
import numpy as np
import pytest

from fewstep.errors import UsageError
from fewstep.training.collect import held_noise
from fewstep.training.collect.held_noise import BLOCK, first_step, probabilities
from tests.e2e.test_cohort import Cohort, trainers
from tests.faults.test_resume_everything import check_resume, trainer


def lengths(seed, longest, steps):
    """Of all holds that lie before ``steps``, the last one left out."""
    starts = [first_step(seed, longest, step) for step in range(steps)]
    assert all(start <= step for step, start in enumerate(starts))
    return [len(list(group)) for _, group in itertools.groupby(starts)][:-1]


def test_probabilities_of_a_table():
    """n^-2 over its sum; the mean of FlashSAC's 16 is 2.13."""
    np.testing.assert_allclose(probabilities(1), [1.0])
    np.testing.assert_allclose(probabilities(4), np.array([144, 36, 16, 9]) / 205)
    assert probabilities(16) @ np.arange(1, 17) == pytest.approx(2.134, abs=1e-3)


def test_holds_have_these_probabilities():
    found = lengths(3, 16, BLOCK)
    share = np.bincount(found, minlength=17)[1:] / len(found)
    np.testing.assert_allclose(share, probabilities(16), atol=0.01)  # 30,000 holds: six standard errors
    assert np.mean(found) == pytest.approx(2.134, abs=0.08)


def test_a_hold_is_a_function_of_seed_and_step():
    """In whatever order one asks; another seed has others; beyond a block they go on, and differ."""
    steps = range(BLOCK - 200, BLOCK + 200)
    forwards = [first_step(1, 16, step) for step in steps]
    held_noise._first_places.cache_clear()
    assert [first_step(1, 16, step) for step in reversed(steps)] == forwards[::-1]
    assert forwards != [first_step(2, 16, step) for step in steps]
    assert forwards[200] == BLOCK
    here = [first_step(1, 16, step) for step in range(200)]
    assert [start - BLOCK for start in forwards[200:]] != here


def test_off_it_is_the_step_itself():
    assert [first_step(1, 1, step) for step in (0, 5, BLOCK + 3)] == [0, 5, BLOCK + 3]


@pytest.mark.parametrize("value", [0, 1001])
def test_impossible_values_are_refused_by_name(value):
    with pytest.raises(UsageError, match="noise_repeat"):
        trainer("sac", **{"replay.noise_repeat": value})


def acted(one, steps):
    """The observations and actions of so many steps after the warm-up, without updates."""
    one.learner.learn = lambda data: None
    rows, act = [], one.learner.act

    def acting(obs, counter):
        rows.append((one.env_steps, counter, obs.copy(), act(obs, counter)))
        return rows[-1][-1]

    one.learner.act = acting
    while len(rows) < steps:
        one.advance()
    return rows


def test_the_noise_is_held_while_the_policy_follows_the_state():
    """All environments together, over ends of episodes; warm-up actions are those of a run without."""
    pair = [trainer("sac", **{"replay.noise_repeat": longest, "training.envs": 2}) for longest in (16, 1)]
    held, fresh = (acted(one, 60) for one in pair)
    assert held[0][0] == fresh[0][0] == 38  # the last random step is the 38th
    np.testing.assert_array_equal(held[0][2], fresh[0][2])
    assert [counter for _, counter, _, _ in fresh] == [steps for steps, _, _, _ in fresh]
    assert [counter for _, counter, _, _ in held] == [
        2 * first_step(2, 16, steps // 2) for steps, _, _, _ in held
    ]
    assert len({counter for _, counter, _, _ in held}) < 45
    one = pair[0]
    for _, counter, obs, action in held[:5]:
        key = jax.random.fold_in(one.learner.act_key, counter)
        wanted = one.algorithm.collect(one.config.algorithm, one.policy, obs, key)
        np.testing.assert_allclose(action, wanted, rtol=1e-5, atol=1e-6)
    for each in pair:
        each.close()


def test_what_explores_is_held_too():
    """TD3's policy is deterministic: what is held is its Gaussian noise."""
    one = trainer("td3", **{"replay.noise_repeat": 16})
    rows = acted(one, 40)
    added = {}
    for _, counter, obs, action in rows:
        policy = one.algorithm.act(
            one.config.algorithm,
            one.policy,
            obs,
            one.learner.act_key,
            one.algorithm.mode(one.config.algorithm, "mode"),
        )
        added.setdefault(counter, []).append(action - np.asarray(policy))
    groups = [group for group in added.values() if len(group) > 1]
    assert groups
    assert max(np.ptp(group, axis=0).max() for group in groups) < 1e-5
    assert np.ptp([group[0] for group in added.values()], axis=0).max() > 0.1
    one.close()


def test_seeds_side_by_side_hold_as_each_does_alone():
    pair = trainers("sac", 2, **{"replay.noise_repeat": 16})
    cohort = Cohort(pair)
    while cohort.env_steps < 19:
        cohort.advance()
    for _ in range(8):
        together = cohort._actions()
        cohort.part()
        alone = [one.learner.act(one.obs, one.noise_counter) for one in pair]
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
        for one, action in zip(pair, alone, strict=True):
            one.take(action)
            one.begin()
    assert pair[0].noise_counter != pair[1].noise_counter


def test_a_run_with_it_and_with_batch_statistics_resumes_exactly(tmp_path, monkeypatch):
    more = {"replay.noise_repeat": 16, "critic.trunk": "flash", "critic.head": "categorical"}
    check_resume("sac", tmp_path, monkeypatch, **more)
