"""Side by side is the same computation: every algorithm's states agree with those of single runs."""

import jax
import numpy as np
import pytest

from fewstep.algos import registry
from fewstep.config import resolve
from fewstep.errors import FewstepError
from fewstep.training import state_io
from fewstep.training.several import stacked
from fewstep.training.several.cohort import Cohort
from fewstep.training.trainer import Trainer
from tests.algos.common import representatives
from tests.e2e.helpers import TINY

SETTINGS = {
    "replay.learning_starts": 20,
    "replay.batch_size": 16,
    "replay.capacity": 2000,
    "replay.updates_per_step": 1.0,
}
SEEDS = 4
TOLERANCE = 1e-3
"""Relative. Measured after 200 updates: 1e-6 for SAC and TD3, 1e-5 for CrossQ and SMFP, 6e-5 for MFPO."""
ALGORITHMS = [*representatives(), TINY]


def trainers(name, count=SEEDS, env="toy/multigoal", **overrides):
    """Small trainers of seeds 0, 1, ..."""
    algorithm = registry.get(name)
    small = dict(algorithm.tiny) | (SETTINGS if algorithm.rollout is None else {})
    return [
        Trainer(resolve(name, algorithm.config, env, seed=seed, overrides=small | overrides), algorithm)
        for seed in range(count)
    ]


def difference(one, other):
    """The largest difference of two states' floats, each array's relative to its largest entry; what is no
    float must be equal."""
    left, right = (state_io.to_arrays(trainer.learner.state) for trainer in (one, other))
    worst = 0.0
    assert left.keys() == right.keys()
    for name, array in left.items():
        if np.issubdtype(array.dtype, np.floating):
            scale = max(float(np.abs(array).max(initial=0.0)), 1e-6)
            worst = max(worst, float(np.abs(array - right[name]).max(initial=0.0)) / scale)
        else:
            assert np.array_equal(array, right[name]), name
    return worst


@pytest.mark.parametrize("name", ALGORITHMS)
def test_four_seeds_side_by_side_learn_what_each_learns_alone(name):
    """200 steps of given random actions, so that no difference of an action can change the data."""
    alone, together = trainers(name), trainers(name)
    random = np.random.default_rng(0)
    states, totals = (stacked.stack(part) for part in zip(*(t.learner.lend() for t in together), strict=True))
    update, updates = stacked.updates(together[0].learner.update), 0
    for _ in range(219):
        data = []
        for trainer in alone:
            trainer.take(random.uniform(-1, 1, (1, trainer.spec.act_size)).astype(np.float32))
            due = trainer.due()
            if due is not None:
                trainer.learner.learn(due)
                data.append(due)
        if data:
            states, totals = update(states, totals, jax.tree.map(lambda *leaves: np.stack(leaves), *data))
            updates += 1
    assert updates == alone[0].updates
    assert updates == (200 if alone[0].algorithm.rollout is None else 219 // 4)
    for index, (one, other) in enumerate(zip(alone, together, strict=True)):
        other.learner.take_back(stacked.lane(states, index), stacked.lane(totals, index))
        other.learner.count(updates)
        assert difference(one, other) < TOLERANCE
        means = other.learner.take_means()
        for metric, value in one.learner.take_means().items():
            assert means[metric] == pytest.approx(value, rel=1e-3, abs=1e-4), metric


@pytest.mark.parametrize("name", ALGORITHMS)
def test_four_runs_side_by_side_are_those_of_each_alone(name):
    """40 updates with the policy's own actions fed back through the environment."""
    alone, together = trainers(name), trainers(name)
    cohort = Cohort(together)
    for _ in range(59):
        assert cohort.advance() == {}
        for trainer in alone:
            trainer.advance()
    cohort.part()
    for one, other in zip(alone, together, strict=True):
        assert one.updates == other.updates
        np.testing.assert_allclose(one.obs, other.obs, rtol=1e-3, atol=1e-3)
        assert difference(one, other) < TOLERANCE


def test_a_condition_on_the_count_of_updates_stays_one():
    """TD3's actor learns at every second update; vmapped as data the count would compute it at each."""
    [trainer] = trainers("td3", 1)
    states, totals = (stacked.stack([part, part]) for part in trainer.learner.lend())
    batch = jax.tree.map(lambda leaf: np.zeros((2, 1, *leaf.shape), leaf.dtype), trainer.experience.example())
    text = str(jax.make_jaxpr(stacked.updates(trainer.learner.update))(states, totals, batch))
    assert "cond[" in text


def test_parting_and_joining_change_nothing():
    often, never = (trainers(TINY, 2, **{"training.envs": 2}) for _ in range(2))
    first, second = Cohort(often), Cohort(never)
    for _ in range(50):
        first.advance()
        first.part()
        second.advance()
    second.part()
    for one, other in zip(often, never, strict=True):
        left, right = one.snapshot(), other.snapshot()
        assert left[1] == right[1]
        for group, arrays in left[0].items():
            for name, array in arrays.items():
                assert np.array_equal(array, right[0][group][name]), name


def test_only_those_in_step_go_on_together():
    first, second = trainers(TINY, 2)
    second.advance()
    with pytest.raises(FewstepError, match=r"seed 1 has 1 env_steps and seed 0 0: .* one by one"):
        Cohort([first, second])


def test_updates_that_are_due_for_some_only_are_refused():
    """One of the two has lost its replay and must collect again first."""
    first, second = trainers(TINY, 2)
    cohort = Cohort([first, second])
    second.experience.restart(5, second.experience.snapshot()[1])
    for _ in range(19):
        cohort.advance()
    with pytest.raises(FewstepError, match="updates are due for 1 of 2 seeds"):
        cohort.advance()
    cohort.part()
    assert first.env_steps == second.env_steps == 20
    assert first.updates == second.updates == 0
