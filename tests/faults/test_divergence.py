"""A run that diverges leaves the way to the failing update; a critic that explodes is named early."""

import json

import pytest
from safetensors.numpy import load_file

from fewstep.cli import main
from fewstep.training.run.value_warning import ExplosionWatch
from tests.e2e.helpers import one_line, train


@pytest.mark.parametrize(("poison", "name"), [("weights", "state/weight"), ("metric", "totals/actor/loss")])
@pytest.mark.parametrize("per_step", [1, 3])
def test_replay_crash_finds_the_update(poison, name, per_step, tmp_path, capsys):
    """Poisoned at update 200 (counted from 0); with three updates per step it lies inside a dispatch."""
    run = tmp_path / "run"
    sets = [f"replay.updates_per_step={per_step}", "training.checkpoint_every=90", "training.eval_every=0"]
    assert train(run, sets=[*sets, "poison_at=200", f"poison={poison}"]) == 1
    file = run / "crash" / "divergence.json"
    one_line(capsys.readouterr().err, f"fewstep replay-crash {file}")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["replay-crash", str(file)]) == 0
    out = capsys.readouterr().out
    step = 50 + 200 // per_step
    assert f"update 201 (environment step {step:,}) is the first" in out
    assert f"{name}: 100% of its entries" in out
    assert "batch reward: " in out
    kept = load_file(run / "crash" / "update-000000201.safetensors")
    assert kept["state/updates"] == 200
    assert kept["batch/reward"].shape == (8,)
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {run / "crash" / "update-000000201.safetensors"}
    assert after.items() >= before.items()


def test_a_crash_before_the_first_checkpoint_starts_at_the_beginning(tmp_path, capsys):
    run = tmp_path / "run"
    sets = ["training.checkpoint_every=0", "poison_at=60", "training.eval_every=0"]
    assert train(run, sets=sets) == 1
    assert main(["replay-crash", str(run / "crash" / "divergence.json")]) == 0
    assert "update 61 (environment step 110)" in capsys.readouterr().out


def test_a_divergence_that_does_not_repeat_says_so(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, sets=["poison_at=200", "poison=metric", "training.eval_every=0"]) == 1
    config = run / "config.toml"
    config.write_text(config.read_text().replace("poison_at = 200", "poison_at = -1"))
    assert main(["replay-crash", str(run / "crash" / "divergence.json")]) == 1
    assert "does not repeat" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": 2}', "[" * 100_000, '{"format": 1, "env_steps": 1}']
)
def test_a_file_that_is_none_of_ours_is_one_line(content, tmp_path, capsys):
    file = tmp_path / "divergence.json"
    file.write_text(content)
    assert main(["replay-crash", str(file)]) == 2
    one_line(capsys.readouterr().err, "is not a reproduction file")


def test_a_missing_checkpoint_is_one_line(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, sets=["poison_at=200", "training.eval_every=0"]) == 1
    file = run / "crash" / "divergence.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"checkpoint": 199}))
    capsys.readouterr()
    assert main(["replay-crash", str(file)]) == 1
    assert "000000199 is damaged" in capsys.readouterr().err


def row(value):
    return {"env_steps": 1000, "critic/q_mean": value}


@pytest.mark.parametrize("value", [-1300.0, 0.0, 900.0, 4700.0])
def test_sound_values_raise_no_alarm(value):
    """HalfCheetah: rewards to about 10 in size, 6 actions; a million steps end with Q near 1000."""
    watch = ExplosionWatch(0.99, act_size=6)
    assert watch.warning(row(value), largest_reward=10.0) is None
    assert watch.warning({"env_steps": 1000}, largest_reward=0.0) is None


@pytest.mark.parametrize("value", [5000.0, -1e9])
def test_an_explosion_is_named_once(value):
    watch = ExplosionWatch(0.99, act_size=6)
    warning = watch.warning(row(value), largest_reward=10.0)
    assert warning is not None
    assert "\n" not in warning
    assert "learning rate" in warning
    assert watch.warning(row(value), largest_reward=10.0) is None


def test_the_warning_reaches_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(ExplosionWatch, "warning", lambda self, row, largest: f"warning: {largest > 0}")
    assert train(tmp_path / "run", steps=200) == 0
    assert "warning: True" in (tmp_path / "run" / "log.txt").read_text()
