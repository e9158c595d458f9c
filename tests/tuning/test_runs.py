"""Trials as runs: real ones of a tiny algorithm, in this process."""

import numpy as np
import pytest

from fewstep.cli import main
from fewstep.errors import FewstepError, UsageError
from fewstep.tuning.runs import Runs
from tests.e2e.helpers import rows
from tests.tuning.common import parsed

SETTINGS = {"actor.learning_rate": 0.05, "actor.hidden": (8, 8)}


class Done:
    def __init__(self, status):
        self.status = status

    def exit_status(self):
        return self.status

    def stop(self):
        raise AssertionError("a finished run is not stopped")

    def last_words(self):
        return "fewstep: it broke"


class Here:
    """Runs every job at once, in this process."""

    slots = 1

    def __init__(self):
        self.started = []

    def has_room(self, running):
        return True

    def start(self, job):
        self.started.append((job.words[0], job.entry.label, job.config.seed, job.config.training.steps))
        return Done(main(job.words))


def runs_of(root, search, executor):
    return Runs(search, root, executor, lambda entries: None, lambda: None)


def mean_return(folder, until):
    """The score by its definition: the first mode of every evaluation up to a step, episodes averaged."""
    found = [row for row in rows(folder / "evaluations.jsonl") if row["env_steps"] <= until]
    means = [np.mean(row["returns"]) for row in found if row["actions"] == found[0]["actions"]]
    return np.mean(means[-10:])


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    root = tmp_path_factory.mktemp("extended")
    executor = Here()
    search = parsed(seeds=[0, 1])
    runs = runs_of(root, search, executor)
    scores = [runs.scores({3: SETTINGS}, steps)[3] for steps in (200, 400)]
    return root, search, executor, scores


def test_a_trial_is_a_run_per_seed_and_a_rung_extends_it(extended):
    _, _, executor, _ = extended
    assert executor.started == [
        (word, "trial-0003", seed, steps)
        for word, steps in (("train", 200), ("resume", 400))
        for seed in (0, 1)
    ]


def test_the_score_is_the_mean_over_seeds_of_the_mean_return(extended):
    root, _, _, scores = extended
    folders = [root / "toy_multigoal" / "trial-0003" / f"seed-{seed}" for seed in (0, 1)]
    for steps, score in zip((200, 400), scores, strict=True):
        assert score == pytest.approx(np.mean([mean_return(folder, steps) for folder in folders]), rel=1e-12)
    assert scores[0] != scores[1]


def test_what_is_there_scores_the_same_and_is_not_run_again(extended):
    """Also at a rung that its runs are beyond: this is how an interrupted search goes on."""
    root, search, _, scores = extended
    again = Here()
    runs = runs_of(root, search, again)
    assert [runs.scores({3: SETTINGS}, steps)[3] for steps in (200, 400)] == scores
    assert again.started == []


def test_an_extended_run_evaluates_as_one_made_at_once(extended, tmp_path):
    root, search, _, scores = extended
    assert runs_of(tmp_path, search, Here()).scores({3: SETTINGS}, 400)[3] == scores[1]
    for seed in (0, 1):
        path = f"toy_multigoal/trial-0003/seed-{seed}/evaluations.jsonl"
        assert rows(tmp_path / path) == rows(root / path)


def test_other_settings_in_a_trials_folder_stop_the_search(extended):
    root, search, _, _ = extended
    with pytest.raises(UsageError, match="holds a run of another configuration"):
        runs_of(root, search, Here()).scores({3: SETTINGS | {"actor.learning_rate": 0.1}}, 200)


def test_a_run_whose_evaluations_are_gone_is_named(tmp_path):
    runs = runs_of(tmp_path, parsed(), Here())
    runs.scores({0: SETTINGS}, 200)
    (tmp_path / "toy_multigoal" / "trial-0000" / "seed-0" / "evaluations.jsonl").write_text("")
    with pytest.raises(FewstepError, match="seed-0 has no evaluation up to step 200; move it away"):
        runs.scores({0: SETTINGS}, 200)


def test_a_run_that_fails_fails_its_trial_alone(tmp_path):
    class Failing(Here):
        def start(self, job):
            return Done(1) if job.entry.label == "trial-0000" else super().start(job)

    found = runs_of(tmp_path, parsed(), Failing()).scores({0: SETTINGS, 1: SETTINGS}, 200)
    assert found[0] == "trial-0000 toy/multigoal seed 0: fewstep: it broke"
    assert isinstance(found[1], float)


def test_settings_that_exclude_each_other_fail_their_trial_alone(tmp_path):
    search = parsed(search={"training.env_restarts": [0, 1], "training.env_process": "auto"})
    executor = Here()
    refused = {"training.env_restarts": 1, "training.env_process": False}
    found = runs_of(tmp_path, search, executor).scores({0: refused}, 200)
    assert "needs training.env_process=true" in found[0]
    assert executor.started == []
