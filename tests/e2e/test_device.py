"""``fewstep train --set training.device_env=...``: a run like any other for every command after it."""

import json

import numpy as np
import pytest

import fewstep
from fewstep.cli import main
from fewstep.deploy import load
from fewstep.runs.layout import RunDir
from tests.docs.pages import ROOT, blocks

SETS = [
    "training.device_env=toy/bandit",
    "training.envs=4",
    "training.log_every=200",
    "training.eval_every=300",
    "training.eval_episodes=2",
    "training.checkpoint_every=300",
    "replay.learning_starts=100",
    "replay.capacity=400",
    "replay.batch_size=32",
    "actor.hidden=16,16",
    "critic.hidden=16,16",
    "actor.learning_rate=0.003",
    "critic.learning_rate=0.01",
    "temperature.automatic=false",
    "temperature.initial=0.02",
]


def command(out, steps, *more):
    sets = [word for text in (*SETS, *more) for word in ("--set", text)]
    return ["train", "sac", "toy/bandit", "--steps", str(steps), "--out", str(out), "--quiet", *sets]


def rows(path):
    timed = ("wall_seconds", "wall_env_steps_per_second")
    texts = path.read_text().splitlines()
    return [{k: v for k, v in json.loads(text).items() if k not in timed} for text in texts]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("device") / "run"
    assert main(command(out, 1000)) == 0
    return RunDir.open(out)


def test_it_leaves_what_every_run_leaves(run):
    metrics, evaluations = rows(run.metrics), rows(run.evaluations)
    assert [row["env_steps"] for row in metrics] == [200, 400, 600, 800, 1000]
    assert [row["updates"] for row in metrics] == [104, 304, 504, 704, 904]
    assert [row["episodes"] for row in metrics] == [200, 400, 600, 800, 1000]
    assert all(row["episode_length"] == 1 for row in metrics)
    assert sorted({row["env_steps"] for row in evaluations}) == [300, 600, 900, 1000]
    assert metrics[-1]["episode_return"] > metrics[0]["episode_return"] + 0.1
    assert {path.name for path in run.checkpoints.iterdir()} >= {"000000900", "000001000"}
    assert "episodes" in "".join(path.name for path in (run.checkpoints / "000001000").iterdir())


def test_the_other_commands_take_it(run, tmp_path, capsys):
    assert main(["evaluate", str(run.path), "--episodes", "3"]) == 0
    assert main(["report", str(run.path), "--out", str(tmp_path / "report.html")]) == 0
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert main(["export", str(run.path), "--to", "numpy", "--out", str(tmp_path / "policy")]) == 0
    file = tmp_path / "policy.safetensors"
    assert load(file).act(np.ones((3, 1), np.float32), noise=np.zeros((3, 2), np.float32)).shape == (3, 2)
    model = fewstep.load(run.path)
    action, _ = model.predict(np.ones(1, np.float32), deterministic=True)
    assert action.shape == (2,)
    model.learn(total_timesteps=4)
    assert model.num_timesteps == 1004
    model.close()


def test_resumed_it_is_the_run_that_was_not_stopped(run, tmp_path):
    out = tmp_path / "run"
    assert main(command(out, 600)) == 0
    assert main(["resume", str(out), "--steps", "1000", "--quiet"]) == 0
    resumed = RunDir.open(out)
    assert rows(resumed.metrics) == rows(run.metrics)
    assert rows(resumed.evaluations) == rows(run.evaluations)
    last = "000001000/state.safetensors"
    assert (resumed.checkpoints / last).read_bytes() == (run.checkpoints / last).read_bytes()
    ours, theirs = (each.policy / "policy.safetensors" for each in (resumed, run))
    assert ours.read_bytes() == theirs.read_bytes()


def test_several_seeds_in_one_process_are_refused(tmp_path, capsys):
    assert main([*command(tmp_path / "runs", 100), "--seeds", "0..1"]) == 2
    assert "training.device_env is for one run per process" in capsys.readouterr().err


def test_the_environment_of_the_page(tmp_path, monkeypatch, capsys):
    """It is sound both ways, and a run on the device is evaluated on the host's."""
    (text,) = blocks(ROOT / "docs" / "device.md", "python")
    (tmp_path / "reach.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check-env", "reach:Reach-v0"]) == 0
    sets = ["--set", "training.device_env=reach:Reach", "--set", "training.eval_episodes=2"]
    assert main(["train", "sac", "reach:Reach-v0", "--steps", "120", "--out", "run", "--quiet", *sets]) == 0
    (row, *_) = rows(tmp_path / "run" / "evaluations.jsonl")
    assert row["env_steps"] == 120
    assert max(row["lengths"]) <= 50
    assert main(["evaluate", "run", "--episodes", "1"]) == 0


def test_the_iteration_that_made_a_run_diverge_is_found(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(command(out, 1000, "critic.learning_rate=1e30")) == 1
    said = capsys.readouterr().err
    assert "fewstep replay-crash" in said
    assert main(["replay-crash", str(out / "crash" / "divergence.json")]) == 0
    found = capsys.readouterr()
    assert "the updates of an iteration are made together" in found.err
    assert "is the first that is not finite" in found.out
