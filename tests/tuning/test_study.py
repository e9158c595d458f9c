"""The order of trials, pruning and what is kept, with scores that are a formula in place of runs."""

import math

import optuna
import pytest

from fewstep.errors import UsageError
from fewstep.tuning import report, study
from tests.tuning.common import facts, parsed


def objective(settings, steps):
    """Best at a learning rate of 0.1, and better the longer it runs."""
    return -abs(math.log10(settings["actor.learning_rate"]) + 1) - 100 / steps


def score(trials, steps):
    return {number: objective(settings, steps) for number, settings in trials.items()}


def search_of(**top):
    return parsed(**({"trials": 9, "batch": 2, "rungs": [100, 200], "seeds": [0]} | top))


def carry_out(search, folder, scores=score, observe=lambda trial: None):
    file = study.open_file(search, folder)
    study.run(search, file, scores, observe)
    return file


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return carry_out(search_of(), tmp_path_factory.mktemp("whole"))


def test_every_trial_ends_and_the_best_is_that_of_the_formula(undisturbed):
    trials = undisturbed.get_trials()
    assert [trial.number for trial in trials] == list(range(9))
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    for trial in trials:
        assert trial.value == objective(trial.params, trial.last_step)
    best = report.ranked(trials)[0]
    assert best.value == max(trial.value for trial in trials if trial.last_step == 400)


