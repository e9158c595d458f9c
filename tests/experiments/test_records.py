"""What is kept of a finished run, and that an experiment elsewhere goes on from it."""

import json
import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from fewstep.cli import main
from fewstep.errors import UsageError
from fewstep.experiments import plan, spec
from fewstep.experiments.records import Records
from fewstep.experiments.schedule import Standing, Tracked
from fewstep.runs.layout import RunDir

SPEC = """
envs = ["toy/bandit"]
seeds = "0..1"
steps = 40

[[run]]
algo = "sac"
preset = "small"
label = "sac"
"""


def jobs_of(root, text=SPEC):
    return plan.expand(spec.parse(tomllib.loads(text), "it.toml"), root)


def finish(job, steps=40):
    """What a run leaves, as far as records are concerned."""
    run = RunDir(job.path)
    run.checkpoints.mkdir(parents=True)
    run.config.write_text(job.config.to_toml())
    run.provenance.write_text(json.dumps({"command": f"fewstep train sac --out '{job.path}'"}))
    run.metrics.write_text("{}\n")
    run.evaluations.write_text(json.dumps({"env_steps": steps, "returns": [1.0]}) + "\n")


def test_a_finished_run_is_kept_without_checkpoints_and_without_the_folder_of_this_machine(tmp_path):
    first, second = jobs_of(tmp_path / "runs")
    records = Records(tmp_path / "runs", tmp_path / "keep")
    finish(first)
    (tmp_path / "runs/toy_bandit/random_return.json").write_text("{}")
    records.take([Tracked(first, Standing.FINISHED), Tracked(second, Standing.RUNNING)])
    assert records.holds(first)
    assert not records.holds(second)
    kept = tmp_path / "keep/toy_bandit/sac/seed-0"
    assert sorted(file.name for file in kept.iterdir()) == [
        "config.toml",
        "evaluations.jsonl",
        "metrics.jsonl",
        "provenance.json",
    ]
    assert json.loads((kept / "provenance.json").read_text()) == {
        "command": "fewstep train sac --out toy_bandit/sac/seed-0"
    }
    assert (tmp_path / "keep/toy_bandit/random_return.json").exists()


def test_the_newest_samples_of_a_toy_are_kept(tmp_path):
    job = jobs_of(tmp_path / "runs")[0]
    finish(job)
    samples = RunDir(job.path).samples
    samples.mkdir()
    for name in ("actions-000000020.npy", "actions-000000040.npy", "trajectories-000000040.npz", "other.npy"):
        (samples / name).write_bytes(name.encode())
    records = Records(tmp_path / "runs", tmp_path / "keep")
    records.take([Tracked(job, Standing.FINISHED)])
    kept = records.path(job) / "samples"
    assert sorted(file.name for file in kept.iterdir()) == [
        "actions-000000040.npy",
        "trajectories-000000040.npz",
    ]


def test_a_run_without_evaluations_is_whole_by_its_metrics(tmp_path):
    text = SPEC + 'set = {"training.eval_every" = 0}\n'
    job = jobs_of(tmp_path / "runs", text)[0]
    finish(job)
    RunDir(job.path).evaluations.write_text("")
    records = Records(tmp_path / "runs", tmp_path / "keep")
    RunDir(job.path).metrics.write_text('{"env_steps": 40}\n')
    records.take([Tracked(job, Standing.FINISHED)])
    assert records.holds(job)


def test_records_are_not_kept_among_the_runs(tmp_path):
    with pytest.raises(UsageError, match="is the folder of the runs"):
        Records(tmp_path / "runs", tmp_path / "x/../runs")


def test_the_record_of_a_run_that_was_moved_says_no_folder_of_a_machine_either(tmp_path):
    finish(jobs_of(tmp_path / "a folder of before")[0])
    (tmp_path / "a folder of before").rename(tmp_path / "runs")
    records = Records(tmp_path / "runs", tmp_path / "keep")
    records.take([Tracked(jobs_of(tmp_path / "runs")[0], Standing.FINISHED)])
    kept = tmp_path / "keep/toy_bandit/sac/seed-0"
    assert json.loads((kept / "provenance.json").read_text()) == {
        "command": "fewstep train sac --out toy_bandit/sac/seed-0"
    }


