"""Run directories: made once, never written over, never by two processes."""

import os
from pathlib import Path

import pytest

from fewstep.errors import FewstepError, UsageError
from fewstep.runs.layout import RunDir, default_path
from fewstep.runs.provenance import collect, differences, git_state


def test_default_path_has_no_slash_or_colon_of_the_names():
    assert default_path("toy/bandit", "mfpo", 3) == Path("runs/toy_bandit/mfpo/seed-3")
    assert default_path("mine:Env-v0", "a:B", 0) == Path("runs/mine_Env-v0/a_B/seed-0")


def test_create_then_open(tmp_path):
    run = RunDir.create(tmp_path / "a" / "b", "x = 1\n")
    assert run.config.read_text() == "x = 1\n"
    assert RunDir.open(run.path) == run


def test_an_existing_run_is_refused_with_both_ways_out(tmp_path):
    RunDir.create(tmp_path / "run", "")
    with pytest.raises(UsageError, match=r"already holds a run.*fewstep resume .*--out"):
        RunDir.create(tmp_path / "run", "")


def test_a_folder_with_other_things_or_a_file_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not a run"):
        RunDir.create(tmp_path, "")
    with pytest.raises(UsageError, match="is not a run"):
        RunDir.create(tmp_path / "notes.txt", "")
    with pytest.raises(UsageError, match="cannot write to"):
        RunDir.create(tmp_path / "notes.txt" / "run", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match=r"cannot write to .*Permission denied"):
        RunDir.create(tmp_path / "run", "")


def test_opening_what_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        RunDir.open(tmp_path / "absent")
    with pytest.raises(UsageError, match=r"is not a run: it has no config\.toml"):
        RunDir.open(tmp_path)


def test_two_writers_are_one_too_many(tmp_path):
    run = RunDir.create(tmp_path / "run", "")
    with (
        run.locked(),
        pytest.raises(FewstepError, match="is being written by another process"),
        RunDir.open(run.path).locked(),
    ):
        pass
    with run.locked():
        pass


def test_provenance_says_versions_device_and_command():
    found = collect("abc", "cpu: test x 1", ("mujoco",))
    assert found["config_sha256"] == "abc"
    assert found["device"] == "cpu: test x 1"
    assert found["versions"]["mujoco"].count(".") == 2
    assert found["command"]
    without = collect("abc", "cpu: test x 1", ())["versions"]
    assert without == {name: version for name, version in found["versions"].items() if name != "mujoco"}


def test_git_state_of_a_folder_that_is_no_checkout(tmp_path):
    assert git_state(tmp_path) is None


def test_versions_that_differ_are_named_and_those_that_were_not_recorded_are_not():
    recorded = {"jax": "0.1", "mujoco": "3.16.0", "gone": "1"}
    now = {"jax": "0.1", "mujoco": "3.17.0", "new": "2"}
    assert differences(recorded, now) == "mujoco 3.16.0 then, 3.17.0 now"
    assert differences({}, now) == differences(now, now) == ""
