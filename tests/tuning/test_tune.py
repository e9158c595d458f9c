"""``fewstep tune`` as a command: real processes, killed and continued, and its errors."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
import tomllib

import pytest

from fewstep.cli import main
from fewstep.config import resolve
from tests.e2e import tiny_algorithm
from tests.e2e.helpers import TINY, one_line, process, rows
from tests.tuning.common import TEXT

RUNS = "toy_multigoal/trial-*/seed-*"


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "it.toml"
    path.write_text(TEXT)
    return path


def wait_for(done, process, seconds=240):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_stopped_and_continued_it_ends_like_an_undisturbed_search(spec, tmp_path, capsys):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(["tune", str(spec), "--out", str(whole)]) == 0
    out, err = capsys.readouterr()
    assert "2 of 2 trials were scored" in out
    assert "trial-0000: complete" in err

    first = process("tune", spec, "--out", broken)
    wait_for(lambda: list(broken.glob("toy_multigoal/trial-0000/seed-0/evaluations.jsonl")), first)
    first.kill()  # its run goes on by itself
    first.communicate()
    second = process("tune", spec, "--out", broken)
    wait_for(lambda: list(broken.glob("toy_multigoal/trial-0001/seed-0/evaluations.jsonl")), second)
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=240)
    assert second.returncode in (143, 0)  # 0: it was over before the signal
    assert main(["tune", str(spec), "--out", str(broken)]) == 0

    for name in ("trials.csv", "best.toml", "tune.md", "slices.svg"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    folders = sorted(path.relative_to(whole) for path in whole.glob(RUNS))
    assert folders == sorted(path.relative_to(broken) for path in broken.glob(RUNS))
    for folder in folders:
        evaluations = {
            root: {
                (row["env_steps"], row["actions"]): row for row in rows(root / folder / "evaluations.jsonl")
            }
            for root in (whole, broken)
        }
        assert evaluations[whole] == evaluations[broken]

    best = tomllib.loads((whole / "best.toml").read_text())
    config = resolve(TINY, tiny_algorithm.TinyConfig, "toy/multigoal", file=whole / "best.toml")
    assert config.algorithm.actor.learning_rate == best["actor"]["learning_rate"]
    assert config.training.eval_every == 100


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_two_workers_run_each_trial_once_and_find_what_one_finds(tmp_path, capsys):
    """Workers are the jobs of one command; a second command on the folder is refused and disturbs nothing."""
    spec, one, two = (tmp_path / name for name in ("it.toml", "one", "two"))
    spec.write_text(TEXT.replace("trials = 2", "trials = 3\nbatch = 3").replace("rungs = [200]\n", ""))
    assert main(["tune", str(spec), "--out", str(one)]) == 0
    capsys.readouterr()
    spec.write_text(spec.read_text().replace("jobs = 1", "jobs = 2"))
    working = process("tune", spec, "--out", two)
    wait_for(lambda: list(two.glob("toy_multigoal/trial-*/seed-0/evaluations.jsonl")), working)
    assert main(["tune", str(spec), "--out", str(two)]) == 1
    one_line(capsys.readouterr().err, str(two), "is being written by another process")
    assert working.wait(240) == 0, working.communicate()

    for name in ("trials.csv", "best.toml"):
        assert (two / name).read_bytes() == (one / name).read_bytes(), name
    together = {}
    for folder in (one, two):
        runs = sorted(folder.glob(RUNS))
        assert len(runs) == 3
        for run in runs:
            assert "resumed" not in (run / "log.txt").read_text()
            assert [row["env_steps"] for row in rows(run / "metrics.jsonl")] == [100, 200, 300, 400]
        # A run's settings are its first file and its rows grow: their times show which were at work together.
        times = [
            ((run / "config.toml").stat().st_mtime, (run / "metrics.jsonl").stat().st_mtime) for run in runs
        ]
        together[folder] = sum(a < end and end_a > begin for begin, end in times for a, end_a in times) - 3
    assert together[one] == 0
    assert together[two] > 0


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("trials = 2", "trials = 0", ["trials must be at least 1"]),
        (
            "actor.hidden = [[4], [8, 8]]",
            "actor.hiden = [[4], [8]]",
            ["'actor.hiden'", "did you mean 'actor.hidden'?"],
        ),
        ("high = 1,", "high = 1e-4,", ["low must be less than high"]),
        ("actor.hidden = [[4], [8, 8]]", "training.steps = [1, 2]", ["training.steps cannot be searched"]),
        ("jobs = 1", "jobs = 5000", ["5000 jobs", "lower jobs"]),
        ("[search]", "[search", ["is not valid TOML"]),
    ],
)
def test_errors_are_one_line_and_leave_nothing(old, new, parts, spec, tmp_path, capsys):
    assert old in TEXT
    spec.write_text(TEXT.replace(old, new))
    assert main(["tune", str(spec), "--out", str(tmp_path / "out")]) == 2
    one_line(capsys.readouterr().err, *parts)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["tune", str(tmp_path / "no.toml")]) == 2
    one_line(capsys.readouterr().err, "cannot read", "no.toml")


def test_without_optuna_one_line_says_how_to_get_it(spec, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else find(name, *rest)
    )
    assert main(["tune", str(spec), "--dry-run"]) == 2
    one_line(capsys.readouterr().err, "needs Optuna", "pip install 'fewstep[tune]'")


def test_a_dry_run_says_what_is_searched_and_writes_nothing(spec, tmp_path, capsys):
    assert main(["tune", str(spec), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "actor.learning_rate: 0.001 to 1 (log)" in out
    assert "actor.hidden: one of [4], [8, 8]" in out
    assert "2 trials of 1 x 400 steps" in out
    assert "at 200 steps about one trial in 2 goes on" in out
    assert not (tmp_path / "out").exists()


def test_optuna_is_imported_by_a_search_alone(spec, tmp_path):
    """Not by the other commands, nor by reading the file."""
    program = (
        "import sys; from fewstep.cli import main; main(['algos']); "
        f"assert main(['tune', {str(spec)!r}, '--dry-run']) == 0; assert 'optuna' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
