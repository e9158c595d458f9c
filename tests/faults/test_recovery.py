"""After an exception in a step, wherever, learning can go on: the episode is abandoned, and that is said."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest

import fewstep
from fewstep.config import resolve
from fewstep.errors import FewstepError
from fewstep.runs import checkpoint
from fewstep.training.trainer import Trainer
from fewstep.types import Transition
from tests.e2e import tiny_algorithm
from tests.e2e.helpers import TINY
from tests.faults import habits
from tests.faults.habits import throw

HABIT = "tests.faults.habits:Habit-v0"
LOOP = {"replay.learning_starts": 20, "replay.batch_size": 8, "replay.capacity": 1000}
LENGTH = 16


def on_policy(cfg, state, data):
    """The tiny algorithm's update, of a rollout."""
    rows = jax.tree.map(lambda field: field.reshape(-1, *field.shape[2:]), data)
    return tiny_algorithm.update(
        cfg, state, Transition(rows.obs, rows.action, rows.reward, rows.terminated, rows.next_obs)
    )


ON_POLICY = dataclasses.replace(
    tiny_algorithm.ALGORITHM, name="on-policy", update=on_policy, rollout=lambda cfg: LENGTH
)


@pytest.fixture(autouse=True)
def plan():
    yield habits.PLAN
    habits.PLAN.clear()


def trainer(algorithm=tiny_algorithm.ALGORITHM, **more):
    config = resolve(TINY, algorithm.config, HABIT, seed=4, overrides=LOOP | more)
    made = Trainer(config, algorithm)
    made.seen = []
    learn = made.learner.learn
    made.learner.learn = lambda data: made.seen.append(data) or learn(data)
    return made


def go(one, until):
    while one.env_steps < until:
        one.advance()


def once(moment, wanted, error):
    """Raise it there once, in the second of several environments: the first has been stepped then."""
    last = []

    def hook(env):
        if env.life == wanted and not habits.PLAN.get("done"):
            last.append(env)
            if len(last) == habits.PLAN.get("which", 1):
                habits.PLAN["done"] = True
                raise error

    habits.PLAN[moment] = hook


def sound(rows):
    """Every row holds two observations of one episode, one step apart."""
    before, after = rows["obs"], rows["next_obs"]
    assert np.array_equal(after[..., 1], before[..., 1] + 1)
    assert np.array_equal(after[..., 0], before[..., 0])


def described(one):
    groups, meta = one.snapshot()
    flat = {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}
    return {name: (a.dtype, a.shape, np.asarray(a, order="C").tobytes()) for name, a in flat.items()}, meta


