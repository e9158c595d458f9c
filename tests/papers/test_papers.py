"""The papers' figures: every file is an experiment at every scale; what drawings and tables say."""

import csv
import dataclasses
import json
import re
import shutil

import pytest
from matplotlib.figure import Figure

from fewstep.algos import registry
from fewstep.analysis.figures import style
from fewstep.analysis.runs.reading import read_run
from fewstep.cli import main
from fewstep.config import resolve
from fewstep.errors import UsageError
from fewstep.experiments import plan, spec
from fewstep.papers import catalogue, computed, figure, timing
from fewstep.runs.layout import RunDir
from tests.analysis.fabricate import Made, add_trajectories, make, mean_return
from tests.few import few

ITEMS = [(paper, item.name) for paper in catalogue.PAPERS for item in catalogue.items(paper)]
TRAINED = [each for each in ITEMS if catalogue.item(*each).compute is None]
COMPUTED = [each for each in ITEMS if each not in TRAINED]


@pytest.mark.parametrize(("paper", "name"), TRAINED)
def test_every_item_is_a_whole_experiment_at_every_scale(paper, name):
    item = catalogue.item(paper, name)
    assert item.draw in {*figure.DRAWINGS, "costs"}
    assert len(set(item.labels)) == len(item.labels)
    for scale in catalogue.SCALES:
        experiment = spec.parse(catalogue.experiment(item, scale), name)
        for entry in experiment.entries:
            steps = {"training.steps": entry.steps}
            known, settings = registry.get(entry.algo).config, dict(entry.settings) | steps
            run = resolve(entry.algo, known, entry.envs[0], preset=entry.preset, overrides=settings)
            if item.draw == "densities":  # all aim at one density
                temperature = run.algorithm.temperature
                assert (temperature.initial, temperature.automatic) == (0.2, False)
    full = catalogue.experiment(item, "full")
    known = {(label, env) for label in item.labels for env in full["envs"]}
    assert {(each.label, each.env) for each in item.published} <= known


def test_two_variants_of_an_item_never_have_the_same_settings():
    for paper, name in TRAINED:
        item = catalogue.item(paper, name)
        for scale in ("small", "full"):
            runs = catalogue.experiment(item, scale)["run"]
            told = [
                resolve(
                    run["algo"],
                    registry.get(run["algo"]).config,
                    "none",
                    preset=run["preset"],
                    overrides=run["set"],
                )
                for run in runs
            ]
            assert len(set(told)) == len(told), (paper, name, scale)


