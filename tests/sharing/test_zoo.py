"""The policies that come with the package: all there, whole, and as good as they are said to be."""

import hashlib
import json
import shutil

import numpy as np
import pytest

import fewstep
from fewstep import deploy
from fewstep.algos import registry
from fewstep.analysis.runs.reading import read_run
from fewstep.analysis.runs.summary import results
from fewstep.cli import main
from fewstep.errors import FewstepError
from fewstep.sharing import zoo
from tests.e2e.helpers import one_line

TASKS = ("toy/multigoal", "Pendulum-v1")
ENTRIES = zoo.listed()
QUICK = {"smfp-multigoal", "mfpo-pendulum", "sac-pendulum", "qvpo-multigoal"}
LARGEST = 10_000_000


def test_every_algorithm_is_there_on_both_tasks_below_ten_megabytes():
    assert set(ENTRIES) == {zoo.name_of(algo, env) for algo in registry.BUILT_IN for env in TASKS}
    assert sum(entry.size for entry in ENTRIES.values()) < LARGEST


@pytest.mark.parametrize("name", ENTRIES)
def test_what_the_list_says_is_what_the_policy_says(name, tmp_path):
    run, entry = read_run(zoo.get(name, tmp_path / name).path), ENTRIES[name]
    assert (run.algo, run.env) == (entry.algo, entry.env)
    assert run.evaluations[0].actions == entry.actions
    found = next(one for one in results(run) if one.actions == entry.actions)
    assert found.final == pytest.approx(entry.mean_return, abs=0.01)
    assert (found.episodes, run.evaluations[-1].env_steps) == (entry.episodes, entry.steps)
    assert f"fewstep zoo get {name} --out policy" in (tmp_path / name / "README.md").read_text()


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ENTRIES]
)
def test_played_again_it_returns_what_was_told(name, tmp_path, capsys):
    """Same seeds, so the same episodes but for another machine's rounding."""
    run = read_run(zoo.get(name, tmp_path / name).path)
    told = {one.actions: one for one in run.evaluations if one.env_steps == ENTRIES[name].steps}
    assert main(["evaluate", str(tmp_path / name), "--json"]) == 0
    for line in capsys.readouterr().out.splitlines():
        row = json.loads(line)
        before = np.array(told[row["actions"]].returns)
        error = np.hypot(before.std(), np.std(row["returns"])) / np.sqrt(len(before))
        assert abs(np.mean(row["returns"]) - before.mean()) <= 4 * error + 1e-3 * abs(before.mean())


def test_it_is_listed_and_got_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["zoo", "list"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "task", "return", "actions", "steps", "KB"]
    assert [row.split()[0] for row in rows] == sorted(ENTRIES)
    assert main(["zoo", "get", "smfp-pendulum"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "smfp-pendulum")
    with pytest.raises(FewstepError, match="holds a policy alone"):
        fewstep.load(tmp_path / "smfp-pendulum")
    assert main(["export", "smfp-pendulum", "--to", "numpy"]) == 0
    policy = deploy.load(tmp_path / "smfp-pendulum/export/policy.safetensors")
    assert policy.act(np.zeros(3, np.float32), rng=np.random.default_rng(0)).shape == (1,)
    assert main(["zoo", "get", "smfp-pendulum"]) == 2
    one_line(capsys.readouterr().err, "already holds a policy that was fetched; choose another --out")
    assert main(["zoo", "get", "smfp-pendulums"]) == 2
    one_line(capsys.readouterr().err, "smfp-pendulum")


def test_a_damaged_file_leaves_nothing(tmp_path):
    zoo.get("sac-pendulum", tmp_path / "sound")
    folder = tmp_path / "policies"
    data = b"PK damaged"
    entry = zoo.Entry(
        "sac", "Pendulum-v1", 1, "mode", 1, 0.0, len(data), hashlib.sha256(b"other").hexdigest()
    )
    zoo.write({"sac-pendulum": (entry, data)}, folder)
    with pytest.raises(FewstepError, match="damaged"):
        zoo.get("sac-pendulum", tmp_path / "got", folder)
    (folder / "sac-pendulum.zip").unlink()
    with pytest.raises(FewstepError, match="missing"):
        zoo.get("sac-pendulum", tmp_path / "got", folder)
    assert not (tmp_path / "got").exists()
    shutil.rmtree(folder)


def test_the_same_files_are_the_same_bytes():
    files = {"b": b"1", "a": b"2" * 1000}
    assert zoo.zipped(files) == zoo.zipped(dict(reversed(files.items())))
