"""``make demo``: made once, reused, replaced when its settings change, never over what is not its own."""

import pytest

from fewstep.cli import demo


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    """The default preset: a run of so few steps stays in its warm-up and compiles no update."""
    monkeypatch.setattr(demo, "PRESET", "default")


def test_made_then_reused_then_replaced(tmp_path, capsys):
    words = ["--out", str(tmp_path / "demo"), "--steps", "40"]
    assert demo.start(words) == 0
    page = tmp_path / "demo" / "report.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"[demo] open {page}"
    assert "InvertedDoublePendulum-v4" in page.read_text()
    metrics = (tmp_path / "demo" / "run" / "metrics.jsonl").read_bytes()
    assert demo.start(words) == 0
    assert "reused if it is complete" in capsys.readouterr().out
    assert (tmp_path / "demo" / "run" / "metrics.jsonl").read_bytes() == metrics
    assert demo.start([*words[:2], "--steps", "30"]) == 0
    assert "made with other settings; it is replaced" in capsys.readouterr().out
    assert (tmp_path / "demo" / "run" / "metrics.jsonl").read_bytes() != metrics


def test_a_folder_that_is_no_run_is_left_alone(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    assert demo.start(["--out", str(tmp_path), "--steps", "30"]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert (tmp_path / "run" / "thesis.tex").exists()