def test_at_a_rung_half_of_those_that_reached_it_go_on(undisturbed):
    """Successive halving by hand: trial for trial, against those that reached the rung before."""
    for rung in (100, 200):
        seen: list[float] = []
        for trial in undisturbed.get_trials():
            if rung not in trial.intermediate_values:
                continue
            seen.append(trial.intermediate_values[rung])
            kept = sorted(seen, reverse=True)[: max(1, len(seen) // 2)]
            assert (trial.last_step > rung) == (seen[-1] in kept)


def test_only_trials_that_go_on_are_run_further(tmp_path):
    asked = []

    def scores(trials, steps):
        asked.append((steps, list(trials)))
        return score(trials, steps)

    file = carry_out(search_of(trials=2), tmp_path, scores)
    ends = {trial.number: trial.last_step for trial in file.get_trials()}
    assert asked[0] == (100, [0, 1])
    for steps, numbers in asked:
        assert numbers == [number for number, end in ends.items() if end >= steps]


class Killed(BaseException):
    """The process is gone: nothing after it is written."""


@pytest.mark.parametrize("after", range(1, 14, 2))
def test_killed_while_trials_run_and_continued_it_equals_undisturbed(after, tmp_path, undisturbed):
    calls = []

    def scores(trials, steps):
        calls.append(steps)
        if len(calls) % after == 0 and len(calls) <= 2 * after:
            raise Killed
        return score(trials, steps)

    while True:
        try:
            file = carry_out(search_of(), tmp_path, scores)
            break
        except Killed:
            continue
    assert facts(file.get_trials()) == facts(undisturbed.get_trials())


def test_killed_between_two_trials_of_a_batch_it_equals_undisturbed(tmp_path, undisturbed):
    def die(trial):
        raise Killed

    for number in range(9):
        with pytest.raises(Killed):
            carry_out(search_of(), tmp_path, observe=die)
        there = study.open_file(search_of(), tmp_path).get_trials()
        assert facts(there) == facts(undisturbed.get_trials()[: number + 1])


def test_more_trials_go_on_as_if_they_had_been_asked_for_at_first(tmp_path, undisturbed):
    carry_out(search_of(trials=3), tmp_path)  # three trials in batches of two: the last is half a batch
    assert facts(carry_out(search_of(), tmp_path).get_trials()) == facts(undisturbed.get_trials())


def test_the_sampler_seed_decides(tmp_path, undisturbed):
    other = carry_out(search_of(sampler_seed=1), tmp_path).get_trials()
    assert other[0].params != undisturbed.get_trials()[0].params


def test_a_failed_trial_is_kept_with_its_reason_and_not_run_again(tmp_path):
    def scores(trials, steps):
        return {n: "it broke" if n == 1 else objective(s, steps) for n, s in trials.items()}

    file = carry_out(search_of(trials=4), tmp_path, scores)
    assert [trial.state.name == "FAIL" for trial in file.get_trials()] == [False, True, False, False]
    assert file.get_trials()[1].user_attrs == {"failure": "it broke"}
    carry_out(search_of(trials=4), tmp_path, scores=None)
    page = report.page(search_of(trials=4), file)
    assert "1 failed" in page
    assert "- trial-0001: it broke" in page


@pytest.mark.parametrize(
    ("top", "named"),
    [({"steps": 800, "rungs": []}, "steps, rungs"), ({"batch": 3}, "batch"), ({"seeds": [1]}, "seeds")],
)
def test_another_search_in_the_folder_is_refused(top, named, tmp_path, undisturbed):
    carry_out(search_of(trials=1), tmp_path)
    with pytest.raises(UsageError, match=f"holds a search with another {named}; choose another --out"):
        study.open_file(search_of(**top), tmp_path)


@pytest.mark.parametrize("content", [b"", b"no database"])
def test_a_file_that_is_no_study_is_refused(content, tmp_path):
    (tmp_path / study.FILE).write_bytes(content)
    with pytest.raises(UsageError, match="is not the study of a search; choose another --out"):
        study.open_file(search_of(), tmp_path)


def test_a_study_killed_while_it_was_made_is_made_anew(tmp_path):
    (tmp_path / f".{study.FILE}.tmp").write_bytes(b"half a database")
    assert study.open_file(search_of(), tmp_path).get_trials() == []


def test_without_rungs_no_trial_is_pruned(tmp_path):
    file = carry_out(search_of(rungs=[], trials=5), tmp_path)
    assert {(trial.state.name, trial.last_step) for trial in file.get_trials()} == {("COMPLETE", 400)}


def test_the_files_of_the_result(tmp_path):
    search = search_of(rungs=[], trials=8)
    file = carry_out(search, tmp_path)
    names = [path.name for path in report.write(search, file, tmp_path)]
    assert names == ["trials.csv", "best.toml", "slices.svg", "tune.md"]
    shares = report.importance(file)
    assert list(shares) == ["actor.learning_rate", "actor.hidden"]  # only the first is in the formula
    assert sum(shares.values()) == pytest.approx(1)
    page = (tmp_path / "tune.md").read_text()
    assert f"| actor.learning_rate | {shares['actor.learning_rate']:.2f} |" in page
    best = report.ranked(file.get_trials())[0]
    assert f"learning_rate = {best.params['actor.learning_rate']!r}" in (tmp_path / "best.toml").read_text()
    rows = (tmp_path / "trials.csv").read_text().splitlines()
    assert rows[0] == "trial,state,score,steps,actor.learning_rate,actor.hidden,failure"
    assert len(rows) == 9
    assert rows[1].startswith(f"0,complete,{file.get_trials()[0].value!r},400,")
    first = (tmp_path / "slices.svg").read_bytes()
    report.write(search, file, tmp_path)
    assert (tmp_path / "slices.svg").read_bytes() == first


def test_importance_is_not_told_from_few_or_equal_scores(tmp_path):
    file = carry_out(
        search_of(rungs=[], trials=5), tmp_path, lambda trials, steps: dict.fromkeys(trials, 1.0)
    )
    assert report.importance(file) == {}
    assert "if their scores differ" in report.page(search_of(rungs=[], trials=5), file)


def test_nothing_whole_makes_no_best(tmp_path):
    search = search_of(trials=2)
    file = carry_out(search, tmp_path, lambda trials, steps: dict.fromkeys(trials, "no"))
    assert [path.name for path in report.write(search, file, tmp_path)] == ["trials.csv", "tune.md"]
    assert "No trial was run to the end." in (tmp_path / "tune.md").read_text()


def test_distributions_are_optunas():
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from fewstep.tuning.space import Choices, Interval

    assert study.distribution(Interval(1e-3, 1.0, False, log=True)) == FloatDistribution(1e-3, 1.0, log=True)
    assert study.distribution(Interval(0.0, 1.0, False, step=0.25)) == FloatDistribution(0.0, 1.0, step=0.25)
    assert study.distribution(Interval(32, 128, True, step=32)) == IntDistribution(32, 128, step=32)
    assert study.distribution(Interval(1, 128, True, log=True)) == IntDistribution(1, 128, log=True)
    assert study.distribution(Choices(((4,), None))) == CategoricalDistribution(("[4]", '"none"'))
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
