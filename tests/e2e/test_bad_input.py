"""Whatever is wrong with a request: one clear line, the right exit status, nothing left behind."""

import importlib
import shutil
import sys

import pytest

from fewstep.cli import main
from tests.e2e.helpers import TINY, one_line, rows, train

FAULTY = "tests.e2e.faulty_envs"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trian"], ["unknown command 'trian'", "did you mean 'train'?"]),
        (["train"], ["ALGO", "--help"]),
        (["train", TINY, "toy/bandit", "--stpes", "5"], ["--stpes"]),
        (["train", TINY, "toy/bandit", "--steps", "many"], ["--steps", "'many'"]),
        (["train", "mfop", "HalfCheetah-v4"], ["unknown algorithm 'mfop'", "did you mean 'mfpo'?"]),
        (["train", "no_such_module:X", "HalfCheetah-v4"], ["cannot load algorithm 'no_such_module:X'"]),
        (["train", "fewstep.errors:unknown", "toy/bandit"], ["is not a fewstep.algos.contract.Algorithm"]),
        (["train", TINY, "HalfCheeta-v4"], ["unknown environment", "did you mean 'HalfCheetah-v4'?"]),
        (["train", TINY, "no_such_module:Env-v0"], ["no_such_module"]),
        (["train", TINY, "toy/bandit", "--preset", "smal"], ["unknown preset", "'smal'"]),
        (["train", TINY, "toy/bandit", "--config", "absent.toml"], ["cannot read", "/absent.toml"]),
        (["train", TINY, "toy/bandit", "--set", "actor.st=1"], ["'actor.st'", "did you mean 'actor.std'?"]),
        (["train", TINY, "toy/bandit", "--set", "actor.std=wide"], ["actor.std must be a number", "'wide'"]),
        (["train", TINY, "toy/bandit", "--set", "actor.std=inf"], ["actor.std must be finite"]),
        (["train", TINY, "toy/bandit", "--set", "actor.std=nan"], ["actor.std must be finite"]),
        (
            ["train", TINY, "toy/bandit", "--set", "actor.learning_rate=-1"],
            ["learning_rate must be positive"],
        ),
        (["train", TINY, "toy/bandit", "--steps", "0"], ["training.steps must be at least 1, got 0"]),
        (["train", TINY, "toy/bandit", "--steps", "-3"], ["training.steps must be at least 1, got -3"]),
        (["train", TINY, "toy/bandit", "--seed", "-1"], ["seed must be from 0"]),
        (["train", TINY, "toy/bandit", "--set", "replay.batch_size=-8"], ["replay.batch_size"]),
        (["train", TINY, "toy/bandit", "--set", "training.envs=0"], ["training.envs must be at least 1"]),
        (["train", TINY, "toy/bandit", "--set", "training.eval_modes=best"], ["unknown action mode 'best'"]),
        (
            ["train", TINY, "toy/bandit", "--set", "training.eval_modes=sample,sample"],
            ["names one twice: sample, sample"],
        ),
        (["train", TINY, "CartPole-v1"], ["Discrete action space", "Box"]),
        (["train", TINY, f"{FAULTY}:Unbounded-v0"], ["infinite bounds"]),
        (["train", TINY, f"{FAULTY}:NanObservation-v0"], ["observation[1] is nan", "environment 0", "seed "]),
        (["resume", "absent"], ["absent does not exist"]),
        (["evaluate", "absent"], ["absent does not exist"]),
        (["report", "absent"], ["absent does not exist"]),
        (["cite", "mfop"], ["did you mean 'mfpo'?"]),
        (["presets", "mfop"], ["did you mean 'mfpo'?"]),
        (["check-env", "HalfCheeta-v4"], ["did you mean 'HalfCheetah-v4'?"]),
    ],
)
def test_one_line_and_nothing_left_behind(words, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = main(words)
    one_line(capsys.readouterr().err, *parts)
    assert status == (1 if "NanObservation" in words[-1] else 2)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_not_written_over(tmp_path, capsys):
    assert train(tmp_path / "run") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert train(tmp_path / "run") == 2
    one_line(capsys.readouterr().err, "already holds a run", f"fewstep resume {tmp_path / 'run'}", "--out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train(tmp_path / "file" / "run") == 2
    one_line(capsys.readouterr().err, "cannot write to", "--out")


@pytest.mark.parametrize("command", ["resume", "evaluate", "report"])
def test_a_folder_that_is_no_run(command, tmp_path, capsys):
    assert main([command, str(tmp_path)]) == 2
    one_line(capsys.readouterr().err, "is not a run: it has no config.toml")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("NanReward", ["reward is nan"]),
        ("InfiniteReward", ["reward is inf"]),
        ("LateNanObservation", ["observation[1] is nan"]),
        ("RewardArray", ["reward is an array of shape (2,)"]),
        ("WrongShape", ["observation has shape (4,)", "(3,)"]),
    ],
)
def test_a_failing_environment_is_named_and_what_was_learned_is_saved(field, message, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, env=f"{FAULTY}:{field}-v0", sets=["training.checkpoint_every=0"]) == 1
    one_line(capsys.readouterr().err, *message, "environment 0", "step 120", "seed ")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000119"]
    faulty = importlib.import_module(FAULTY)
    faulty.HEALED = True
    try:
        assert main(["resume", str(run), "--quiet"]) == 0
    finally:
        faulty.HEALED = False
    assert (run / "checkpoints" / "000000400").is_dir()


