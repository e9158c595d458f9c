"""Runs that earlier versions wrote are read and reported; anything else is refused in one line."""

import shutil
from pathlib import Path

import pytest

from fewstep.analysis.runs import reading
from fewstep.cli import main
from fewstep.runs import checkpoint
from tests.e2e.helpers import one_line

OLD = Path(__file__).parents[1] / "fixtures" / "old_runs"
FORMATS = {"format-1-last": 1, "format-2": 2, "format-3-first": 3}


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_read_but_not_continued(name, tmp_path, capsys):
    """Their settings and networks were others. Nothing in them is changed by the attempt."""
    run = tmp_path / "run"
    shutil.copytree(OLD / name, run)
    saved = checkpoint.load_newest(run / "checkpoints", pytest.fail)
    assert saved is not None
    assert (saved.meta["format"], saved.env_steps, saved.meta["updates"]) == (FORMATS[name], 90, 51)
    assert len(saved.groups["replay"]["reward"]) == 70  # the ring has gone round
    assert len(reading.read_run(run).evaluations) == 2

    before = content(run)
    for words in (["evaluate", str(run), "--episodes", "1"], ["resume", str(run), "--steps", "100"]):
        assert main(words) == 2
        one_line(capsys.readouterr().err, "config.toml: unknown setting 'critic.kind'")
    assert main(["export", str(run), "--to", "numpy"]) == 1
    one_line(capsys.readouterr().err, "policy has format 1; this fewstep reads format 2")
    assert content(run) == before


def test_a_report_of_them_all(tmp_path, capsys):
    page = tmp_path / "report.html"
    assert (
        main(["report", *(str(OLD / name) for name in ("format-1-first", *FORMATS)), "--out", str(page)]) == 0
    )
    assert "Pendulum-v1" in page.read_text()
