"""``benchmarks.gpu_campaign`` at its smallest: what it does, that it goes on, what it says."""

import json

import pytest

from benchmarks import gpu_campaign, seed_costs
from fewstep.algos import registry
from fewstep.cli.common import resolved
from fewstep.cli.main import parser
from fewstep.config import resolve
from fewstep.runs import checkpoint


def call(out, *words):
    return gpu_campaign.main(["--out", str(out), "--scale", "tiny", *words])


def kept(out):
    return json.loads((out / "campaign.json").read_text())["steps"]


def test_what_the_full_one_trains_are_possible_settings():
    runs = [step for step in gpu_campaign.plan("full") if step.go is gpu_campaign.train and not step.package]
    assert [step.name for step in runs] == [
        f"runs: {algo} {env}" for env in ("HalfCheetah-v4", "Hopper-v4") for algo in ("smfp", "mfpo")
    ]
    for step in runs:
        config = resolved(parser().parse_args(["train", *step.words]))
        assert config.training.steps == 1_000_000
        assert step.seeds == 5
    for algo, critic, _ in seed_costs.rows("", [1]):
        settings = seed_costs.settings(algo, critic, tiny=False)
        record = registry.get(algo)
        config = resolve(
            algo, record.config, "HalfCheetah-v4", preset=seed_costs.PRESETS[algo], overrides=settings
        )
        assert all(
            settings[f"critic.{key}"] == getattr(config.algorithm.critic, key)
            for key in seed_costs.NAMES
            if settings
        )


def test_a_run_whose_time_is_up_is_saved_and_resumed(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "runs" / "runs-tiny"
    with monkeypatch.context() as patched:
        # A slice that ends when both seeds have logged, however fast the machine is.
        patched.setattr(gpu_campaign, "is_over", lambda _end, log: "seed 1: step 100" in log.read_text())
        assert call(tmp_path, "--only", "runs") == 0
    [found] = kept(tmp_path).values()
    assert found["state"] == "partial"
    assert 100 <= found["env_steps"] < 1500
    assert found["env_steps"] + found["env_steps_left"] == 1500
    assert capsys.readouterr().out.endswith("left: runs: tiny (partial)\n")
    saved = [checkpoint.load_newest(folder / f"seed-{i}" / "checkpoints", pytest.fail) for i in range(2)]
    assert [one.env_steps >= 100 for one in saved] == [True, True]

    assert call(tmp_path, "--only", "runs") == 0
    [found] = kept(tmp_path).values()
    assert (found["state"], found["env_steps"], found["env_steps_left"]) == ("done", 1500, 0)
    assert [steps for steps, _ in found["evaluations"]["seed-1"]] == [500, 1000, 1500]
    assert "resumed at step" in (folder / "seed-1" / "log.txt").read_text()
    assert capsys.readouterr().out.endswith("left: nothing\n")

    assert call(tmp_path, "--only", "runs") == 0
    assert capsys.readouterr().out == "left: nothing\n"


def test_what_has_failed_is_said_and_tried_again(tmp_path, monkeypatch, capsys):
    words = ["nothing:NONE", "toy/bandit", "--steps", "10"]
    step = gpu_campaign.Step("runs: wrong", 0, gpu_campaign.train, tuple(words))
    monkeypatch.setattr(gpu_campaign, "plan", lambda scale: [step])
    for _ in range(2):
        assert call(tmp_path) == 1
        assert capsys.readouterr().out.splitlines()[-1] == "left: runs: wrong (failed)"
    assert (tmp_path / "runs-wrong.txt").read_text().count("fewstep: ") == 2


def test_no_time_and_another_scale(tmp_path, capsys):
    assert call(tmp_path, "--slice-seconds", "-1") == 0
    assert capsys.readouterr().out.count("not begun") == 5
    (tmp_path / "campaign.json").write_text('{"scale": "full", "steps": {}}')
    with pytest.raises(SystemExit) as left:
        call(tmp_path)
    assert left.value.code == 2
    assert "is a campaign of --scale full" in capsys.readouterr().err


@pytest.mark.slow
def test_all_of_it(tmp_path, capsys):
    assert call(tmp_path) == 0
    assert capsys.readouterr().out.endswith("left: nothing\n")
    found = kept(tmp_path)
    assert {step["state"] for step in found.values()} == {"done"}
    assert "1 passed" in found["checks: tests"]["last_line"]
    assert found["device: toys"]["env_steps"] == 500
    [row] = json.loads((tmp_path / "seed_costs.json").read_text()).values()
    assert row["times_floor"] == pytest.approx(
        row["min_ms"] / max(row["arithmetic_ms"], row["bandwidth_ms"]), rel=0.01
    )
    assert row["per_seed_ms"] == pytest.approx(row["min_ms"] / 2, abs=1e-3)
