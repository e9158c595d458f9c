"""Runs that earlier versions wrote are read, reported, evaluated and continued, and not called damaged."""

import json
import shutil
from pathlib import Path

import pytest

from fewstep.analysis.runs import reading
from fewstep.cli import main
from fewstep.runs import checkpoint
from fewstep.training import policy_io
from tests.e2e.helpers import one_line, rows

OLD = Path(__file__).parents[1] / "fixtures" / "old_runs"
FORMATS = {"format-1-last": 1, "format-2": 2, "format-3-first": 3}


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_read_evaluated_and_continued(name, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(OLD / name, run)
    saved = checkpoint.load_newest(run / "checkpoints", pytest.fail)
    assert saved is not None
    assert (saved.meta["format"], saved.env_steps, saved.meta["updates"]) == (FORMATS[name], 90, 51)
    assert len(saved.groups["replay"]["reward"]) == 70  # the ring has gone round
    assert len(reading.read_run(run).evaluations) == 2

    assert main(["evaluate", str(run), "--episodes", "1", "--actions", "mode", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env_steps"] == 90
    assert main(["resume", str(run), "--steps", "100"]) == 0
    said = capsys.readouterr().err
    assert "damaged" not in said
    assert ("its episode was 10 steps old and could not be restored" in said) == (FORMATS[name] == 1)
    last = rows(run / "metrics.jsonl")[-1]
    assert (last["env_steps"], last["updates"]) == (100, 61)
    newest = checkpoint.load_newest(run / "checkpoints", pytest.fail)
    assert newest is not None
    assert (newest.meta["format"], newest.env_steps) == (checkpoint.FORMAT, 100)


def test_the_first_runs_of_all_can_be_used_but_not_continued(tmp_path, capsys):
    """Their MFPO kept its temperature as a list of one number. Nothing in them is changed by the attempt."""
    run = tmp_path / "run"
    shutil.copytree(OLD / "format-1-first", run)
    saved = checkpoint.load_newest(run / "checkpoints", pytest.fail)
    assert saved is not None
    assert (saved.meta["format"], saved.env_steps, saved.meta["updates"]) == (1, 45, 6)
    assert saved.meta["replay"]["began"] == 0  # they could not begin late, and do not say so
    assert policy_io.load(run / "policy").env_steps == 45
    assert main(["resume", str(run), "--quiet"]) == 1
    one_line(capsys.readouterr().err, "checkpoint 45 does not fit its config", "log_alpha", "float32[1]")
    checkpoint.load(run / "checkpoints" / "000000045")


def test_a_report_of_them_all(tmp_path, capsys):
    page = tmp_path / "report.html"
    assert (
        main(["report", *(str(OLD / name) for name in ("format-1-first", *FORMATS)), "--out", str(page)]) == 0
    )
    assert "Pendulum-v1" in page.read_text()
