"""MFPO through the command line, with small networks: the whole way from training to a report."""

import json

import pytest

from fewstep.cli import main
from tests.e2e.helpers import process, rows, train, without_clock

SMALL = [
    "actor.hidden=16,16",
    "critic.hidden=16,16",
    "critic.atoms=21",
    "proposals.policy=2",
    "proposals.gaussian=2",
    "actor.time_features=8",
    "actor.time_embed=8",
    "actor.candidates=3",
]


@pytest.mark.slow
def test_train_resume_evaluate_report(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, algo="mfpo", env="toy/bandit", steps=200, sets=SMALL) == 0
    assert main(["resume", str(run), "--steps", "300", "--quiet"]) == 0
    metrics = rows(run / "metrics.jsonl")
    assert [row["env_steps"] for row in metrics] == [100, 200, 300]
    assert metrics[-1]["updates"] == 251
    for name in (
        "critic/loss",
        "actor/loss",
        "divergence/loss",
        "policy/entropy",
        "temperature/alpha",
        "snis/rho",
    ):
        assert isinstance(metrics[-1][name], float), name
    assert {row["actions"] for row in rows(run / "evaluations.jsonl")} == {"best-of-3", "sample"}
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json", "--actions", "best-of-5"]) == 0
    assert json.loads(capsys.readouterr().out)["actions"] == "best-of-5"
    assert main(["report", str(run), "--out", str(tmp_path / "report.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert "toy/bandit" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_two_processes_write_the_same_bytes_with_a_cold_and_a_warm_compilation_cache(tmp_path):
    words = ["train", "mfpo", "Pendulum-v1", "--steps", "150", "--seed", "5", "--quiet"]
    sets = ["replay.learning_starts=50", "replay.batch_size=16", "training.log_every=50", *SMALL]
    for name in ("cold", "warm"):
        environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
        running = process(*words, "--out", tmp_path / name, "--set", *sets, env=environment)
        _, errors = running.communicate(timeout=300)
        assert running.returncode == 0, errors
    assert any((tmp_path / "cache").iterdir())
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        cold, warm = (without_clock(tmp_path / run / name) for run in ("cold", "warm"))
        assert cold == warm
        assert len(cold) > 100