def test_a_shorter_record_is_run_again_and_replaced_and_another_configuration_refused(tmp_path):
    records = Records(tmp_path / "runs", tmp_path / "keep")
    job = jobs_of(tmp_path / "runs")[0]
    finish(job)
    records.take([Tracked(job, Standing.FINISHED)])
    records = Records(tmp_path / "runs", tmp_path / "keep")
    longer = jobs_of(tmp_path / "runs", SPEC.replace("steps = 40", "steps = 80"))[0]
    assert not records.holds(longer)
    RunDir(longer.path).config.write_text(longer.config.to_toml())
    RunDir(longer.path).evaluations.write_text('{"env_steps": 80, "returns": [2.0]}\n')
    records.take([Tracked(longer, Standing.FINISHED)])
    assert records.holds(longer)
    with pytest.raises(UsageError, match="started for 80 steps"):
        records.holds(job)
    other = jobs_of(tmp_path / "runs2", SPEC.replace("40", "80") + 'set = {"critic.tau" = 0.5}')[0]
    with pytest.raises(UsageError, match="another configuration"):
        Records(tmp_path / "runs2", tmp_path / "keep").holds(other)


def test_an_experiment_in_an_empty_folder_runs_only_what_is_not_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first.toml").write_text(SPEC.replace('"0..1"', "[0]"))
    (tmp_path / "it.toml").write_text(SPEC)
    assert main(["experiment", "first.toml", "--records", "keep", "--out", "here"]) == 0
    capsys.readouterr()
    again = ["experiment", "it.toml", "--records", "keep", "--out", "there"]
    assert main([*again, "--dry-run"]) == 0
    assert "seed 0: 40 steps (recorded)" in capsys.readouterr().out
    assert main(again) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 runs are finished" in printed
    assert f"{tmp_path}/keep/*/*/seed-*" in printed
    assert not (tmp_path / "there/toy_bandit/sac/seed-0").exists()
    runs = sorted(map(str, tmp_path.glob("keep/*/*/seed-*")))
    assert len(runs) == 2
    assert main(["report", *runs, "--out", "report.html"]) == 0


def test_a_finished_run_of_the_same_configuration_is_recorded_under_the_new_label(tmp_path):
    """The number of steps and the seed belong to the configuration, the label does not."""
    theirs = jobs_of(tmp_path / "theirs")
    for job in theirs:
        finish(job)
    finish(jobs_of(tmp_path / "short", SPEC.replace('"0..1"', "[2]"))[0], steps=20)
    text = SPEC.replace('label = "sac"', 'label = "control"').replace('"0..1"', "[0, 2]")
    known = [tmp_path / "theirs", tmp_path / "short"]
    records = Records(tmp_path / "runs", tmp_path / "keep", known)
    zero, two = jobs_of(tmp_path / "runs", text)
    assert records.twin(zero) == theirs[0].path
    assert records.twin(two) is None
    for other in ("steps = 80", 'steps = 40\nset = {"critic.tau" = 0.5}'):
        changed = jobs_of(tmp_path / "other", text.replace("steps = 40", other))[0]
        assert records.twin(changed) is None
    assert not records.holds(zero)
    records.adopt(zero, theirs[0].path)
    assert records.holds(zero)
    kept = tmp_path / "keep/toy_bandit/control/seed-0"
    for name in ("config.toml", "metrics.jsonl", "evaluations.jsonl"):
        assert (kept / name).read_bytes() == (theirs[0].path / name).read_bytes()
    assert json.loads((kept / "provenance.json").read_text()) == {
        "command": "fewstep train sac --out toy_bandit/sac/seed-0"
    }


