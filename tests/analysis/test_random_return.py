"""Tasks that are not on record: random actions are played once, and the scores have a zero."""

import json

import numpy as np
import pytest

from fewstep import envs
from fewstep.analysis.runs.reading import RANDOM_RETURN, read_run
from fewstep.analysis.runs.summary import group_runs
from fewstep.analysis.statistics import comparison, random_return
from fewstep.analysis.statistics.random_return import Task, kept, measure
from fewstep.cli import main
from fewstep.experiments import schedule
from tests.analysis.fabricate import Made
from tests.analysis.test_comparison import MFPO, SAC, write
from tests.e2e import odd_envs

OWN = "tests.e2e.odd_envs:OddOwnLimit-v0"


def own(runs):
    return [Made(**(vars(run) | {"env": OWN})) for run in runs]


def play(build, longest=10_000):
    vector = envs.make(build)
    returns, cut, steps = measure(vector, longest)
    vector.close()
    return returns, cut, steps


def test_twenty_episodes_and_five_thousand_steps_are_played_from_fixed_seeds():
    returns, cut, steps = play(odd_envs.OwnLimit)
    assert (len(returns), cut, steps) == (334, 0, 334 * 15)
    rng = np.random.default_rng(0)
    assert returns[0] == pytest.approx(2 * sum(rng.uniform(-1, 1, 2).sum() for _ in range(15)), rel=1e-5)
    assert play(odd_envs.OwnLimit)[0] == returns


def test_endless_episodes_are_cut_and_bounded_in_number():
    assert play(odd_envs.Walk, longest=200)[1:] == (25, 5_000)
    returns, cut, steps = play(odd_envs.Walk, longest=20_000)
    assert (len(returns), cut, steps) == (3, 3, 60_000)


@pytest.mark.usefixtures("undrawn")
def test_a_measured_task_has_scores_and_the_report_says_how_they_came(tmp_path, capsys):
    """From the command line: kept in the runs, and not measured again."""
    paths = write(tmp_path, own((*MFPO[:3], *SAC[:3])))
    words = ["report", *map(str, paths), "--out", str(tmp_path / "report.html"), "--measure-random"]
    assert main(words) == 0
    assert capsys.readouterr().err.count("measuring the return of random actions") == 1
    assert all((path / RANDOM_RETURN).is_file() for path in paths)
    assert main(words) == 0
    assert "measuring" not in capsys.readouterr().err
    page = (tmp_path / "report.html").read_text()
    for part in ("IQM", "Performance profiles", "334 episodes, reset seeds 0 to 333"):
        assert part in page
    found = comparison.comparisons(group_runs([read_run(path) for path in paths]))[0]
    record = json.loads((paths[0] / RANDOM_RETURN).read_text())
    assert found.scales[OWN].zero == pytest.approx(np.mean(record["returns"]))
    assert found.scales[OWN].error == pytest.approx(np.std(record["returns"], ddof=1) / np.sqrt(334))


def test_a_number_for_another_task_or_a_damaged_one_is_no_number():
    good = {
        "env": "a",
        "max_episode_steps": None,
        "eval_max_steps": 7,
        "action_repeat": 1,
        "returns": [1.0, 3.0],
        "cut": 0,
    }
    assert kept(good, Task("a")).random.mean == 2.0
    assert kept(good | {"cut": 1}, Task("a", None, 7)) is not None
    for record, task in (
        (good, Task("b")),
        (good, Task("a", 9)),
        (good | {"cut": 1}, Task("a")),
        (good | {"returns": [1.0]}, Task("a")),
        (good | {"returns": [1.0, float("nan")]}, Task("a")),
        (good | {"returns": [1.0, "x"]}, Task("a")),
        ({}, Task("a")),
    ):
        assert kept(record, task) is None


def test_an_experiment_measures_once_before_its_runs(tmp_path, monkeypatch, capsys):
    """Also an environment that fails does not keep it from starting."""
    monkeypatch.setattr(schedule, "run", lambda *_: [])
    spec = tmp_path / "it.toml"
    failing = "tests.e2e.faulty_envs:NanReward-v0"
    spec.write_text(f'envs = ["{OWN}", "toy/bandit", "{failing}"]\nseeds = [0]\n[[run]]\nalgo = "sac"\n')
    for times in (1, 0):
        assert main(["experiment", str(spec), "--out", str(tmp_path / "out")]) == 0
        said = capsys.readouterr().err
        assert said.count(f"{OWN}: measuring") == times
        assert f"{failing}: no return of random actions, so no scores: reward is nan" in said
    folders = [path.parent.name for path in (tmp_path / "out").rglob(RANDOM_RETURN)]
    assert folders == ["tests.e2e.odd_envs_OddOwnLimit-v0"]
    run = write(tmp_path / "out" / folders[0] / "sac", own(SAC[:1]))[0]
    assert random_return.zero([read_run(run)]).random.episodes == 334
