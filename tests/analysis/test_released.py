"""Curves that others have released, beside ours."""

import csv

import numpy as np
import pytest

from fewstep.analysis.report import released, write_report
from fewstep.analysis.runs.reading import read_run
from fewstep.analysis.runs.released import read_curves
from fewstep.analysis.runs.summary import group_runs
from fewstep.cli import main
from fewstep.errors import UsageError
from tests.analysis.fabricate import Made, make

HEAD = "exp,env,seed,metric,step,value"


def write(path, *rows, head=HEAD):
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


@pytest.fixture
def file(tmp_path):
    """Two experiments: the first with two seeds, a success rate beside returns, and steps out of order."""
    rows = [
        *(
            f"A,HalfCheetah-v4,{seed},avg_return,{step},{step + seed}"
            for seed in (0, 1)
            for step in (4000, 0, 2000)
        ),
        *(f"A,HalfCheetah-v4,{seed},avg_success,{step},0.5" for seed in (0, 1) for step in (0, 2000)),
        "A,dog-run,0,avg_return,0,1",
        *(f"B,HalfCheetah-v4,7,evaluation/return,{step},{2 * step}" for step in (0, 3000, 900000)),
    ]
    return write(tmp_path / "theirs.csv", *rows)


def test_two_files_of_one_name_are_told_apart_and_a_mark_of_their_order_is_no_text(tmp_path):
    """Spreadsheets begin a file with it."""
    run = make(tmp_path / "run", Made(env="HalfCheetah-v4"))
    files = [tmp_path / "a" / "c.csv", tmp_path / "b" / "c.csv"]
    for at, file in enumerate(files):
        file.parent.mkdir()
        rows = [f"A,HalfCheetah-v4,0,avg_return,{step},{step + at}" for step in (0, 2000, 4000)]
        file.write_text("\n".join(["\ufeff" + HEAD, *rows]) + "\n", encoding="utf-8")
    out = tmp_path / "report.html"
    against = [word for file in files for word in ("--against", str(file))]
    assert main(["report", str(run), "--out", str(out), *against]) == 0
    assert all(f"A ({file})" in out.read_text() for file in files)


def test_returns_by_experiment_task_and_seed(file):
    found = read_curves(file)
    assert set(found.curves) == {"A", "B"}
    first, second = found.curves["A"]["HalfCheetah-v4"]
    assert np.array_equal(first, [[0, 2000, 4000], [0, 2000, 4000]])
    assert np.array_equal(second, [[0, 2000, 4000], [1, 2001, 4001]])
    assert set(found.of("dmc/dog-run")) == {"A"}
    assert set(found.of("HalfCheetah-v4")) == {"A", "B"}
    assert found.of("Hopper-v4") == {}


@pytest.mark.parametrize(
    ("head", "rows", "message"),
    [
        (
            "exp,env,seed,step,value",
            ["A,E,0,1,2"],
            "has no column metric; its columns must be exp, env, seed",
        ),
        (HEAD, ["A,E,0,return,x,2"], r"theirs\.csv, line 2: 'x' is not a finite number"),
        (HEAD, ["A,E,0,return,1,nan"], "line 2: 'nan' is not a finite number"),
        (HEAD, ["A,E,0,loss,1,2"], "A must have one metric that is called a return, it has loss"),
        (HEAD, ["A,E,0,return,1,2", "A,E,0,best_return,1,2"], "it has best_return and return"),
    ],
)
def test_what_cannot_be_read_is_named(head, rows, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        read_curves(write(tmp_path / "theirs.csv", *rows, head=head))


def test_ours_beside_theirs_up_to_where_ours_end(file, tmp_path):
    runs = [make(tmp_path / f"{seed}", Made(algo="sac", seed=seed, rows=4)) for seed in (0, 1)]
    (part,) = released.section(group_runs([read_run(path) for path in runs]), [read_curves(file)]).parts
    (sheet,) = part.sheets
    assert list(sheet.head) == ["variant", "seeds", "1,000 steps", "2,000 steps", "4,000 steps"]
    rows = {row[0]: row[1:] for row in sheet.rows}
    assert rows["A (theirs.csv)"][0] == 2
    assert rows["A (theirs.csv)"][1] is None  # its evaluation at 0 says nothing about 1,000
    assert (rows["A (theirs.csv)"][3].value, rows["A (theirs.csv)"][3].low) == (4000.5, 4000)
    assert rows["B (theirs.csv)"][3].value == 6000  # at 3,000
    assert len(part.figures) == 1
    html = write_report(runs, tmp_path / "out.html", tmp_path / "tables", against=[file]).read_text()
    assert "Beside released curves" in html
    table = list(csv.DictReader((tmp_path / "tables" / "released-HalfCheetah-v4.csv").open()))
    assert table[-1]["variant"] == "B (theirs.csv)"


def test_a_file_without_a_task_in_common_is_named(file, tmp_path):
    groups = group_runs([read_run(make(tmp_path / "run", Made(env="Hopper-v4", algo="sac", rows=4)))])
    found = released.section(groups, [read_curves(file)])
    assert not found.parts
    (line,) = found.warnings
    assert line.startswith("theirs.csv has no curve of two evaluations or more on Hopper-v4")
    assert not released.section(groups, [])


def test_the_command(file, tmp_path, capsys):
    run = make(tmp_path / "run", Made(algo="sac", rows=4))
    assert main(["report", str(run), "--against", str(file), "--out", str(tmp_path / "out.html")]) == 0
    assert "theirs.csv" in (tmp_path / "out.html").read_text()
    assert main(["report", str(run), "--against", str(tmp_path / "nothing.csv")]) == 2
    assert "No such file" in capsys.readouterr().err