def test_schedulers_that_record_the_same_run_at_once_all_find_it_recorded(tmp_path):
    (theirs, _), (job, _) = jobs_of(tmp_path / "theirs"), jobs_of(tmp_path / "runs")
    finish(theirs)
    for attempt in range(20):
        keep = tmp_path / f"keep-{attempt}"
        together = Barrier(8)

        def adopt(keep=keep, together=together):
            records = Records(tmp_path / "runs", keep)
            together.wait()
            records.adopt(job, theirs.path)
            return records.holds(job)

        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(adopt) for _ in range(8)]
        assert all(each.result() for each in asked)
        assert [path.name for path in (keep / "toy_bandit/sac").iterdir()] == ["seed-0"]


def test_an_experiment_makes_no_run_that_another_has_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.toml").write_text(SPEC.replace('label = "sac"', 'label = "control"'))
    for job in jobs_of(tmp_path / "theirs"):
        finish(job)
    asked = ["experiment", "it.toml", "--records", "keep", "--known", "theirs"]
    assert main([*asked, "--dry-run"]) == 0
    assert f"control toy/bandit seed 0: 40 steps (made in {tmp_path}/theirs" in capsys.readouterr().out
    assert not (tmp_path / "keep").exists()
    assert main(asked) == 0
    assert "2 of 2 runs are finished" in capsys.readouterr().out
    assert len(list(tmp_path.glob("keep/toy_bandit/control/seed-*"))) == 2
    assert not list(tmp_path.glob("runs/it/*/*/seed-*"))
    assert main(["experiment", "it.toml", "--known", "theirs"]) == 2
    assert "--known needs --records" in capsys.readouterr().err
    assert main([*asked[:4], "--known", "nowhere"]) == 0  # all is on record: nothing is looked for
    assert main(["experiment", "it.toml", "--records", "new", "--known", "nowhere"]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err


def test_records_that_cannot_be_written_are_noticed_before_the_first_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to .*file: File exists; choose another --records"):
        Records(tmp_path / "runs", tmp_path / "file").prepare()


def test_what_a_killed_recording_left_goes(tmp_path):
    old, new = (tmp_path / "keep/toy_bandit/sac" / f".seed-{name}.tmp" for name in ("0.abc", "1.def"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    Records(tmp_path / "runs", tmp_path / "keep").prepare()
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize("provenance", [None, "{}", "[", "5"])
def test_a_run_without_its_provenance_is_named(provenance, tmp_path):
    first, _ = jobs_of(tmp_path / "runs")
    finish(first)
    file = RunDir(first.path).provenance
    file.unlink()
    if provenance is not None:
        file.write_text(provenance)
    with pytest.raises(UsageError, match=r"seed-0 cannot be recorded: its provenance\.json is missing or"):
        Records(tmp_path / "runs", tmp_path / "keep").take([Tracked(first, Standing.FINISHED)])


def test_known_folders_may_hold_what_cannot_be_read(tmp_path):
    first, _ = jobs_of(tmp_path / "runs")
    finish(first)
    strange = tmp_path / "runs/other/sac/seed-9"
    strange.mkdir(parents=True)
    (strange / "config.toml").write_bytes(b"\xff")
    records = Records(tmp_path / "again", tmp_path / "keep", [tmp_path / "runs"])
    assert records.twin(jobs_of(tmp_path / "again")[0]) == first.path


def test_only_the_return_of_random_actions_comes_along(tmp_path):
    first, _ = jobs_of(tmp_path / "runs")
    finish(first)
    for name in ("random_return.json", "secret.json"):
        (tmp_path / "runs/toy_bandit" / name).write_text("{}")
    Records(tmp_path / "runs", tmp_path / "keep").adopt(first, first.path)
    assert [file.name for file in (tmp_path / "keep/toy_bandit").glob("*.json")] == ["random_return.json"]


def test_a_run_killed_in_its_first_moment_stops_nothing(tmp_path):
    first, _ = jobs_of(tmp_path / "runs")
    first.path.mkdir(parents=True)
    for name in ("provenance.json", ".lock", ".config.toml.123.tmp"):
        (first.path / name).write_text("")
    plan.refuse_other(first, first.path)
    RunDir.create(first.path, first.config.to_toml())
    (first.path / "config.toml").unlink()
    (first.path / "mine.txt").write_text("")
    with pytest.raises(UsageError, match="exists and is not a run"):
        plan.refuse_other(first, first.path)
