"""The experiment file: what it expands to, and one clear line for everything that cannot be."""

import tomllib

import pytest

from fewstep.errors import UsageError
from fewstep.experiments import plan, spec

GOOD = """
envs = ["toy/bandit", "toy/multigoal"]
seeds = "0..2"
steps = 500
set = {"replay.learning_starts" = 100}

[[run]]
algo = "sac"
preset = "small"

[[run]]
algo = "smfp"
preset = "soft"
label = "smfp-K15"
seeds = [7]
set = {"entropy.components" = 15, "actor.hidden" = [16, 16]}
"""


def parsed(text):
    return spec.parse(tomllib.loads(text), "it.toml")


def test_everything_is_expanded_and_later_wins(tmp_path):
    jobs = plan.expand(parsed(GOOD), tmp_path)
    assert [job.name for job in jobs] == [
        "sac-small toy/bandit seed 0",
        "sac-small toy/multigoal seed 0",
        "smfp-K15 toy/bandit seed 7",
        "smfp-K15 toy/multigoal seed 7",
        "sac-small toy/bandit seed 1",
        "sac-small toy/multigoal seed 1",
        "sac-small toy/bandit seed 2",
        "sac-small toy/multigoal seed 2",
    ]
    assert len({job.path for job in jobs}) == 8
    assert jobs[2].path == tmp_path / "toy_bandit" / "smfp-K15" / "seed-7"
    assert jobs[2].config.algorithm.entropy.components == 15
    assert jobs[2].config.algorithm.actor.hidden == (16, 16)
    assert {job.config.training.steps for job in jobs} == {500}
    assert {job.config.replay.learning_starts for job in jobs} == {100}


def test_the_words_of_a_job_give_its_configuration(tmp_path):
    """What the command line makes of them is what was planned."""
    import argparse

    from fewstep.cli import train
    from fewstep.cli.common import resolved

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    for job in plan.expand(parsed(GOOD), tmp_path):
        assert job.words[0] == "train"
        assert resolved(parser.parse_args(job.words[1:])) == job.config


def test_a_started_run_is_gone_on_with_and_another_one_refused(tmp_path):
    job = plan.expand(parsed(GOOD), tmp_path)[0]
    job.path.mkdir(parents=True)
    (job.path / "config.toml").write_text(job.config.to_toml())
    again = plan.expand(parsed(GOOD), tmp_path)[0]
    assert again.words == ["resume", str(job.path), "--steps", "500", "--quiet"]
    longer = plan.expand(parsed(GOOD.replace("= 500", "= 600")), tmp_path)[0]
    assert longer.words == ["resume", str(job.path), "--steps", "600", "--quiet"]
    with pytest.raises(UsageError, match="started for 500 steps, more than the 400"):
        plan.expand(parsed(GOOD.replace("= 500", "= 400")), tmp_path)
    (job.path / "config.toml").write_text(job.config.to_toml().replace("discount = 0.99", "discount = 0.9"))
    with pytest.raises(UsageError, match="holds a run of another configuration"):
        plan.expand(parsed(GOOD), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no \[\[run\]\]"),
        ('envs = ["toy/bandit"]\nrun = 3', r"no \[\[run\]\]"),
        (GOOD.replace('seeds = "0..2"', "seed = 0"), "unknown key 'seed'; did you mean 'seeds'"),
        (GOOD.replace("label", "lable"), "run 2: unknown key 'lable'; did you mean 'label'"),
        (GOOD.replace('"0..2"', '"2..0"'), "seeds must be"),
        (GOOD.replace('"0..2"', "[-1]"), "seeds must be"),
        (GOOD.replace('"0..2"', "[0, 0]"), "names the same twice"),
        (GOOD.replace('"0..2"', "[]"), "seeds must be"),
        (GOOD.replace("= 500", "= 0"), "steps must be"),
        (GOOD.replace("= 500", "= true"), "steps must be"),
        (GOOD.replace('"toy/bandit", ', '"toy/multigoal", '), "names the same twice"),
        (GOOD.replace('envs = ["toy/bandit", "toy/multigoal"]', ""), "envs must be"),
        (GOOD.replace("smfp-K15", "../escape"), "label must be"),
        (GOOD.replace("smfp-K15", "sac-small"), "2 runs are called 'sac-small'"),
        (GOOD.replace('algo = "sac"', "algo = 1"), "algo must be"),
        (GOOD + "[resources]\ncores = 2", "unknown key 'cores'"),
        (GOOD + "[resources]\njobs = 0", "jobs must be"),
        (GOOD + "[resources]\nmemory_gb_per_job = -1", "memory_gb_per_job must be"),
    ],
)
def test_one_line_says_what_is_wrong_with_the_file(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parsed(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("it.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace('"sac"', '"sacc"'), "unknown algorithm 'sacc'; did you mean 'sac'"),
        (GOOD.replace('"small"', '"smal"'), "unknown preset of sac 'smal'"),
        (GOOD.replace("entropy.components", "entropy.component"), "entropy.component"),
        (GOOD.replace("toy/multigoal", "toy/multigaol"), "multigaol"),
    ],
)
def test_one_line_says_what_does_not_exist(text, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        plan.expand(parsed(text), tmp_path)
    assert list(tmp_path.iterdir()) == []


NESTED = """
envs = ["toy/bandit"]
steps = 5e2
seeds = [0, 1e0]
set = {"replay.learning_starts" = 50}

[[run]]
algo = "sac"
[run.set]
replay.learning_starts = 1_00
actor.hidden = [16]
[run.set.critic]
hidden = [8]

[resources]
jobs = 1.0
"""


def test_settings_may_be_nested_and_numbers_written_as_anywhere(tmp_path):
    experiment = parsed(NESTED)
    job = plan.expand(experiment, tmp_path)[1]
    assert (job.config.seed, job.config.training.steps, job.config.replay.learning_starts) == (1, 500, 100)
    assert job.config.algorithm.actor.hidden == (16,)
    assert job.config.algorithm.critic.hidden == (8,)
    assert experiment.resources.jobs == 1
    assert {type(experiment.resources.jobs), type(job.config.seed)} == {int}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NESTED.replace("actor.hidden", "actor.hiden"), r"set: unknown setting 'actor.hiden'"),
        (NESTED.replace("= [16]", '= "wide"'), r"set: actor.hidden must be a list"),
        (NESTED.replace("= 1_00", "= 0"), r"learning_starts must be at least 1"),
        (NESTED.replace('"sac"', '"sacc"'), r"unknown algorithm 'sacc'"),
        (NESTED.replace('"sac"', '"sac"\npreset = "smal"'), r"unknown preset of sac 'smal'"),
        (NESTED.replace("toy/bandit", "toy/bandti"), r"bandti"),
        (
            NESTED.replace("actor.hidden = [16]", '"critic.hidden" = [9]'),
            r"set: critic.hidden is given twice",
        ),
        (
            NESTED.replace("actor.hidden = [16]", "training.steps = 9"),
            r"set: training.steps is not set here; write steps at the top",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_file_and_run(text, message, tmp_path):
    with pytest.raises(UsageError, match=rf"^it\.toml: run 1\b.*{message}") as caught:
        plan.expand(parsed(text), tmp_path)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        spec.read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("envs = [")
    with pytest.raises(UsageError, match="not valid TOML"):
        spec.read(tmp_path / "bad.toml")
