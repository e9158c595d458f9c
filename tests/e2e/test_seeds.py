"""``--seeds``: every seed's run is what it would be alone, and whatever ends one or all loses nothing."""

import json
import shutil
import signal

import numpy as np
import pytest

from fewstep.cli import main
from fewstep.runs import checkpoint
from tests.e2e import seeded_faults
from tests.e2e.helpers import FAST, TINY, one_line, process, rows
from tests.e2e.helpers import train as train_one

SOME = "tests.e2e.seeded_faults:BreaksForSome-v0"


def train(out, seeds="0..2", *, env="toy/multigoal", steps=400, sets=(), algo=TINY):
    words = ["train", algo, env, "--seeds", seeds, "--steps", str(steps), "--out", str(out), "--quiet"]
    return main([*words, "--set", *FAST, *sets])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def state(run, steps):
    return checkpoint.load(run / "checkpoints" / f"{steps:09d}")


def assert_close(run, other, steps, rtol=1e-4, atol=1e-5):
    """Two runs agree: what the clock and rounding do not touch to the bit, the rest to float tolerance."""
    left, right = state(run, steps), state(other, steps)
    for name in ("updates", "episodes", "episode_index", "episode_lengths", "algo", "env", "replay"):
        assert left.meta[name] == right.meta[name], name
    for group in ("state", "replay"):
        assert left.groups[group].keys() == right.groups[group].keys()
        for name, array in left.groups[group].items():
            np.testing.assert_allclose(array, right.groups[group][name], rtol, atol, err_msg=name)
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        one, two = rows(run / name), rows(other / name)
        assert [list(row) for row in one] == [list(row) for row in two]
        assert [row["env_steps"] for row in one] == [row["env_steps"] for row in two]
    for one, two in zip(rows(run / "metrics.jsonl"), rows(other / "metrics.jsonl"), strict=True):
        assert all(two[name] == (value and pytest.approx(value, 1e-3, 1e-4)) for name, value in one.items())


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Seeds 0 to 2 of the tiny algorithm, trained together to step 400. Read it, or copy it."""
    out = tmp_path_factory.mktemp("cohort") / "runs"
    assert train(out) == 0
    return out


@pytest.fixture
def copy(cohort, tmp_path):
    return shutil.copytree(cohort, tmp_path / "copy")


def test_every_seed_gets_the_run_it_would_have_alone(cohort, tmp_path):
    assert names(cohort) == ["seed-0", "seed-1", "seed-2"]
    for seed in range(3):
        run, alone = cohort / f"seed-{seed}", tmp_path / f"alone-{seed}"
        assert train_one(alone, "--seed", str(seed)) == 0
        assert names(run) == names(alone)
        for folder in ("checkpoints", "policy", "samples"):
            assert names(run / folder) == names(alone / folder)
        assert (run / "config.toml").read_bytes() == (alone / "config.toml").read_bytes()
        assert_close(run, alone, 400)
        logs = [path.joinpath("log.txt").read_text().splitlines() for path in (run, alone)]
        assert [line[:8] for line in logs[0]] == [line[:8] for line in logs[1]]


def test_four_environments_each_and_several_updates_per_dispatch(tmp_path):
    sets = ["training.envs=4", "replay.updates_per_step=0.5"]
    assert train(tmp_path / "all", "5,3", env="Pendulum-v1", sets=sets) == 0
    for seed in (3, 5):
        assert train_one(tmp_path / str(seed), "--seed", str(seed), env="Pendulum-v1", sets=sets) == 0
        assert_close(tmp_path / "all" / f"seed-{seed}", tmp_path / str(seed), 400)


def test_the_same_command_gives_the_same_bytes(cohort, tmp_path):
    assert train(tmp_path / "again") == 0
    for seed in range(3):
        left, right = (state(folder / f"seed-{seed}", 400) for folder in (cohort, tmp_path / "again"))
        for group, arrays in left.groups.items():
            for name, array in arrays.items():
                assert np.array_equal(array, right.groups[group][name]), name


def test_one_seed_is_allowed(tmp_path):
    assert train(tmp_path / "all", "7..7", steps=120) == 0
    assert train_one(tmp_path / "7", "--seed", "7", steps=120) == 0
    assert_close(tmp_path / "all" / "seed-7", tmp_path / "7", 120)


def test_the_paths_are_printed_and_lines_say_which_seed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", TINY, "toy/bandit", "--seeds", "0,2", "--steps", "100", "--set", *FAST]
    assert main(words) == 0
    printed = capsys.readouterr()
    folder = f"{tmp_path}/runs/toy_bandit/{TINY.replace(':', '_')}"
    assert printed.out.splitlines() == [f"{folder}/seed-0", f"{folder}/seed-2"]
    lines = printed.err.splitlines()
    assert any(line.startswith("seed 0: step 100 / 100") for line in lines)
    assert any(line.startswith("seed 2: step 100 / 100") for line in lines)
    assert all(line.startswith("seed ") for line in lines)
    assert not (tmp_path / folder / "seed-2" / "log.txt").read_text().startswith("seed")


def test_every_command_reads_the_directories(copy, capsys):
    runs = [str(copy / f"seed-{seed}") for seed in range(3)]
    assert main(["report", *runs, "--out", str(copy / "report.html")]) == 0
    assert (copy / "report.html").stat().st_size > 10_000
    capsys.readouterr()
    assert main(["evaluate", runs[1], "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kept = [row for row in rows(copy / "seed-1" / "evaluations.jsonl") if row["env_steps"] == 400]
    assert [row["returns"] for row in printed] == [row["returns"] for row in kept]
    assert main(["resume", runs[2], "--steps", "450", "--quiet"]) == 0
    assert [row["env_steps"] for row in rows(copy / "seed-2" / "metrics.jsonl")][-1] == 450


def test_a_real_algorithm_is_trained_and_its_policies_exported(tmp_path):
    sets = ["actor.hidden=[8,8]", "critic.hidden=[8,8]", "training.eval_every=0"]
    assert train(tmp_path / "all", "1,4", algo="sac", env="toy/bandit", steps=60, sets=sets) == 0
    texts = []
    for seed in (1, 4):
        out = tmp_path / f"policy-{seed}.c"
        assert main(["export", str(tmp_path / "all" / f"seed-{seed}"), "--to", "c", "--out", str(out)]) == 0
        texts.append(out.read_text())
    assert texts[0] != texts[1]


def test_one_of_them_goes_on_alone_as_it_would_have(copy, tmp_path):
    assert main(["resume", str(copy / "seed-1"), "--steps", "500", "--quiet"]) == 0
    assert train_one(tmp_path / "alone", "--seed", "1", steps=400) == 0
    assert main(["resume", str(tmp_path / "alone"), "--steps", "500", "--quiet"]) == 0
    assert_close(copy / "seed-1", tmp_path / "alone", 500)


def test_a_cut_cohort_goes_on_as_if_nothing_had_happened(tmp_path):
    sets = ["training.checkpoint_every=50"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(whole, steps=400, sets=sets) == 0
    assert train(cut, steps=217, sets=sets) == 0
    runs = [str(cut / f"seed-{seed}") for seed in range(3)]
    assert main(["resume", *runs, "--steps", "400", "--quiet"]) == 0
    for seed in range(3):
        left, right = (state(folder / f"seed-{seed}", 400) for folder in (whole, cut))
        for group in ("replay", "state"):
            for name, array in left.groups[group].items():
                if not name.startswith("totals/"):
                    assert np.array_equal(array, right.groups[group][name]), name


def test_those_behind_catch_up(copy, capsys):
    """Killed in the middle of saving: one checkpoint is older than the others."""
    shutil.rmtree(copy / "seed-1" / "checkpoints" / "000000400")
    runs = [str(copy / f"seed-{seed}") for seed in range(3)]
    capsys.readouterr()
    assert main(["resume", *runs, "--steps", "500"]) == 0
    shown = capsys.readouterr().err.splitlines()
    assert "seed 1: resumed at step 200 of 500" in shown
    assert "seed 2: resumed at step 400 of 500" in shown
    for seed in range(3):
        steps = [row["env_steps"] for row in rows(copy / f"seed-{seed}" / "metrics.jsonl")]
        assert steps == [100, 200, 300, 400, 500]
        assert state(copy / f"seed-{seed}", 500).meta["updates"] == 451


def test_resuming_finished_runs_changes_nothing(copy):
    before = {path: path.read_bytes() for path in copy.rglob("*.jsonl")}
    assert main(["resume", *[str(copy / f"seed-{seed}") for seed in range(3)], "--quiet"]) == 0
    assert {path: path.read_bytes() for path in copy.rglob("*.jsonl")} == before


@pytest.mark.parametrize("fault", ["reward", "observation", "raise"])
def test_a_failing_environment_ends_its_own_seed_alone(fault, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(seeded_faults.FAILING, 1, fault)
    sets = ["training.checkpoint_every=0"]
    out = tmp_path / "all"
    assert train(out, env=SOME, sets=sets) == 1
    one_line(capsys.readouterr().err, "1 of 3 seeds failed", "seed 1: ", "step 120", "environment 0")
    assert names(out / "seed-1" / "checkpoints") == ["000000119"]
    assert "the other seeds go on" in (out / "seed-1" / "log.txt").read_text()
    seeded_faults.FAILING.clear()
    for seed in (0, 2):
        assert train_one(tmp_path / str(seed), "--seed", str(seed), env=SOME, sets=sets) == 0
        assert_close(out / f"seed-{seed}", tmp_path / str(seed), 400)
    # The cause is gone: the failed seed catches up, and all end where they would have.
    assert main(["resume", *[str(out / f"seed-{seed}") for seed in range(3)], "--quiet"]) == 0
    assert train_one(tmp_path / "1", "--seed", "1", env=SOME, sets=sets) == 0
    assert_close(out / "seed-1", tmp_path / "1", 400)


def test_all_may_fail(tmp_path, capsys, monkeypatch):
    for seed in range(3):
        monkeypatch.setitem(seeded_faults.FAILING, seed, "reward")
    assert train(tmp_path / "all", env=SOME) == 1
    one_line(capsys.readouterr().err, "3 of 3 seeds failed: seed 0: reward is nan", "also: 1, 2")
    for seed in range(3):
        assert names(tmp_path / "all" / f"seed-{seed}" / "checkpoints") == ["000000119"]


def test_weights_that_stop_being_finite_are_kept_apart(tmp_path, capsys):
    assert train(tmp_path / "all", steps=400, sets=["poison_at=200"]) == 1
    one_line(capsys.readouterr().err, "3 of 3 seeds failed", "action[0] is nan")
    for seed in range(3):
        run = tmp_path / "all" / f"seed-{seed}"
        assert names(run / "checkpoints") == ["000000200"]
        assert names(run / "crash") == ["divergence.json"]


def test_a_run_that_cannot_be_written_ends_alone(tmp_path, capsys, monkeypatch):
    """The metrics of one seed hold a NaN at step 300: it is named and left with its last checkpoint."""
    from fewstep.runs.metrics import RowWriter

    append = RowWriter.append

    def spoiled(self, row):
        if "seed-2" in str(self._path) and row["env_steps"] == 300 and "updates" in row:
            row = row | {"actor/loss": float("nan")}
        append(self, row)

    monkeypatch.setattr(RowWriter, "append", spoiled)
    assert train(tmp_path / "all") == 1
    one_line(
        capsys.readouterr().err, "1 of 3 seeds failed: seed 2: actor/loss is nan at environment step 300"
    )
    assert names(tmp_path / "all" / "seed-2" / "checkpoints") == ["000000200"]
    assert names(tmp_path / "all" / "seed-0" / "checkpoints") == ["000000200", "000000400"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_all_and_they_go_on(number, status, tmp_path):
    words = ["train", TINY, "Pendulum-v1", "--seeds", "0..2", "--out", tmp_path, "--steps", "100000000"]
    words += ["--set", "replay.batch_size=8", "replay.capacity=1000", "training.log_every=500"]
    words += ["replay.learning_starts=100", "training.eval_every=0", "training.checkpoint_every=0"]
    running = process(*words)
    for line in running.stderr:
        if line.startswith("seed 1: step 500"):
            break
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == status
    assert f"fewstep: stopped by {number.name}" in errors
    runs = [tmp_path / f"seed-{seed}" for seed in range(3)]
    saved = [checkpoint.load_newest(run / "checkpoints", pytest.fail) for run in runs]
    assert len({one.env_steps for one in saved}) == 1
    assert all(f"fewstep resume {run}" in errors for run in runs)
    total = saved[0].env_steps + 100
    assert main(["resume", *map(str, runs), "--steps", str(total), "--quiet"]) == 0
    assert all(rows(run / "metrics.jsonl")[-1]["env_steps"] == total for run in runs)


def test_a_signal_during_an_evaluation_of_one_saves_all(tmp_path):
    words = ["train", TINY, "Pendulum-v1", "--seeds", "0..1", "--out", tmp_path, "--steps", "10000", "--set"]
    words += ["training.eval_every=300", "training.log_every=300", "training.eval_episodes=1"]
    words += ["training.max_episode_steps=10000000", "training.checkpoint_every=0"]
    running = process(*words)
    for line in running.stderr:
        if "step 300" in line:
            break
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    for seed in range(2):
        assert names(tmp_path / f"seed-{seed}" / "checkpoints") == ["000000300"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--seeds", "0..4", "--seed", "0"], ["--seed", "not allowed with", "--seeds"]),
        (["--seeds", "4..0"], ["--seeds must be a range such as 0..4", "'4..0'"]),
        (["--seeds", ""], ["--seeds must be a range"]),
        (["--seeds", "-1..3"], ["--seeds"]),
        (["--seeds=-1..3"], ["--seeds must be a range", "'-1..3'"]),
        (["--seeds=0,-1"], ["--seeds must be a range"]),
        (["--seeds", "0..x"], ["--seeds must be a range"]),
        (["--seeds", "1,2,1"], ["names the same seed twice", "1,2,1"]),
        (["--seeds", "0..256"], ["257 seeds", "at most 256"]),
        (["--seeds", "0..999999999"], ["--seeds: 0..999999999 names 1,000,000,000 seeds"]),
        (["--seeds", "0,9999999999"], ["seed must be from 0"]),
        (
            ["--seeds", "0..1", "--set", "replay.overlap=true"],
            ["replay.overlap is for one run per process"],
        ),
    ],
)
def test_one_line_and_nothing_left_behind(words, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", TINY, "toy/bandit", *words]) == 2
    one_line(capsys.readouterr().err, *parts)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_refused_before_anything_starts(tmp_path, capsys):
    assert train_one(tmp_path / "seed-2", steps=60) == 0
    capsys.readouterr()
    assert train(tmp_path) == 2
    one_line(capsys.readouterr().err, "seed-2 already holds a run", "fewstep resume")
    assert names(tmp_path) == ["seed-2"]


def test_what_cannot_be_resumed_together(copy, tmp_path, capsys):
    zero, one = copy / "seed-0", copy / "seed-1"
    for words, parts in (
        ([zero, zero], ["have the same seed 0"]),
        ([zero, one, "--steps", "300"], ["already has 400 steps; --steps 300 is less"]),
        ([zero, tmp_path / "absent"], ["absent does not exist"]),
    ):
        assert main(["resume", *map(str, words), "--quiet"]) == 2
        one_line(capsys.readouterr().err, *parts)
    text = (one / "config.toml").read_text()
    (one / "config.toml").write_text(text.replace("learning_rate = 0.05", "learning_rate = 0.06"))
    assert main(["resume", str(zero), str(one), "--quiet"]) == 2
    one_line(capsys.readouterr().err, "differ in more than the seed", "one by one")
