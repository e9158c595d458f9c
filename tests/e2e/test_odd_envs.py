"""Episodes that never end, environments of which only one can exist, limits and ids that mislead."""

import json
import re

import gymnasium
import numpy as np
import pytest

import fewstep
from fewstep import envs, foreign
from fewstep.algos import registry
from fewstep.cli import main
from fewstep.config import resolve
from fewstep.errors import FewstepError, UsageError
from fewstep.runs import checkpoint
from fewstep.training.evaluation.evaluate import Evaluator
from fewstep.training.trainer import Trainer
from tests.e2e import odd_envs
from tests.e2e.helpers import FAST as FAST_SETS
from tests.e2e.helpers import TINY, one_line, rows, train
from tests.e2e.test_api import FAST
from tests.faults.test_resume_everything import described, go, trainer

HERE = "tests.e2e.odd_envs"
SHARED = {"training.eval_env": "shared"}


@pytest.fixture(autouse=True)
def _all_closed():
    odd_envs.OnlyOne.taken, odd_envs.OnlyOne.built, odd_envs.OneEpisode.held_by = False, 0, None


# Episodes that never end


def test_evaluation_cuts_endless_episodes_and_says_so_everywhere(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, env=f"{HERE}:OddEndless-v0", steps=200, sets=("training.eval_max_steps=30",)) == 0
    for row in rows(run / "evaluations.jsonl"):
        assert (row["lengths"], row["cut"]) == ([30, 30], [True, True])
    log = (run / "log.txt").read_text()
    assert (
        log.count("declares no time limit: evaluation episodes that have not ended are cut at 30 steps") == 1
    )
    assert "2 of 2 episodes were cut at 30 steps" in log
    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr()
    assert "declares no time limit" in shown.err
    assert "2 of 2 episodes were cut at 30 steps" in shown.out
    assert main(["report", str(run)]) == 0
    assert "Evaluation episodes were cut" in (run / "report.html").read_text()
    model, heard = fewstep.load(run), list[str]()
    with foreign.heard_by(heard.append):
        assert model.evaluate(3)[1].tolist() == [30, 30, 30]
    assert any("3 of 3 episodes were cut at 30 steps" in line for line in heard)


def test_without_a_setting_the_bound_is_ten_thousand_or_the_longer_limit():
    for limit, bound in ((None, 10_000), (50, 10_000), (50_000, 50_000)):
        vector = envs.make(odd_envs.Walk, max_episode_steps=limit)
        assert vector.longest_episode() == bound
        assert vector.longest_episode(7) == 7


def test_episodes_that_end_are_not_called_cut():
    model = fewstep.Model(TINY, "Pendulum-v1", **FAST)
    heard = list[str]()
    with foreign.heard_by(heard.append):
        assert model.evaluate(2)[1].tolist() == [200, 200]
    assert not heard


# Only one can exist


def test_a_model_builds_as_many_environments_as_it_trains_on_and_one_is_enough(tmp_path):
    model = fewstep.Model(TINY, f"{HERE}:OddOnlyOne-v0", **FAST, **SHARED).learn(50)
    assert model.action_space.high.tolist() == [2.0, 2.0]
    assert model.evaluate(3)[1].tolist() == [15, 15, 15]
    model.learn(30)
    assert odd_envs.OnlyOne.built == 1
    model.save(tmp_path / "model")
    model.close()
    assert fewstep.load(tmp_path / "model").learn(20).num_timesteps == 100


