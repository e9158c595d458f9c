"""The file of a search: what it says, and one line for what it may not say."""

import tomllib

import pytest

from fewstep.errors import UsageError
from fewstep.tuning import spec
from tests.tuning.common import TEXT, parsed


def test_the_file_says_it_all():
    search = parsed(trials=4, seeds="0..1", rungs=[100, 200], sampler_seed=3, batch=2)
    assert (search.trials, search.batch, search.rungs, search.steps, search.reduction) == (
        4,
        2,
        (100, 200),
        400,
        2,
    )
    assert search.entry.seeds == (0, 1)
    assert search.base.training.eval_every == 100
    assert search.base.training.steps == 400
    assert list(search.space) == ["actor.learning_rate", "actor.hidden"]


@pytest.mark.parametrize(
    ("changes", "top", "parts"),
    [
        ("", {"trails": 3}, ["unknown key 'trails'", "did you mean 'trials'?"]),
        ("", {"envs": ["toy/bandit"]}, ["unknown key 'envs'", "did you mean 'env'?"]),
        ("", {"env": ["toy/bandit"]}, ["env must be an environment id"]),
        ("", {"env": "toy/bandito"}, ["unknown environment 'toy/bandito'"]),
        ("", {"algo": "sacc"}, ["unknown algorithm 'sacc'", "'sac'"]),
        ("", {"trials": 0}, ["it.toml: trials must be at least 1, got 0"]),
        ("", {"batch": 0}, ["batch must be at least 1"]),
        ("", {"seeds": []}, ["seeds must be a list of whole numbers"]),
        ("", {"search": {}}, ["search must be a table"]),
        ("", {"set": {"actor.sdt": 1}}, ["unknown setting 'actor.sdt'", "'actor.std'"]),
        ("", {"set": {"actor.hidden": [4]}}, ["actor.hidden is both set and searched"]),
        ("", {"set": {"training.steps": 4}}, ["write steps at the top"]),
        ("", {"search": {"training.steps": [1, 2]}}, ["training.steps cannot be searched"]),
        ("", {"search": {"training.eval_every": [1, 2]}}, ["training.eval_every cannot be searched"]),
        ("", {"search": {"training.action_repeat": [1, 2]}}, ["training.action_repeat cannot be searched"]),
        ("", {"rungs": 3}, ["rungs must be a list of steps"]),
        ("", {"rungs": [400]}, ["one whole factor from 2", "got [400] with 400"]),
        ("", {"rungs": [100, 300]}, ["one whole factor from 2"]),
        ("", {"rungs": [200, 100]}, ["one whole factor from 2"]),
        ("", {"rungs": [50], "steps": 400}, ["multiples of training.eval_every (100)"]),
        ("", {"steps": 50, "rungs": []}, ["training.eval_every is 100", "within the 50 steps"]),
        ("cores = 4", {}, ["resources: unknown key 'cores'", "'cores_per_job'"]),
    ],
)
def test_one_line_says_what_cannot_be(changes, top, parts):
    with pytest.raises(UsageError) as caught:
        parsed(changes, **top)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("it.toml") or "unknown algorithm" in message
    for part in parts:
        assert part in message


def test_trials_without_a_number_are_refused():
    with pytest.raises(UsageError, match="no trials; say how many"):
        spec.parse(tomllib.loads(TEXT.replace("trials = 2\n", "")), "it.toml")
