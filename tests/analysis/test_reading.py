import json

import numpy as np
import pytest

from fewstep.analysis.runs.reading import load_array, read_run
from fewstep.errors import UsageError
from tests.analysis.fabricate import Made, make, write_rows


def test_a_finished_run_is_read_whole(tmp_path):
    run = read_run(make(tmp_path / "run", Made(rows=4, episodes=3)))
    assert (run.env, run.algo, run.seed) == ("HalfCheetah-v4", "mfpo", "0")
    assert run.version("mujoco") == "3.17.0"
    assert run.version("nothing") == ""
    assert run.act_size == 6
    assert len(run.metrics) == 4
    assert [e.env_steps for e in run.evaluations] == [1000, 1000, 2000, 2000, 3000, 3000, 4000, 4000]
    assert all(len(e.returns) == 3 for e in run.evaluations)
    assert run.setting("proposals", "gaussian") == 32
    assert np.isnan(run.setting("proposals", "nothing"))
    assert np.isnan(run.setting("nothing", "nothing"))
    assert run.problems == ()
    assert ("log.txt", 7) in run.files


def test_series_skips_rows_without_a_number(tmp_path):
    run = read_run(make(tmp_path / "run", Made(rows=4)))
    steps, _ = run.series("episode_return")  # null in the first row
    assert steps.tolist() == [2000, 3000, 4000]
    assert run.series("no/metric")[0].size == 0


def test_a_torn_last_line_costs_one_row_and_is_noted(tmp_path):
    path = make(tmp_path / "run", Made(rows=4))
    text = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(text[:-20])
    run = read_run(path)
    assert len(run.metrics) == 3
    assert run.problems == ("metrics.jsonl ends in a torn line, left out",)


def test_damage_in_the_middle_is_named_by_line(tmp_path):
    path = make(tmp_path / "run", Made(rows=3, modes=("sample",)))
    rows = [json.loads(line) for line in (path / "evaluations.jsonl").read_text().splitlines()]
    rows[1]["returns"] = ["high"]
    rows.append({"no": "steps"})
    write_rows(path / "evaluations.jsonl", rows)
    (path / "metrics.jsonl").write_text('{"env_steps": 1000}\n{oh\n{"env_steps": 3000}\n')
    run = read_run(path)
    assert [e.env_steps for e in run.evaluations] == [1000, 3000]
    assert len(run.metrics) == 2
    assert "metrics.jsonl line 2 is not JSON, left out" in run.problems
    assert any(p.startswith("evaluations.jsonl line 2 is left out") for p in run.problems)
    assert "evaluations.jsonl line 4 is left out: it has no env_steps" in run.problems


def test_numbers_that_are_none_do_not_pass(tmp_path):
    path = make(tmp_path / "run", Made(rows=1))
    row = {"env_steps": 1, "actions": "sample"}
    bad = [[], [None], [True], [float("nan")], [float("inf")], 3, [10**400]]
    write_rows(path / "evaluations.jsonl", [row | {"returns": returns} for returns in bad])
    assert read_run(path).evaluations == ()


def test_a_resumed_run_has_its_last_word(tmp_path):
    path = make(tmp_path / "run", Made(rows=1))
    write_rows(
        path / "metrics.jsonl", [{"env_steps": s, "a/b": v} for s, v in ((1, 1), (2, 2), (3, 3), (2, 20))]
    )
    first = {"env_steps": 5, "actions": "sample", "returns": [1.0]}
    write_rows(path / "evaluations.jsonl", [first, first | {"returns": [2.0]}])
    run = read_run(path)
    assert run.series("a/b")[1].tolist() == [1, 20]
    assert [e.mean for e in run.evaluations] == [2.0]


def test_what_is_missing_is_listed(tmp_path):
    (tmp_path / "config.toml").write_text('env = "Ant-v5"\n[training]\nsteps = 5000\n')
    missing = "provenance.json, metrics.jsonl and evaluations.jsonl are missing"
    assert read_run(tmp_path).problems == (missing,)
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "evaluations.jsonl").touch()
    empty = "there are no metrics and no evaluations: it ended before the first"
    assert read_run(tmp_path).problems == ("provenance.json is missing", empty)


def test_broken_tables_are_noted(tmp_path):
    (tmp_path / "config.toml").write_text("env = [")
    (tmp_path / "provenance.json").write_text("[1]")
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "policy.json").write_text('{"env": "mine:Mine-v0", "algo": "sac"}')
    run = read_run(tmp_path)
    assert (run.env, run.algo, run.seed) == ("mine:Mine-v0", "sac", ""), "the policy says so too"
    assert run.problems[0] == "metrics.jsonl and evaluations.jsonl are missing"
    assert run.problems[1].startswith("config.toml cannot be read: ")
    assert run.problems[2] == "provenance.json is not a table"


def test_a_state_kept_after_a_crash_is_noted(tmp_path):
    path = make(tmp_path / "run", Made(rows=1))
    (path / "crash").mkdir()
    assert any("not finite" in problem for problem in read_run(path).problems)


@pytest.mark.parametrize("kind", ["absent", "file", "empty"])
def test_what_is_no_run_is_one_line(tmp_path, kind):
    path = tmp_path / "thing"
    if kind == "file":
        path.write_text("x")
    elif kind == "empty":
        path.mkdir()
    with pytest.raises(UsageError, match="is not a run") as error:
        read_run(path)
    assert "\n" not in str(error.value)


def test_arrays_with_objects_or_damage_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    for name, field in (
        ("objects.npy", None),
        ("cut.npz", "goals"),
        ("other.npz", "goals"),
        ("no.npy", None),
    ):
        with pytest.raises(ValueError, match=f"samples/{name} cannot be read"):
            load_array(tmp_path / name, field)
    assert load_array(tmp_path / "other.npz", "x").tolist() == [0, 0]
