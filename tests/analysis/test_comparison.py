"""Which runs are compared with which, on which scores, and what the page and the files say of it."""

import csv
import re

import numpy as np
import pytest

from fewstep.analysis.figures.comparison_curves import spread
from fewstep.analysis.numbers import number
from fewstep.analysis.report.files import export
from fewstep.analysis.report.report import arrange
from fewstep.analysis.report.sheets import Sheet, to_csv, to_latex
from fewstep.analysis.runs.reading import read_run
from fewstep.analysis.runs.summary import Group, group_runs
from fewstep.analysis.statistics import comparison as cmp
from fewstep.analysis.statistics.aggregates import Estimate
from fewstep.analysis.statistics.normalised_scores import RANDOM
from fewstep.cli import main
from fewstep.errors import UsageError
from tests.analysis.fabricate import Made, make, mean_return
from tests.analysis.test_report import report

TASKS = ("HalfCheetah-v4", "Ant-v4")


def write(root, made):
    return [make(root / str(i), m) for i, m in enumerate(made)]


def compare(root, made, **options):
    return cmp.comparisons(group_runs([read_run(p) for p in write(root, made)]), **options)


def runs_of(algo, height, modes, seeds=3, tasks=TASKS, **more):
    return [
        Made(env=env, algo=algo, height=height, modes=modes, seed=seed, rows=12, **more)
        for env in tasks
        for seed in range(seeds)
    ]


MFPO = runs_of("mfpo", 3000.0, ("best-of-10", "sample"))
SAC = runs_of("sac", 2000.0, ("mode", "sample"))


def last_ten(made, mode):
    return np.mean([mean_return(made, mode, row) for row in range(3, 13)])


def test_native_and_single_sample_are_apart(tmp_path):
    native, sample = compare(tmp_path, MFPO + SAC)
    assert (native.mode, sample.mode) == ("native", "sample")
    assert [(e.label, e.actions) for e in native.entries] == [("mfpo", ("best-of-10",)), ("sac", ("mode",))]
    assert [e.actions for e in sample.entries] == [("sample",)] * 2
    assert native.tasks == TASKS
    for found, mode in ((native, "best-of-10"), (sample, "sample")):
        returns = [last_ten(m, mode) for m in MFPO[:3]]
        assert found.entries[0].returns["HalfCheetah-v4"] == pytest.approx(returns)
        zero, best = RANDOM["HalfCheetah-v4"].mean, np.mean(returns)
        scores = (np.array(returns) - zero) / (best - zero)
        assert found.entries[0].scores["HalfCheetah-v4"] == pytest.approx(scores)
    assert native.entries[0].aggregates()["mean"].value == pytest.approx(1)
    assert native.improvements()[0][:2] == ("mfpo", "sac")
    assert native.improvements()[0][2] == Estimate(1, 1, 1)
    assert native.warnings == ()


def test_scores_can_be_chosen_but_never_the_best(tmp_path):
    found = compare(tmp_path, MFPO + SAC, score="final")[1]
    assert found.entries[0].returns["Ant-v4"][0] == pytest.approx(mean_return(MFPO[3], "sample", 12))
    with pytest.raises(UsageError, match="unknown score 'best'"):
        cmp.comparisons([], score="best")


def test_one_variant_or_no_shared_task_is_no_comparison(tmp_path):
    assert compare(tmp_path / "one", MFPO) == []
    assert compare(tmp_path / "apart", MFPO[:3] + SAC[3:]) == []


def test_mujoco_versions_are_not_pooled(tmp_path):
    old = [Made(**(vars(m) | {"mujoco": "2.3.7"})) for m in MFPO + SAC]
    found = compare(tmp_path, MFPO + SAC + old)
    assert [(c.simulator, c.mode) for c in found] == [
        (version, mode) for version in ("MuJoCo 3.17.0", "MuJoCo 2.3.7") for mode in ("native", "sample")
    ]
    assert any("measured under MuJoCo 3.17.0, the runs under MuJoCo 2.3.7" in note for note in found[2].notes)
    assert compare(tmp_path / "x", MFPO + old[6:]) == []


def test_action_repeats_are_not_pooled_where_there_is_no_simulator():
    plain, other, repeated = (
        Group("Pendulum-v1", None, ()),
        Group("my:Env-v0", None, ()),
        Group("Pendulum-v1", "action repeat 2", ()),
    )
    assert cmp._fitting([plain, other]) == [(None, [plain, other])]
    assert cmp._fitting([repeated, other]) == [("action repeat 2", [repeated, other])]
    assert cmp._fitting([other, repeated]) == [("action repeat 2", [other, repeated])], "as they were given"
    assert cmp._fitting([plain, repeated, other]) == [("action repeat 2", [repeated]), (None, [plain, other])]


