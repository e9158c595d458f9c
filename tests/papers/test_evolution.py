"""Actions along training: which states are looked at, what is kept, and the picture."""

import argparse
import json

import numpy as np
import pytest

from fewstep.algos import registry
from fewstep.analysis.figures import style
from fewstep.analysis.runs.reading import read_run
from fewstep.cli import main, paper
from fewstep.errors import UsageError
from fewstep.experiments import plan, spec
from fewstep.papers import catalogue, evolution
from tests.analysis.fabricate import Made, make


def test_a_disc_on_the_blocks_way_is_behind_it():
    def at(disc, block):
        return [*disc, *block, 1.0, 0.0]

    obs = np.array(
        [
            at((0.0, 0.1), (0.0, 0.6)),  # between the block and the middle
            at((0.0, 0.9), (0.0, 0.6)),  # ready to push
            at((0.5, 0.6), (0.0, 0.6)),  # beside it
            at((0.0, 0.0), (0.0, 0.2)),  # nothing left to do
        ]
    )
    np.testing.assert_allclose(evolution.behind(obs), [1.0, -1.0, 0.0, -1.0], atol=1e-12)


def test_stages_end_with_the_training():
    assert evolution.stages(20_000) == [5_000, 10_000, 20_000]
    assert evolution.stages(1) == [1]


def test_the_picture_has_a_row_per_policy(tmp_path, monkeypatch):
    obs = np.tile(np.float32([0.1, 0.2, -0.4, 0.5, 1.0, 0.0]), (evolution.STATES, 1))
    monkeypatch.setattr(evolution, "states", lambda: obs)
    made = tmp_path / "seed-0"
    make(made, Made(env="HalfCheetah-v4", algo="smfp", seed=0))
    with pytest.raises(UsageError, match="no samples at the chosen states"):
        evolution.figure([("smfp", read_run(made))], 9.6)
    actions = np.random.default_rng(0).uniform(-1, 1, (evolution.STATES, 50, 2)).astype(np.float32)
    for steps in (10, 20):
        path = evolution.sample_file(made, steps)
        path.parent.mkdir(exist_ok=True)
        np.save(path, actions)
    with style.styled():
        drawn = evolution.figure([("smfp", read_run(made)), ("again", read_run(made))], 9.6)
    assert len(drawn.axes) == 2 * 2 * evolution.STATES
    assert [axes.get_title() for axes in drawn.axes] == ["10", "20"] * evolution.STATES + [""] * 6
    assert [axes.get_ylabel() for axes in drawn.axes if axes.get_ylabel()] == ["smfp", "again"]


def test_a_run_is_sampled_at_the_steps_asked_for(tmp_path):
    out = tmp_path / "run"
    tiny = dict(registry.get("sac").tiny) | {"replay.learning_starts": 20, "training.eval_every": 30}
    settings = [f"{name}={json.dumps(value)}" for name, value in tiny.items()]
    asked = ["train", "sac", "toy/bandit", "--steps", "30", "--out", str(out), "--set", *settings]
    assert main(asked) == 0
    obs = np.ones((evolution.STATES, 1), np.float32)
    evolution.keep(out, 30, obs)
    kept = np.load(evolution.sample_file(out, 30))
    assert kept.shape == (evolution.STATES, evolution.ACTIONS, 2)
    assert not np.array_equal(kept[0], kept[1])
    with pytest.raises(UsageError, match="its policy is of 30 steps, 60 are asked for"):
        evolution.keep(out, 60, obs)


def test_an_interrupted_item_goes_on_with_the_stage_that_it_was_in(tmp_path, monkeypatch):
    item = catalogue.item("smfp", "evolution")
    tree = catalogue.experiment(item, "tiny") | {"envs": ["toy/bandit"]}
    asked = spec.parse(tree, "test")
    done = []
    monkeypatch.setattr(evolution, "states", lambda: None)

    def carry_out(stage, out, *_):
        done.append({entry.steps for entry in stage.entries})
        for job in plan.expand(stage, out):
            job.path.mkdir(parents=True, exist_ok=True)
            (job.path / "config.toml").write_text(job.config.to_toml())
        return 0

    monkeypatch.setattr("fewstep.cli.experiment.carry_out", carry_out)

    def keep(run, steps, obs):
        file = evolution.sample_file(run, steps)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    monkeypatch.setattr(evolution, "keep", keep)
    arguments = argparse.Namespace(jobs=None, records=None, known=[], dry_run=False)
    assert paper._train(item, asked, arguments, tmp_path) == 0
    assert done == [{22}, {45}, {90}]
    last = list(tmp_path.glob("*/*/seed-0/samples/states-000000090.npy"))
    assert len(last) == len(item.labels)
    last[0].unlink()
    done.clear()
    assert paper._train(item, asked, arguments, tmp_path) == 0
    assert done == [{90}]


def test_records_have_no_policies(tmp_path, capsys):
    asked = ["paper", "smfp", "evolution", "--scale", "tiny", "--out", str(tmp_path / "out")]
    assert main([*asked, "--records", str(tmp_path)]) == 2
    assert "needs its policies, which records do not keep" in capsys.readouterr().err