def test_weights_that_stop_being_finite_stop_the_run_and_are_kept_apart(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, steps=400, sets=["poison_at=200"]) == 1
    one_line(capsys.readouterr().err, "action[0] is nan for toy/multigoal", "total step 250")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000200"]
    assert [path.name for path in (run / "crash").iterdir()] == ["divergence.json"]
    assert main(["evaluate", str(run), "--episodes", "1"]) == 0  # the policy from before


def test_a_metric_that_stops_being_finite_stops_the_run_before_it_is_saved(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, steps=400, sets=["poison_at=200", "poison=metric"]) == 1
    one_line(capsys.readouterr().err, "actor/loss is nan at environment step 300", "fewstep replay-crash")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000200"]
    assert [row["env_steps"] for row in rows(run / "metrics.jsonl")] == [100, 200]


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    assert train(tmp_path / "run") == 0
    monkeypatch.setitem(sys.modules, "imageio", None)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--video", str(tmp_path / "film.gif")]) == 2
    one_line(capsys.readouterr().err, "pip install 'fewstep[video]'")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--episodes", "0"], ["--episodes must be at least 1"]),
        (["--seed", "-2"], ["--seed must be from 0"]),
        (["--actions", "best-of-0"], ["unknown action mode 'best-of-0'"]),
        (["--video", "film.avi"], [".mp4 or .gif"]),
        (["--video", "absent/film.mp4"], ["/absent does not exist"]),
    ],
)
def test_bad_requests_to_evaluate(words, parts, tmp_path, capsys):
    assert train(tmp_path / "run", steps=60) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), *words]) == 2
    one_line(capsys.readouterr().err, *parts)


def test_an_unexpected_error_is_one_line_and_a_traceback_with_debug(tmp_path, capsys, monkeypatch):
    def broken(arguments):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("fewstep.cli.algos.run", broken)
    assert main(["algos"]) == 70
    one_line(capsys.readouterr().err, "unexpected RuntimeError: first line", "--debug")
    with pytest.raises(RuntimeError):
        main(["algos", "--debug"])


def test_results_without_checkpoints_are_not_started_anew(tmp_path, capsys):
    """A record, and a run whose checkpoints were deleted: a resume from step 0 would erase the results."""
    assert train(tmp_path / "run", steps=40) == 0
    record, gone = tmp_path / "record", tmp_path / "gone"
    for folder in (record, gone):
        shutil.copytree(tmp_path / "run", folder)
        shutil.rmtree(folder / "checkpoints")
    (record / "log.txt").unlink()
    for folder in (record, gone):
        before = (folder / "evaluations.jsonl").read_bytes()
        capsys.readouterr()
        assert main(["resume", str(folder), "--steps", "60"]) == 2
        one_line(
            capsys.readouterr().err,
            "has results and no checkpoints and cannot go on",
            "train anew with --config",
        )
        assert (folder / "evaluations.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", "SAC", "toy/bandit"], ["unknown algorithm 'SAC'", "did you mean 'sac'?"]),
        (["train", "sac", "toy/bandit", "--sed", "5"], ["--sed 5", "`fewstep train --help`"]),
        (
            ["train", "sac", "toy/bandit", "--set", "seed=4"],
            ["seed is no setting but an argument of its own"],
        ),
        (
            ["train", "sac", "toy/bandit", "--set", "critic=4"],
            ["critic is a section, whose settings are critic."],
        ),
        (["train", "sac", "toy/bandit", "--seeds", "0..1000"], ["0..1000 names 1,001 seeds"]),
        (["rollout", "policy.c"], ["is C, which is compiled and not loaded"]),
        (["config", "nothing-like-it", "toy/bandit"], ["names are known: `fewstep algos`"]),
    ],
)
def test_what_helps_is_said(words, parts, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.c").write_text("int x;")
    assert main(words) == 2
    one_line(capsys.readouterr().err, *parts)


def test_the_home_folder_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert train("~/run", steps=20) == 0
    assert (tmp_path / "run" / "config.toml").is_file()