ERRORS = [KeyboardInterrupt(), RuntimeError("unstable"), SystemExit(0)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("count", [1, 3])
def test_learning_goes_on_after_a_step(error, count, plan, caplog):
    plan["which"] = min(2, count)
    once("step", 50, error)
    one = trainer(**{"training.envs": count})
    with caplog.at_level(logging.WARNING), pytest.raises((KeyboardInterrupt, FewstepError)):
        go(one, 100 * count)
    assert one.env_steps == 49 * count
    before = one.interval()
    assert before["episodes"] == 2 * count
    with caplog.at_level(logging.WARNING):
        go(one, 89 * count)
    assert len(caplog.records) == 1
    assert "is abandoned and a new one begins" in caplog.text
    # Steps 41 to 49 were of an episode that counts nowhere; of the 40 after them two were whole.
    after = one.interval()
    assert (after["episodes"], after["episode_length"]) == (4 * count, habits.LENGTH)
    groups, _ = one.snapshot()
    sound(groups["replay"])
    assert len(groups["replay"]["reward"]) == one.env_steps
    one.close()


@pytest.mark.parametrize("failed", [1, 2])
def test_learning_goes_on_after_a_reset(failed, plan, caplog):
    """The finished episode counts and its last step is kept; nothing is abandoned, so nothing is said."""
    tried = []
    plan["reset"] = lambda env: (
        env.life == 40 and (tried.append(1), len(tried) <= failed and throw(OSError("no")))
    )
    one = trainer()
    for _ in range(failed):
        with pytest.raises(FewstepError, match="reset raised OSError: no"):
            go(one, 100)
        assert (one.env_steps, one.episodes) == (40, 2)
    go(one, 100)
    assert one.episodes == 5
    rows = one.snapshot()[0]["replay"]
    assert len(rows["reward"]) == 100
    sound(rows)
    assert not caplog.records
    one.close()


@pytest.mark.parametrize("moment", ["step", "add", "due", "reset"])
def test_a_rollout_never_splices_two_episodes(moment, plan, monkeypatch):
    """Wherever the step is cut short, also when it has just filled the rollout."""
    one = trainer(ON_POLICY, **{"training.envs": 2})
    error = KeyboardInterrupt()
    for wanted in (2 * LENGTH, 4 * LENGTH + 10, 7 * LENGTH - 2):
        done = []
        with monkeypatch.context() as patch:
            if moment in ("step", "reset"):
                fail = lambda env, wanted=wanted, done=done: (  # noqa: E731
                    env.life >= wanted // 2 and not done and (done.append(1), throw(error))
                )
                patch.setitem(plan, moment, fail)
            else:
                wrapped = getattr(one.experience, moment)

                def fail(*args, wrapped=wrapped, wanted=wanted, done=done):
                    if one.env_steps >= wanted and not done:
                        done.append(1)
                        raise error
                    return wrapped(*args)

                patch.setattr(one.experience, moment, fail)
            with pytest.raises(KeyboardInterrupt):
                go(one, 1000)
        go(one, one.env_steps + 3 * LENGTH)
    go(one, 500)
    assert len(one.seen) > 10
    for data in one.seen:
        rows = {name: field[0] for name, field in data._asdict().items()}
        sound(rows)
        ended = rows["truncated"] | rows["terminated"]
        follows = (rows["next_obs"][:-1] == rows["obs"][1:]).all(-1)
        assert (follows | ended[:-1]).all()
        assert not (ended[:-1] & follows).any()
    one.close()


@pytest.mark.parametrize("overlap", [False, True])
def test_a_resume_after_it_is_exact(overlap, plan, tmp_path):
    once("step", 50, RuntimeError("unstable"))
    whole = trainer(**{"replay.overlap": overlap})
    with pytest.raises(FewstepError):
        go(whole, 100)
    at_once, _ = whole.snapshot()
    assert len(at_once["episodes"]["actions_0"]) == 9  # what was not completed is not played again
    for cut in (55, 75):  # in the episode that began after it, and in the next
        go(whole, cut)
        written = checkpoint.save(tmp_path, cut, *whole.snapshot(), keep=1)
        resumed = trainer(**{"replay.overlap": overlap})
        assert resumed.restore(checkpoint.load(written)) == []
        go(resumed, cut + 15)
        go(whole, cut + 15)
        (found, meta), (expected, expected_meta) = described(resumed), described(whole)
        assert found == expected
        assert json.dumps(meta) == json.dumps(expected_meta)
        resumed.close()
    whole.close()


def test_the_python_api_goes_on(plan, caplog):
    once("step", 75, KeyboardInterrupt())
    model = fewstep.Model(TINY, HABIT, **LOOP)
    with pytest.raises(KeyboardInterrupt):
        model.learn(100)
    assert model.num_timesteps == 74
    model.predict(np.zeros(3))
    assert model.learn(100).num_timesteps == 174
    assert len(caplog.records) == 1
    model.close()


def test_a_process_that_has_died_is_started_again_by_the_next_learn(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("BREAKS_ONCE", str(tmp_path / "broken"))
    more = {"training.env_process": True}
    model = fewstep.Model(TINY, "tests.faults.breaking_envs:Exits-v0", **LOOP, **more)
    with pytest.raises(FewstepError, match="exited with status 3"):
        model.learn(150)
    assert model.num_timesteps == 119
    assert model.learn(50).num_timesteps == 169
    model.close()


def test_environments_are_closed_where_the_first_reset_fails(plan):
    closed = []
    plan["reset"] = lambda env: throw(OSError("no"))
    plan["close"] = closed.append
    with pytest.raises(FewstepError, match="reset raised"):
        fewstep.Model(TINY, HABIT, **LOOP)
    assert len(closed) == 1
