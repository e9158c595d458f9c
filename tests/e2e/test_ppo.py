"""PPO through the loop: rollouts whole, in order, of one policy; a cut in the middle leaves no trace."""

import gymnasium
import numpy as np
import pytest

import fewstep
from fewstep.algos import registry
from fewstep.config import resolve
from fewstep.errors import FewstepError
from fewstep.runs import checkpoint
from fewstep.training.collect.rollouts import Rollouts
from fewstep.training.trainer import Trainer
from fewstep.types import Rollout, Spec
from tests.e2e.helpers import one_line, rows, without_clock

SMALL = {
    "rollout.steps": 20,
    "rollout.epochs": 2,
    "rollout.minibatches": 4,
    "actor.hidden": (8,),
    "critic.hidden": (8,),
}
SETS = [f"{name}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in SMALL.items()]


def trainer(env="toy/multigoal", envs=1, **overrides):
    algorithm = registry.get("ppo")
    named = SMALL | {"training.envs": envs} | overrides
    return Trainer(resolve("ppo", algorithm.config, env, seed=1, overrides=named), algorithm)


def record(one):
    """Every rollout that the learner is given, as it is given."""
    given = []
    learn = one.learner.learn

    def spy(data):
        given.append(data)
        learn(data)

    one.learner.learn = spy
    return given


def advance(one, until):
    while one.env_steps < until:
        one.advance()
    return one


def same(left, right):
    assert left.keys() == right.keys()
    return all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("envs", [1, 4])
def test_one_update_per_full_rollout_and_every_step_in_exactly_one(envs):
    one = trainer(envs=envs)
    given = record(one)
    advance(one, 65 * envs)
    assert one.updates == len(given) == 3
    assert int(one.learner.state.updates) == 3
    assert given[0].obs.shape == (1, 20, envs, 2)
    steps = Rollout(*(np.concatenate([field[0] for field in fields]) for fields in zip(*given, strict=True)))
    ended = steps.terminated | steps.truncated
    follows = (steps.next_obs[:-1] == steps.obs[1:]).all(-1)
    assert np.array_equal(follows, ~ended[:-1])  # across the seams between rollouts, too
    assert ended.any()
    assert not (steps.terminated & steps.truncated).any()


def test_a_time_limit_is_a_truncation_with_its_own_successor():
    one = trainer("Pendulum-v1", **{"training.max_episode_steps": 7})
    given = record(one)
    advance(one, 20)
    assert np.flatnonzero(given[0].truncated[0, :, 0]).tolist() == [6, 13]
    assert not given[0].terminated.any()
    assert not np.array_equal(given[0].next_obs[0, 6], given[0].obs[0, 7])


def test_actions_are_kept_as_they_were_drawn_and_reach_the_environment_clipped():
    one = trainer("Pendulum-v1")
    given = record(one)
    advance(one, 40)
    actions = np.concatenate([data.action[0] for data in given])
    assert np.abs(actions).max() > 1.0
    # Pendulum's reward punishes the torque it got: 0.001 u^2 with u at most 2.
    obs, reward = given[0].obs[0, :, 0], given[0].reward[0, :, 0]
    angle = np.arctan2(obs[:, 1], obs[:, 0])
    torque = 2.0 * np.clip(given[0].action[0, :, 0, 0], -1.0, 1.0)
    np.testing.assert_allclose(reward, -(angle**2 + 0.1 * obs[:, 2] ** 2 + 0.001 * torque**2), rtol=1e-3)


@pytest.mark.parametrize(
    ("cut", "envs"), [(40, 1), (47, 1), (132, 4)], ids=["between rollouts", "in a rollout", "four at once"]
)
def test_a_cut_run_goes_on_as_if_nothing_had_happened(tmp_path, cut, envs):
    whole, first, second = (trainer(envs=envs) for _ in range(3))
    advance(whole, 300)
    advance(first, cut)
    groups, _ = first.snapshot()
    assert len(groups["rollout"]["reward"]) == cut // envs % 20
    checkpoint.save(tmp_path, first.env_steps, *first.snapshot(), keep=1)
    assert second.restore(checkpoint.load_newest(tmp_path, warn=pytest.fail)) == []
    advance(second, 300)
    (groups, meta), (resumed, resumed_meta) = whole.snapshot(), second.snapshot()
    assert meta == resumed_meta
    for name, arrays in groups.items():
        assert same(arrays, resumed[name]), name


def test_rollouts_of_another_length_do_not_fit(tmp_path):
    first = advance(trainer(), 7)
    checkpoint.save(tmp_path, first.env_steps, *first.snapshot(), keep=1)
    saved = checkpoint.load_newest(tmp_path, warn=pytest.fail)
    with pytest.raises(FewstepError, match="does not fit rollouts of"):
        trainer(**{"rollout.steps": 4}).restore(saved)


def test_a_rollout_that_was_given_away_is_not_written_to():
    """The update may still be reading it."""
    from fewstep.envs import StepResult

    kept = Rollouts(2, 1, Spec(1, 1))

    def add(value):
        row, flag = np.full((1, 1), value, np.float32), np.zeros(1, bool)
        kept.add(row, row, StepResult(row, row[:, 0], flag, flag, flag, row[:, 0]))
        return kept.due(0)

    assert add(1.0) is None
    given = add(2.0)
    assert add(3.0) is None
    assert given.obs.ravel().tolist() == [1.0, 2.0]
    assert add(4.0).obs.ravel().tolist() == [3.0, 4.0]


def test_a_model_goes_on_after_loading_with_and_without_the_begun_rollout(tmp_path):
    model = fewstep.PPO("Pendulum-v1", seed=2, **SMALL)
    model.learn(50)
    model.save(tmp_path / "with", replay=True)
    model.save(tmp_path / "without")
    seen = {name: [] for name in ("with", "without")}
    for name, got in seen.items():
        fewstep.PPO.load(tmp_path / name).learn(10, got.append)
    assert {name: got[-1]["updates"] for name, got in seen.items()} == {"with": 3, "without": 2}


def test_predictions_are_actions_of_the_environment():
    model = fewstep.PPO("Pendulum-v1", seed=2, **SMALL)
    model.learn(20)
    many, _ = model.predict(np.random.default_rng(0).normal(size=(500, 3)))
    assert all(model.action_space.contains(action) for action in many)
    assert np.abs(many).max() == 2.0
    assert isinstance(model.action_space, gymnasium.spaces.Box)
    one, again = (model.predict(np.zeros(3), deterministic=True)[0] for _ in range(2))
    assert np.array_equal(one, again)


def command(tmp_path, *words, steps=100, sets=()):
    from fewstep.cli import main

    options = ["--steps", str(steps), "--out", str(tmp_path / "run"), "--quiet"]
    return main(["train", "ppo", "toy/multigoal", *options, *words, "--set", *SETS, *sets])


def test_a_run_evaluates_resumes_and_repeats_itself(tmp_path):
    from fewstep.cli import main

    quick = ["training.eval_every=40", "training.eval_episodes=2", "training.checkpoint_every=30"]
    for name in ("whole", "cut"):
        steps = 100 if name == "whole" else 50
        assert command(tmp_path / name, steps=steps, sets=[*quick, "training.log_every=20"]) == 0
    assert main(["resume", str(tmp_path / "cut" / "run"), "--steps", "100", "--quiet"]) == 0
    whole, cut = (tmp_path / name / "run" for name in ("whole", "cut"))
    assert rows(whole / "metrics.jsonl")[-1]["updates"] == 5
    assert {row["actions"] for row in rows(whole / "evaluations.jsonl")} == {"mode", "sample"}
    assert [row["returns"] for row in rows(cut / "evaluations.jsonl") if row["env_steps"] == 100] == [
        row["returns"] for row in rows(whole / "evaluations.jsonl") if row["env_steps"] == 100
    ]
    last = "checkpoints/000000100"
    states = [checkpoint.load(run / last).groups["state"] for run in (whole, cut)]
    learned = [{k: v for k, v in one.items() if k.startswith("state/")} for one in states]
    assert same(*learned)
    assert (
        without_clock(whole / "metrics.jsonl").splitlines()[0]
        == (without_clock(cut / "metrics.jsonl").splitlines()[0])
    )


def test_a_run_shorter_than_a_rollout_says_so(tmp_path):
    assert command(tmp_path, steps=10) == 0
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "no update will happen: the first could be at step 20 of 10 (one rollout, " in text


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["replay.batch_size=64"], ["--set: unknown setting 'replay.batch_size'", "rollout.minibatches"]),
        (["replay.learning_starts=5"], ["--set: unknown setting 'replay.learning_starts'"]),
        (["rollout.minibatches=3"], ["rollout.minibatches (3) must divide", "which is 20"]),
        (["training.eval_modes=best-of-4"], ["no best-of-4; use native, sample or mode"]),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_written(tmp_path, capsys, words, parts):
    assert command(tmp_path, sets=words) == 2
    one_line(capsys.readouterr().err, *parts)
    assert not (tmp_path / "run").exists()
