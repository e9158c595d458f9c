"""What a reader meets on the page, over every kind of report: order, labels, counts, and no empty place."""

import csv
import json
import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from fewstep.analysis.report import write_report
from fewstep.cli import main
from fewstep.errors import UsageError
from tests.analysis.fabricate import Made, add_bandit_samples, add_trajectories, make
from tests.analysis.test_report import check, report

ROOT = Path(__file__).parents[2]


def saved_model(path, updates=200):
    """What ``Model.save`` leaves: settings, a checkpoint and a policy, no rows."""
    checkpoint = path / "checkpoints" / "000000700"
    checkpoint.mkdir(parents=True)
    (path / "config.toml").write_text(
        'algo = "sac"\nenv = "Pendulum-v1"\nseed = 3\n[training]\nsteps = 9000\n'
    )
    (checkpoint / "meta.json").write_text(json.dumps({"env_steps": 700, "updates": updates}))
    (path / "policy").mkdir()
    (path / "policy" / "policy.json").write_text('{"algo": "sac", "env": "Pendulum-v1"}')
    return path


def crashed(path):
    run = make(path, Made(rows=5))
    (run / "evaluations.jsonl").unlink()
    (run / "provenance.json").unlink()
    return run


def bandit(path, algo):
    run = make(path, Made(env="toy/bandit", algo=algo, rows=3, modes=("sample",), height=1.0, alpha_end=0.3))
    add_bandit_samples(run, (1000, 3000), alpha=0.3)
    return run


def multigoal(path):
    run = make(path, Made(env="toy/multigoal", rows=3, height=5))
    add_trajectories(run, 1000, [0, 0, 1])
    add_trajectories(run, 3000, [0, 1, 2, 3, -1])
    return run


def several(root, rows=4):
    return [
        make(root / f"{algo}-{env}-{seed}", Made(env=env, algo=algo, seed=seed, rows=rows))
        for env in ("HalfCheetah-v4", "Hopper-v4")
        for algo in ("mfpo", "sac")
        for seed in range(2)
    ]


KINDS = {
    "single": lambda root: [make(root / "run", Made(rows=8))],
    "seeds": lambda root: [make(root / str(seed), Made(seed=seed, rows=4)) for seed in range(3)],
    "few": lambda root: several(root)[:4],
    "comparison": several,
    "toys": lambda root: [bandit(root / "a", "mfpo"), bandit(root / "b", "sac"), multigoal(root / "c")],
    "partial": lambda root: [crashed(root / "crashed"), make(root / "whole", Made(rows=2))],
    "crashed": lambda root: [crashed(root / "crashed")],
    "saved": lambda root: [saved_model(root / "saved")],
}


@pytest.fixture(scope="module", params=KINDS)
def page(request, tmp_path_factory):
    """``(kind, html, text, folder of tables)``."""
    root = tmp_path_factory.mktemp(request.param)
    html = write_report(KINDS[request.param](root), root / "report.html", root / "tables").read_text()
    body = html[html.index("<main>") : html.index("</body>")]
    return request.param, html, " ".join(" ".join(check(body).words).split()), root / "tables"


def test_the_first_curve_follows_the_first_paragraph(page):
    kind, html, _, _ = page
    if kind in ("crashed", "saved"):
        assert "Every evaluation." not in html
        return
    before = html[html.index("</h1>") : html.index("<svg")]
    assert "return per episode" in html[html.index("<svg") : html.index("</svg>")]
    assert not re.search(r"<(table|ul|details)\b", before)
    assert len(re.findall(r"<p\b", before)) == 1, "nothing but what the page is about"


def test_every_figure_says_what_its_axes_are(page):
    for drawing in re.findall(r"<svg.*?</svg>", page[1], re.DOTALL):
        upright = re.search(r"rotate\(-90 [^>]*>[^<]", drawing)
        assert upright or ">optimality gap<" in drawing, "the aggregates have the variants' names there"
        sideways = ("environment steps", "normalised score", "action, coordinate 1", ">x<", "episodes<")
        assert any(label in drawing for label in sideways)


def test_no_heading_is_left_alone(page):
    tags = re.findall(r"<(h[1-4]|p|table|svg|ul|summary|/details|/main)\b", page[1])
    for heading, following in pairwise(tags):
        if heading[0] == "h":
            assert following not in ("/main", "/details")
            assert following[0] != "h" or following > heading, f"{heading} is followed by {following}"
        assert (heading, following) != ("summary", "/details")


def test_the_order_of_the_page(page):
    order = ("Results", "Comparison", "Every run", "Training", "Cost", "Settings", "Software")
    found = [title.split(" on ")[0] for title in re.findall(r"<h2>(.*?)</h2>", page[1])]
    known = [title.split(" on ")[0] for title in order]
    assert found == sorted(found, key=known.index)
    assert found, "a page without a single section"


def test_every_table_of_the_page_is_a_file_and_the_other_way_round(page):
    _, html, _, folder = page
    heads = [
        tuple(re.findall(r"<th [^>]*>(.*?)</th>", table))
        for table in re.findall(r"<table.*?</table>", html, re.DOTALL)
    ]
    files = [path for path in sorted(folder.glob("*.csv")) if not path.stem.endswith("-scores")]
    assert len(heads) == len(files)
    for path in files:
        written = next(csv.reader(path.open()))
        plain = [name for name in written if not name.endswith((" low", " high"))]
        assert tuple(name.replace("&", "&amp;").replace(">", "&gt;") for name in plain) in heads
        assert r"\begin{tabular}" in path.with_suffix(".tex").read_text()