def test_settings_tell_variants_apart_on_every_task(tmp_path):
    narrow = runs_of("mfpo", 1000.0, ("best-of-10", "sample"), atoms=51, tasks=TASKS[:1])
    found = compare(tmp_path, MFPO + narrow)[0]
    assert [e.label for e in found.entries] == ["mfpo [critic.atoms=101]", "mfpo [critic.atoms=51]"]
    assert found.tasks == ("HalfCheetah-v4",)
    assert any("Left out" in note and "Ant-v4" in note for note in found.notes)
    other = runs_of("mfpo", 1000.0, ("best-of-10", "sample"), preset="authors", atoms=51)
    labels = [e.label for e in compare(tmp_path / "preset", MFPO + other)[0].entries]
    assert labels == ["mfpo [preset=small]", "mfpo [preset=authors]"]


def test_tasks_with_settings_of_their_own_are_still_one_variant(tmp_path):
    made = MFPO[:3] + runs_of("mfpo", 3000.0, ("best-of-10", "sample"), tasks=TASKS[1:], atoms=51) + SAC
    found = compare(tmp_path, made)[0]
    assert [e.label for e in found.entries] == ["mfpo", "sac"]
    assert "Settings of mfpo that differ between tasks: critic.atoms." in found.notes


def test_which_variants_and_tasks_are_chosen():
    assert cmp.choose([{"a", "b"}, {"a", "b"}, {"a"}]) == ([0, 1], {"a", "b"})
    assert cmp.choose([{"a"}, {"a"}, {"a", "b"}]) == ([0, 1, 2], {"a"})
    assert cmp.choose([{"a"}, {"b"}]) == ([], set())
    assert cmp.choose([]) == ([], set())


@pytest.mark.usefixtures("undrawn")
def test_tasks_without_a_scale_count_in_probabilities_only(tmp_path):
    made = [Made(**(vars(m) | {"env": "my:Env-v0"})) for m in (*MFPO[:3], *SAC[:3])]
    found = compare(tmp_path, made)[0]
    assert found.scales == {}
    assert found.notes == (
        "my:Env-v0 cannot be normalised: no random return is on record for it (fewstep report "
        "--measure-random plays random actions). It counts in the probabilities of improvement only.",
    )
    assert found.improvements()[0][2].value == 1
    _, words = report(write(tmp_path / "page", made), tmp_path / "report.html")
    assert "no random return is on record" in words
    assert "Normalised scores" not in words


def test_a_copy_of_a_run_adds_no_seed(tmp_path):
    first, second, copy = write(tmp_path, [SAC[0], SAC[1], SAC[0]])
    _, words = report([first, second, copy], tmp_path / "report.html")
    assert "with 2 seeds" in words
    assert "Fewer than 3 seeds" in words
    assert "A seed is there twice" in words
    (group,) = group_runs([read_run(path) for path in (first, second, copy)])
    assert [run.path for run in group.variants[0].seeds] == [first, second]
    with pytest.raises(UsageError, match="is given twice"):
        report([first, first], tmp_path / "report.html")


def test_few_seeds_twins_and_missing_modes_are_said(tmp_path):
    made = [*MFPO[:2], MFPO[0], *SAC[:3]]
    native, _ = compare(tmp_path, made)
    assert native.warnings[0].startswith("Fewer than 3 seeds: mfpo on HalfCheetah-v4 (2 seeds).")
    assert "mfpo on HalfCheetah-v4 has seed 0 twice; the first one counts." in native.notes
    paths = write(tmp_path / "missing", [*MFPO[:3], *SAC[:3]])
    (paths[5] / "policy" / "policy.json").unlink()
    found = cmp.comparisons(group_runs([read_run(p) for p in paths]))[0]
    assert "sac on HalfCheetah-v4, seed 2, has no evaluation with native actions." in found.notes
    assert [e.actions for e in found.entries] == [("best-of-10",), ("mode",)], "of that seed nothing is known"
    assert [len(e.curves["HalfCheetah-v4"]) for e in found.entries] == [3, 2]
    # Without a saved policy: what was evaluated and not asked for by name.
    config = (paths[5] / "config.toml").read_text()
    config = config.replace("eval_episodes", 'eval_modes = ["native", "sample"]\neval_episodes')
    (paths[5] / "config.toml").write_text(config)
    assert cmp.actions_of(read_run(paths[5]), "native") == "mode"