@pytest.mark.parametrize("env", ["OddOnlyOne-v0", "OddOneEpisode-v0"])
def test_without_the_setting_the_error_suggests_it_and_comes_first(env, tmp_path, capsys):
    hint = r"port 5005 is in use.*training\.eval_env=shared"
    assert train(tmp_path / "run", env=f"{HERE}:{env}") != 0
    assert re.search(hint, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
    model = fewstep.Model(TINY, f"{HERE}:{env}", **FAST)
    with pytest.raises(FewstepError, match=hint):
        model.evaluate(1)
    model.close()


def test_seeds_side_by_side_need_an_environment_each_and_are_told_so(tmp_path, capsys):
    words = [
        "train",
        TINY,
        f"{HERE}:OddOnlyOne-v0",
        "--seeds",
        "3,4",
        "--out",
        str(tmp_path / "runs"),
        "--set",
    ]
    assert main([*words, *FAST_SETS, "training.eval_env=shared"]) == 2
    one_line(capsys.readouterr().err, "port 5005 is in use", "for seed 4", "one after another")
    assert list(tmp_path.iterdir()) == []
    assert not odd_envs.OnlyOne.taken


def test_a_run_on_the_only_environment_from_beginning_to_end(tmp_path):
    """Never more than one, in training, resume, evaluation and export."""
    run, sets = tmp_path / "run", ("training.eval_env=shared",)
    assert train(run, env=f"{HERE}:OddOnlyOne-v0", steps=200, sets=sets) == 0
    assert main(["resume", str(run), "--steps", "400", "--quiet"]) == 0
    assert [row["env_steps"] for row in rows(run / "evaluations.jsonl")] == [200, 200, 400, 400]
    assert main(["evaluate", str(run), "--json"]) == 0
    assert main(["export", str(run), "--to", "numpy"]) == 0
    assert not odd_envs.OnlyOne.taken
    left = "step 200: an evaluation took the environment: the running episode of environment 0 is abandoned"
    assert left in (run / "log.txt").read_text()
    assert rows(run / "metrics.jsonl")[-1]["episode_length"] == 15.0  # those that were left do not count
    whole = tmp_path / "whole"
    assert train(whole, env=f"{HERE}:OddOnlyOne-v0", steps=400, sets=sets) == 0
    ends = [checkpoint.load(path / "checkpoints" / "000000400").groups for path in (run, whole)]
    assert all(np.array_equal(ends[0]["state"][name], value) for name, value in ends[1]["state"].items())
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert rows(run / name) == rows(whole / name)


def judge(one, shared):
    cfg = one.config.algorithm
    return Evaluator(one.algorithm, cfg, one.config.env, episodes=3, modes=["sample"], seed=2, shared=shared)


def test_in_turn_gives_the_episodes_of_side_by_side():
    one = trainer("sac", **{"training.envs": 2})
    go(one, 60)
    found = []
    for shared in (False, True):
        (row,) = judge(one, shared).evaluate(one.policy, 60, 0)
        found.append({name: row[name] for name in ("returns", "lengths", "cut")})
    assert found[0] == found[1]


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_an_evaluation_interrupted_on_the_shared_environment_leaves_no_trace_in_a_resumed_run(
    algorithm, tmp_path
):
    def evaluated(one, check=lambda: None):
        with one.lent() as shared:
            judge(one, True).evaluate(one.policy, one.env_steps, one.updates, check, shared)

    def interrupt():
        raise KeyboardInterrupt

    whole, stopped, resumed = (trainer(algorithm, **SHARED) for _ in range(3))
    for one in (whole, stopped):
        go(one, 47)
    evaluated(whole)
    with pytest.raises(KeyboardInterrupt):
        evaluated(stopped, interrupt)
    checkpoint.save(tmp_path, 47, *stopped.snapshot(), keep=1)
    resumed.restore(checkpoint.load(tmp_path / "000000047"))
    evaluated(resumed)
    if algorithm == "ppo":  # the advantages must not reach across the gap
        assert resumed.snapshot()[0]["rollout"]["truncated"][-1, 0]
    for one in (whole, resumed):
        go(one, 100)
    assert described(whole)[0] == described(resumed)[0]
    assert json.dumps(described(whole)[1]) == json.dumps(described(resumed)[1])


def test_the_spaces_of_an_environment_in_another_process_are_its_own():
    model = fewstep.Model(TINY, "FewstepTestDicts-v0", **FAST)
    other = envs.make("Pendulum-v1", watch=envs.Supervision())
    assert other.observation_space == gymnasium.make("Pendulum-v1").observation_space
    assert other.steps_per_second == 30.0
    assert model.observation_space["mode"].n == 3
    other.close()


# Limits and ids


def test_a_limit_in_the_environments_own_code_is_noticed():
    tiny = registry.get(TINY)
    overrides = {**FAST, "training.max_episode_steps": 100}
    one = Trainer(resolve(TINY, tiny.config, f"{HERE}:OddOwnLimit-v0", overrides=overrides), tiny)
    heard = list[str]()
    with foreign.heard_by(heard.append):
        go(one, 40)
    (note,) = heard
    assert "the time limit asked for is 100 steps" in note
    assert "after 15 steps" in note


def test_an_id_of_a_script_is_told_at_save_and_can_be_given_its_module_later(tmp_path):
    gymnasium.register("ScriptOnly-v0", entry_point=odd_envs.OwnLimit)
    model = fewstep.Model(TINY, "ScriptOnly-v0", **FAST).learn(30)
    heard = list[str]()
    with foreign.heard_by(heard.append):
        model.save(tmp_path / "model")
    assert "my_module:ScriptOnly-v0" in heard[0]
    gymnasium.registry.pop("ScriptOnly-v0")
    with pytest.raises(UsageError, match=r"my_module:ScriptOnly-v0.*config\.toml"):
        fewstep.load(tmp_path / "model")
    config = tmp_path / "model" / "config.toml"
    gymnasium.register("ScriptOnly-v0", entry_point=odd_envs.OwnLimit)  # as the module would
    config.write_text(config.read_text().replace('"ScriptOnly-v0"', f'"{HERE}:ScriptOnly-v0"'))
    assert main(["evaluate", str(tmp_path / "model"), "--episodes", "1"]) == 0
    assert fewstep.load(tmp_path / "model").learn(10).num_timesteps == 40
    gymnasium.registry.pop("ScriptOnly-v0")


def test_an_environment_of_other_sizes_or_bounds_is_told_before_it_is_played_on(tmp_path):
    model = fewstep.SAC("Pendulum-v1", preset="small", **{"actor.hidden": [8], "critic.hidden": [8]})
    with pytest.raises(
        UsageError, match=r"made for Pendulum-v1, observations of 3 numbers; Hopper-v4 has 11"
    ):
        model.learn(10, eval_env="Hopper-v4", eval_every=5)
    assert model.num_timesteps == 0

    def wider():
        low, high = np.float32([-5.0]), np.float32([5.0])
        return gymnasium.wrappers.RescaleAction(gymnasium.make("Pendulum-v1"), low, high)

    with pytest.raises(UsageError, match=r"actions from \[-2\.0\]; .* has \[-5\.0\]"):
        model.evaluate(1, env=wider)
    model.save(tmp_path / "model")
    with pytest.raises(
        FewstepError, match=r"observations of 3 and actions of 1 numbers, now they have 11 and 3"
    ):
        fewstep.load(tmp_path / "model", env="Hopper-v4")