@few(("paper", "name"), sorted(TRAINED, key=lambda each: each != ("smfp", "sigma")), keep=1)
def test_every_item_runs_and_draws_at_the_smallest_scale(paper, name, tmp_path, capsys):
    if name == "humanoid-bench":
        pytest.skip("needs a clone of HumanoidBench")
    if name == "evolution":
        pytest.importorskip("gym_pusht", reason="needs pip install 'fewstep[pusht]'")
    out = tmp_path / "out"
    assert main(["paper", paper, name, "--scale", "tiny", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    for kind in ("svg", "csv", "md"):
        assert str(out / f"{name}.{kind}") in shown
        assert (out / f"{name}.{kind}").is_file()
    rows = list(csv.DictReader((out / f"{name}.csv").open()))
    item = catalogue.item(paper, name)
    assert [row["variant"] for row in rows] == item.labels
    assert all(float(row["env steps"]) == catalogue.TINY_STEPS for row in rows)
    text = (out / f"{name}.md").read_text()
    assert item.claim in text
    assert f"fewstep paper {paper} {name} --scale tiny" in text
    before = (out / f"{name}.svg").read_bytes()
    assert main(["paper", paper, name, "--scale", "tiny", "--out", str(out), "--draw"]) == 0
    assert (out / f"{name}.svg").read_bytes() == before

    *_, (file, last) = ((file, file.read_text()) for file in sorted(out.glob("*/*/seed-*/evaluations.jsonl")))
    file.write_text(last.replace(f'"env_steps": {catalogue.TINY_STEPS},', '"env_steps": 3,'))
    assert main(["paper", paper, name, "--scale", "tiny", "--out", str(out), "--draw"]) == 0
    assert f"evaluated at 3 of {catalogue.TINY_STEPS} steps" in capsys.readouterr().err
    made = sum(1 for _ in out.glob("*/*/seed-*"))
    assert f"from {made - 1} of {made} runs" in (out / f"{name}.md").read_text()
    config = file.with_name("config.toml")
    config.write_text(re.sub(r"(?m)^discount = .*", "discount = 0.5", config.read_text(), count=1))
    assert main(["paper", paper, name, "--scale", "tiny", "--out", str(out), "--draw"]) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err


@few(("paper", "name"), sorted(COMPUTED, reverse=True), keep=1)
def test_every_computed_item_draws_at_the_smallest_scale(paper, name, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["paper", paper, name, "--scale", "tiny", "--out", str(out), "--dry-run"]) == 0
    assert "to be computed: 1 seed, 20 " in capsys.readouterr().out
    assert main(["paper", paper, name, "--scale", "tiny", "--out", str(out)]) == 0
    assert sorted(path.suffix for path in out.iterdir()) == [".csv", ".md", ".svg"]
    text = (out / f"{name}.md").read_text()
    assert catalogue.item(paper, name).claim in text
    assert f"fewstep paper {paper} {name} --scale tiny" in text
    assert main(["paper", paper, name, "--draw", "--out", str(out)]) == 2
    assert "is computed and has no runs: leave out --draw" in capsys.readouterr().err


@pytest.mark.parametrize(("paper", "name"), COMPUTED)
def test_a_computed_item_says_how_much_it_computes(paper, name):
    item = catalogue.item(paper, name)
    assert item.compute in computed.COMPUTATIONS
    assert item.labels == []
    small, full = item.amounts("small"), item.amounts("full")
    assert small.keys() == full.keys()
    assert all(full[key] > small[key] >= 3 for key in small)


@pytest.fixture
def runs(tmp_path):
    """Two variants of two seeds on two tasks."""
    for env in ("HalfCheetah-v4", "Hopper-v4"):
        for label, height in (("min", 3000.0), ("mean", 1000.0)):
            for seed in (0, 1):
                made = Made(env=env, algo="smfp", seed=seed, rows=12, height=height)
                make(tmp_path / env / label / f"seed-{seed}", made)
    return [read_run(path) for path in sorted(tmp_path.glob("*/*/seed-*"))]


def test_the_table_has_the_seeds_mean_and_the_published_number(runs):
    item = catalogue.item("smfp", "critic-reduce")
    sheet = figure.table(item, runs)
    row = dict(zip(sheet.head, sheet.rows[2], strict=True))
    assert (row["environment"], row["variant"], row["seeds"], row["published"]) == (
        "Hopper-v4",
        "min",
        2,
        3988.0,
    )
    last = [
        sum(mean_return(Made(seed=seed, height=3000.0), "best-of-10", i) for i in range(3, 13)) / 10
        for seed in (0, 1)
    ]
    assert row["mean of last 10"].value == pytest.approx(sum(last) / 2, rel=0.02)
    assert row["mean of last 10"].low == pytest.approx(min(last), rel=0.02)
    samples = [mean_return(Made(seed=seed, height=3000.0), "sample", 12) for seed in (0, 1)]
    assert row["last, samples"].value == pytest.approx(sum(samples) / 2)


@pytest.mark.parametrize("draw", ["curves", "finals", "metrics", "costs"])
def test_each_drawing(draw, runs, tmp_path, monkeypatch):
    item = dataclasses.replace(
        catalogue.item("smfp", "critic-reduce"), draw=draw, metrics=("critic/loss", "actor/loss")
    )
    monkeypatch.setattr(figure.timing, "milliseconds", lambda found: dict.fromkeys(found, 0.25))
    left_out = ["sac Hopper-v4 seed 2, evaluated at 5 of 10 steps"]
    svg, _, text = figure.write(item, "small", runs, left_out, tmp_path / "drawn")
    assert svg.read_text().startswith("<?xml")
    assert "4 runs" not in text.read_text()
    assert "from 8 of 9 runs at scale `small`, seeds 0 and 1" in text.read_text()
    assert f"Left out: {left_out[0]}." in text.read_text()
    assert ("| 0.250 |" in text.read_text()) == (draw == "costs")


@pytest.mark.parametrize(("draw", "kind"), [("densities", "actions"), ("goals", "trajectories")])
def test_a_drawing_of_samples_says_which_run_has_none(draw, kind, runs, tmp_path):
    item = dataclasses.replace(catalogue.item("smfp", "critic-reduce"), draw=draw)
    with pytest.raises(UsageError, match=f"seed-0 has no samples/{kind}-"):
        figure.write(item, "small", runs, [], tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()


def test_goals_are_drawn_and_counted_from_the_last_trajectories(tmp_path):
    for label, goals in (("min", [0, 1, 2, 3]), ("mean", [0, 0, 0, 0])):
        folder = tmp_path / "toy_multigoal" / label / "seed-0"
        make(folder, Made(env="toy/multigoal", algo="smfp", seed=0))
        add_trajectories(folder, 1, [2] * 4)
        add_trajectories(folder, 2, goals)
    runs = [read_run(path) for path in sorted(tmp_path.glob("*/*/seed-*"))]
    item = dataclasses.replace(catalogue.item("smfp", "critic-reduce"), draw="goals")
    svg, sheet, _ = figure.write(item, "small", runs, [], tmp_path / "drawn")
    assert svg.read_text().startswith("<?xml")
    rows = {row["variant"]: row for row in csv.DictReader(sheet.open())}
    assert [float(rows[label]["goals reached"]) for label in ("min", "mean")] == [4.0, 1.0]


def test_an_action_is_timed_as_the_policy_is_evaluated(tmp_path, monkeypatch):
    """MFPO collects by single samples and is evaluated by the best of ten."""
    modes, bind = [], timing.bind
    monkeypatch.setattr(timing, "bind", lambda *given: (modes.append(given[3]), bind(*given))[1])
    run = resolve("mfpo", registry.get("mfpo").config, "toy/bandit", preset="small")
    found = {}
    for actions in ("sample", "best-of-10"):
        folder = tmp_path / actions
        (folder / "policy").mkdir(parents=True)
        (folder / "config.toml").write_text(run.to_toml())
        (folder / "policy/policy.json").write_text(json.dumps({"native_actions": actions}))
        rows = [{"env_steps": 9, "actions": actions, "returns": [0.0], "lengths": [1]}]
        (folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found[actions] = read_run(folder)
    times = timing.milliseconds(found)
    assert [mode.candidates for mode in modes] == [1, 10]
    assert times.keys() == found.keys()
    assert all(0.0 < each < 100.0 for each in times.values())


def test_what_is_not_whole_is_left_out_and_named(tmp_path, capsys):
    """A run with a damaged row, one without its native evaluation at the end, one that never began."""
    out = tmp_path / "out"
    item = catalogue.item("smfp", "sigma")
    experiment = spec.parse(catalogue.experiment(item, "tiny"), "it")
    first, second = plan.expand(experiment, out)
    for job in (first, second):
        run = RunDir(job.path)
        run.path.mkdir(parents=True)
        run.config.write_text(job.config.to_toml())
        run.provenance.write_text("{}")
        run.metrics.write_text(json.dumps({"env_steps": catalogue.TINY_STEPS}) + "\n")
        rows = [
            {"env_steps": catalogue.TINY_STEPS, "actions": mode, "returns": [1.0], "lengths": [9]}
            for mode in ("best-of-8", "sample", "mode")
        ]
        run.evaluations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["paper", "smfp", "sigma", "--scale", "tiny", "--draw", "--out", str(out)]
    assert main(asked) == 0
    assert "left out" not in capsys.readouterr().err
    rows = RunDir(second.path).evaluations.read_text().splitlines()
    for broken, why in (
        (["{", *rows[1:]], "line 1 is not JSON"),
        ([rows[1]], "evaluated at"),
        (rows[1:], "its last evaluation has no best-of-8"),
    ):
        text = "\n".join(broken) + "\n"
        if why == "evaluated at":
            text = text.replace(f": {catalogue.TINY_STEPS},", ": 1,")
        RunDir(second.path).evaluations.write_text(text)
        assert main(asked) == 0
        assert why in capsys.readouterr().err
        assert "from 1 of 2 runs" in (out / "sigma.md").read_text()
    shutil.rmtree(second.path)
    assert main(asked) == 0
    assert "not begun" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--dry-run"], ["--jobs", "0"], ["--known", "."]])
def test_drawing_starts_no_runs_and_says_so(more, tmp_path, capsys):
    assert main(["paper", "smfp", "sigma", "--draw", "--out", str(tmp_path), *more]) == 2
    assert f"--draw starts no runs: leave out {more[0]}" in capsys.readouterr().err
    assert main(["paper", "smfp", "composite", "--jobs", "0", "--out", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("rows", "name", "field"),
    [(8, "return of the last evaluation", "final"), (12, "return, mean of last 10 evaluations", "last")],
)
def test_a_run_of_few_evaluations_is_drawn_by_its_last_one(rows, name, field, tmp_path):
    """A mean over all of them would be that of the whole training."""
    made = Made(env="HalfCheetah-v4", algo="smfp", rows=rows)
    make(tmp_path / "HalfCheetah-v4/min/seed-0", made)
    run = read_run(tmp_path / "HalfCheetah-v4/min/seed-0")
    said, score = figure._score([run])
    assert said == name
    assert score(run) == getattr(figure._native(run), field)


def test_names_beside_points_overlap_neither_names_nor_points():
    points = [("first", 0.30, 1000.0), ("second", 0.31, 1010.0), ("third", 0.32, 990.0), ("far", 0.9, 0.0)]
    drawn = Figure(figsize=(4.8, 2.9), layout="constrained")
    axes = drawn.subplots()
    axes.plot(*zip(*[point[1:] for point in points], strict=True), "o", ms=5)
    style.point_labels(axes, [(*point, "black") for point in points])
    drawn.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    dots = axes.transData.transform([point[1:] for point in points])
    for place, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:place] + boxes[place + 1 :])
        assert not any(box.contains(*dot) for dot in dots)


def test_bad_requests_are_one_line(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"unknown paper 'smpf'; did you mean 'smfp'\?"):
        catalogue.items("smpf")
    assert main(["paper", "smfp", "candidate"]) == 2
    assert "did you mean 'candidates'" in capsys.readouterr().err
    assert main(["paper", "smfp", "sigma", "--scale", "tiny", "--draw", "--out", str(tmp_path)]) == 2
    assert "no run of smfp sigma is finished yet" in capsys.readouterr().err


def test_the_list_names_every_item(capsys):
    for paper in catalogue.PAPERS:
        assert main(["paper", paper]) == 0
        shown = capsys.readouterr().out
        assert all(item.name in shown and item.title in shown for item in catalogue.items(paper))