def test_the_page(tmp_path):
    _, words = report(write(tmp_path / "runs", MFPO + SAC), tmp_path / "report.html")
    assert "Comparison Native actions, MuJoCo 3.17.0" in words
    assert "The score of a run is the mean return over its last 10 evaluations, on" in words
    assert "mfpo best-of-10 and sac mode" in words
    assert "Single sample, MuJoCo 3.17.0" in words
    assert re.search(r"mfpo 2 3 [\d.]+ \[[\d.]+, [\d.]+\] 1 \[", words)
    assert "mfpo sac 1 [1, 1]" in words
    assert words.count("Share of runs with a score above τ") == 4  # two ways of acting, wide and narrow


def test_table_files(tmp_path, capsys):
    paths = [str(p) for p in write(tmp_path / "runs", [*MFPO[:2], *SAC[:2]])]
    out, folder = tmp_path / "r.html", tmp_path / "a" / "tables"
    assert main(["report", *paths, "--out", str(out), "--tables", str(folder)]) == 0
    assert capsys.readouterr().out == f"{out}\n{folder}\n"
    names = {p.name for p in folder.iterdir()}
    stems = ("runs", "seeds", "comparison-native-aggregates", "comparison-sample-improvement")
    assert {f"{stem}.{end}" for stem in stems for end in ("csv", "tex")} <= names
    for stem in ("learning-HalfCheetah-v4", "comparison-native-aggregates", "comparison-sample-profiles"):
        assert (folder / f"{stem}.svg").read_text().count("<svg") == 1
        assert (folder / f"{stem}.pdf").read_bytes()[:5] == b"%PDF-"
    rows = list(csv.DictReader((folder / "runs.csv").open()))
    assert len(rows) == 8
    assert float(rows[0]["last 10"]) == pytest.approx(last_ten(MFPO[0], "best-of-10"))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    groups = group_runs([read_run(tmp_path / "runs" / str(i)) for i in range(4)])
    found = cmp.comparisons(groups)
    export(arrange(groups, found), groups, found, folder)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    run = make(tmp_path / "run", Made(rows=2))
    blocked = run / "log.txt" / "tables"
    assert main(["report", str(run), "--out", str(tmp_path / "r.html"), "--tables", str(blocked)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"cannot write tables to {blocked}: Not a directory" in error
    assert main(["report", str(run), "--score", "best"]) == 2
    assert "unknown score 'best'" in capsys.readouterr().err


def test_sheets_by_hand():
    sheet = Sheet("x", "100 %", ("a_b", "n", "e"), [("[q] & $", -1.5, Estimate(0.5, 0.25, float("nan")))])
    assert to_csv(sheet) == "a_b,n,e,e low,e high\n[q] & $,-1.5,0.5,0.25,\n"
    assert to_latex(sheet) == (
        "% 100 %\n\\begin{tabular}{lrr}\n\\hline\na\\_b & n & e \\\\\n\\hline\n"
        "{[}q] \\& \\$ & $-$1.50 & 0.500 [0.250, --] \\\\\n\\hline\n\\end{tabular}\n"
    )


def test_bands_span_the_seeds_at_the_steps_they_share():
    curves = [
        (np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])),
        (np.array([2.0, 3.0, 4.0]), np.array([0.0, 50.0, 7.0])),
        (np.zeros(0), np.zeros(0)),
    ]
    steps, low, mean, high = spread(curves)
    assert steps.tolist() == [2.0, 3.0]
    assert (low.tolist(), mean.tolist(), high.tolist()) == ([0.0, 30.0], [10.0, 40.0], [20.0, 50.0])
    assert [len(part) for part in spread([curves[2]])] == [0, 0, 0, 0]


@pytest.mark.usefixtures("undrawn")
def test_many_runs_fold_behind_their_comparison(tmp_path):
    _, words = report(write(tmp_path / "runs", MFPO + SAC), tmp_path / "report.html")
    folded = ("Every run", "Returns of every run", "Every return on", "Training on", "Cost of every run")
    places = [words.index(text) for text in ("Comparison Native actions", *folded)]
    assert places == sorted(places)
    assert "trained on" not in words  # one paragraph per variant and task would be a wall
    # The score of every variant on every task: mean over seeds, lowest and highest.
    scores = [last_ten(made, "best-of-10") for made in MFPO[:3]]
    shown = f"{number(np.mean(scores))} [{number(min(scores))}, {number(max(scores))}]"
    assert f"mfpo best-of-10 {shown}" in words
    _, few_words = report(write(tmp_path / "few", MFPO[:2] + SAC[:2]), tmp_path / "few.html")
    assert few_words.index("trained on") < few_words.index("Comparison Native actions")
    assert "Every run" not in few_words