def test_what_is_absent_is_absent(page):
    kind, _, text, folder = page
    for word in ("unknown", "nan", "None"):
        assert not re.search(rf"\b{word}\b", text), word
    if kind not in ("few", "comparison", "toys", "partial"):  # runs side by side may lack what others have
        assert "–" not in text
    for path in folder.glob("*.csv"):
        columns = list(zip(*csv.reader(path.open()), strict=True))
        assert all(any(column[1:]) for column in columns if not column[0].endswith((" low", " high"))), path


@pytest.mark.usefixtures("undrawn")
def test_counts_are_the_real_ones(tmp_path):
    runs = several(tmp_path, rows=8)[:4]
    _, words = report(runs[:1], tmp_path / "one.html")
    assert "Mean of the last 8 evaluations:" in words
    assert "Last 8: mean over the last 8 evaluations." in words
    assert not re.search(r"[Ll]ast (ten|10)", words)
    html = write_report(runs, tmp_path / "all.html", tmp_path / "tables").read_text()
    assert "mean return over its last 8 evaluations, on" in html
    assert not re.search(r"[Ll]ast (ten|10)", html)
    for name in ("runs", "seeds"):
        assert "last 8" in next(csv.reader((tmp_path / "tables" / f"{name}.csv").open()))
        assert "last 8" in (tmp_path / "tables" / f"{name}.tex").read_text()
    longer = make(tmp_path / "longer", Made(algo="td3", rows=12, modes=("mode", "sample")))
    html = write_report([*runs[:3], longer], tmp_path / "mixed.html").read_text()
    assert "Mean of the last 8 evaluations:" in html
    assert "Mean of the last 10 evaluations:" in html
    assert '<th scope="col" class="n">last 8 to 10</th>' in html
    assert "over its last 8 to 10 evaluations, on" in html


def test_one_evaluation_has_no_mean_over_the_last(tmp_path):
    _, words = report([make(tmp_path / "run", Made(rows=1))], tmp_path / "report.html")
    assert "Mean return of the last evaluation:" in words
    assert "Mean of the last" not in words


@pytest.mark.parametrize("env", ["Pendulum-v1", "MountainCarContinuous-v0", "toy/bandit", "mine:Mine-v0"])
@pytest.mark.usefixtures("undrawn")
def test_a_simulators_version_belongs_to_the_runs_that_use_it(env, tmp_path):
    run = make(tmp_path / "run", Made(env=env, rows=2))
    recorded = json.loads((run / "provenance.json").read_text())
    del recorded["versions"]["mujoco"]  # a run records what it uses
    (run / "provenance.json").write_text(json.dumps(recorded))
    html, _ = report([run], tmp_path / "report.html")
    assert "mujoco" not in html.lower()
    (run / "provenance.json").unlink()  # and what is not recorded is not made up
    assert "mujoco" not in report([run], tmp_path / "report.html")[0].lower()


@pytest.mark.usefixtures("undrawn")
def test_tasks_with_and_without_mujoco_are_compared_together_and_once(tmp_path):
    made = [
        Made(env=env, algo=algo, rows=2, mujoco=version)
        for algo in ("mfpo", "sac")
        for env, version in (("Pendulum-v1", "3.17.0"), ("Hopper-v4", "3.17.0"), ("Hopper-v4", "2.3.7"))
    ]
    _, words = report([make(tmp_path / str(i), m) for i, m in enumerate(made)], tmp_path / "report.html")
    assert words.count("evaluations, on Pendulum-v1 and Hopper-v4.") == 2  # native, single sample
    assert words.count("evaluations, on Hopper-v4.") == 2


def test_a_saved_model_shows_what_is_known(tmp_path, capsys):
    out = tmp_path / "report.html"
    assert main(["report", str(saved_model(tmp_path / "model")), "--out", str(out)]) == 0
    _, words = report([tmp_path / "model"], out)
    assert "sac trained on Pendulum-v1 with seed 3 for 700 environment steps." in words
    assert words.count("it is a saved model, which holds no metrics and no evaluations") == 1
    assert "variant environment seed env steps updates sac Pendulum-v1 3 700 200" in words
    for absent in ("Results", "Training on", "Software", "Provenance", "missing", "Fewer than", "never"):
        assert absent not in words, absent
    assert "training.steps 9000" in words


def test_models_whose_steps_nobody_knows_did_not_stop_at_different_ones(tmp_path):
    runs = [saved_model(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        (run / "checkpoints" / "000000700" / "meta.json").write_text("torn")
    assert "Seeds stopped at different steps" not in report(runs, tmp_path / "report.html")[1]


def test_the_templates_are_part_of_the_package():
    """A wheel holds modules, and of the rest only what the package data name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    package = ROOT / "src" / "fewstep"
    named = {
        p for glob in project["tool"]["setuptools"]["package-data"]["fewstep"] for p in package.glob(glob)
    }
    assert {path.name for path in named} >= {"page.html.jinja", "parts.html.jinja", "page.css.jinja"}
    listed = subprocess.run(["git", "ls-files", package], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout, so nobody knows which files belong to it")
    others = {ROOT / line for line in listed.stdout.splitlines() if not line.endswith(".py")}
    assert others <= named


def test_nothing_to_show_is_one_line_and_no_page(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text("")
    assert main(["report", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "there is nothing to show" in error
    assert not (run / "report.html").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.toml").write_text("")
    with pytest.raises(UsageError, match="nothing to show"):
        write_report([run, tmp_path / "other"], tmp_path / "two.html")
    # Beside a run that has something, it is a line among what is missing.
    _, words = report([run, make(tmp_path / "whole", Made(rows=2))], tmp_path / "report.html")
    assert f"({run}): provenance.json, metrics.jsonl and evaluations.jsonl are missing" in words
