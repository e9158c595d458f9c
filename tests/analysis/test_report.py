import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from fewstep.analysis.numbers import number
from fewstep.analysis.report import write_figure, write_report
from fewstep.errors import FewstepError, UsageError
from tests.analysis.fabricate import Made, add_bandit_samples, add_trajectories, make, mean_return

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Structure(HTMLParser):
    """Checks that tags balance; collects text, ids, attributes and tag names."""

    def __init__(self):
        super().__init__()
        self.open, self.words, self.ids, self.tags, self.attributes = [], [], [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def check(html):
    """The page is well formed, self-contained and inert; returns its parsed structure."""
    page = Structure()
    page.feed(html)
    page.close()
    assert page.open == []
    assert len(page.ids) == len(set(page.ids)), "ids must be unique on the page"
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "base", "form"}
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("#", "data:image/png;base64,")), value
    outside = [u for u in re.findall(r"\w+://[^\s\"'<)]+", html) if not u.startswith("http://www.w3.org/")]
    assert outside == []
    for target in re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"", html):
        assert "".join(target) in page.ids
    assert all(ref.startswith("#") for ref in re.findall(r"url\(([^)]*)\)", html))
    assert "@import" not in html
    return page


def report(runs, out):
    html = write_report(runs, out).read_text(encoding="utf-8")
    return html, " ".join(" ".join(check(html).words).split())


def test_a_single_finished_run(tmp_path):
    made = Made(rows=20)
    html, words = report([make(tmp_path / "run", made)], tmp_path / "out" / "report.html")
    for mode in made.modes:
        means = [mean_return(made, mode, row) for row in range(1, 21)]
        last_ten, area = np.mean(means[-10:]), np.trapezoid(means) / 19
        row = f"{mode} {number(means[-1])} {number(last_ten)} {number(max(means))} {number(area)}"
        assert f"mfpo HalfCheetah-v4 0 {row} 20 5 MuJoCo 3.17.0" in words
    assert "trained on HalfCheetah-v4, MuJoCo 3.17.0 with seed 0 for 20,000 environment steps" in words
    assert "mfpo HalfCheetah-v4 0 20,000 19,000 1 4 83.3 cpu MuJoCo 3.17.0 1.3.0 0.10.2" in words
    assert "ms / update" not in words, "nobody timed them"
    assert "Fewer than 3 seeds: mfpo on HalfCheetah-v4 (1 seed)" in words
    assert "steers to (−0.5 per action dimension)" in words
    assert "Of 16 policy and 32 Gaussian proposals" in words
    assert "critic.atoms 101" in words
    assert "Missing or damaged" not in words
    for title in ("Critic loss", "Weight ρ of the policy proposal", "environment steps / s"):
        assert title in words
    assert html.count("<svg") == 20  # 18 metrics with their own figure (ESS is one), the curve twice
    assert len(html) < 1_000_000


def test_a_long_run_stays_light(tmp_path):
    made = Made(rows=1000, interval=1000, episodes=1, modes=("sample",))
    html, _ = report([make(tmp_path / "run", made)], tmp_path / "report.html")
    assert len(html) < 700_000


def test_every_episode_is_a_dot(tmp_path):
    html, _ = report([make(tmp_path / "run", Made(rows=7, episodes=11))], tmp_path / "report.html")
    clouds = re.findall(r'd="((?:M [\d.-]+ [\d.-]+ L [\d.-]+ [\d.-]+ ?)+)"', html)
    assert (
        sum(cloud.count("M") == 77 for cloud in clouds) == 4
    )  # two modes, drawn for wide and narrow screens


def test_three_seeds_are_averaged_with_their_range(tmp_path):
    made = [Made(seed=seed, rows=12) for seed in range(3)]
    _, words = report([make(tmp_path / str(m.seed), m) for m in made], tmp_path / "report.html")
    ends = [mean_return(m, "sample", 12) for m in made]
    spread = f"{number(np.mean(ends))} [{number(ends[0])}, {number(ends[2])}]"
    assert f"mfpo HalfCheetah-v4 sample 3 {spread}" in words
    assert "Mean return over seeds [lowest seed, highest seed]" in words
    assert "with 3 seeds (0, 1 and 2) for 12,000 environment steps each" in words
    assert "mean over episodes and 3 seeds; thin lines: each seed" in words
    assert "Fewer than" not in words


def test_a_crashed_run_reports_what_it_lacks(tmp_path):
    path = make(tmp_path / "run", Made(rows=5))
    (path / "evaluations.jsonl").unlink()
    (path / "provenance.json").unlink()
    text = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(text[:3]) + text[3][:40])
    _, words = report([path], tmp_path / "report.html")
    assert "It was never evaluated." in words
    for problem in (
        "provenance.json and evaluations.jsonl are missing",
        "metrics.jsonl ends in a torn line, left out",
        "it has reached 3,000 of 5,000 environment steps",
    ):
        assert problem in words
    assert "Critic loss" in words
    for absent in ("Every evaluation.", "Results", "Software", "Provenance", "MuJoCo", "unknown", "–"):
        assert absent not in words, absent


@pytest.mark.usefixtures("undrawn")
def test_success_stands_beside_returns_where_an_environment_tells(tmp_path):
    paths = [make(tmp_path / str(seed), Made(seed=seed, rows=3)) for seed in (0, 1)]
    plain = report(paths, tmp_path / "plain.html")[1]
    assert "success [" not in plain
    for path, count in zip(paths, (4, 2), strict=True):
        rows = [json.loads(line) for line in (path / "evaluations.jsonl").read_text().splitlines()]
        for row in rows:
            row["success"] = [1] * count + [0] * (5 - count)
        (path / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, words = report(paths, tmp_path / "report.html")
    assert "evaluations episodes each success [95 %] simulator" in words
    assert "3 5 0.800 [0.376, 0.964] MuJoCo" in words.replace("\N{NO-BREAK SPACE}", " ")  # Wilson's, 4 of 5
    assert "0.600 [0.400, 0.800] MuJoCo" in words.replace(
        "\N{NO-BREAK SPACE}", " "
    )  # lowest and highest seed


def test_mujoco_versions_are_shown_apart(tmp_path):
    made = [Made(seed=0, rows=3), Made(seed=1, rows=3, mujoco="2.3.7")]
    _, words = report([make(tmp_path / str(m.seed), m) for m in made], tmp_path / "report.html")
    assert "HalfCheetah-v4 was run under MuJoCo 3.17.0 and MuJoCo 2.3.7" in words
    assert "Mean return over seeds" not in words
    assert words.count("Every evaluation. Faint dots") == 2


@pytest.mark.usefixtures("undrawn")
def test_other_settings_are_other_variants(tmp_path):
    made = [Made(rows=3), Made(rows=3, atoms=51)]
    _, words = report([make(tmp_path / str(m.atoms), m) for m in made], tmp_path / "report.html")
    assert "Settings that differ between these runs" in words
    assert "critic.atoms 101 51" in words


def test_uneven_seeds_are_warned_about(tmp_path):
    made = [Made(seed=0, rows=3), Made(seed=1, rows=5)]
    runs = [make(tmp_path / str(m.seed), m) for m in made]
    for run in runs:  # the plan was the same
        text = (run / "config.toml").read_text()
        (run / "config.toml").write_text(re.sub(r"steps = \d{4}", "steps = 5000", text))
    _, words = report(runs, tmp_path / "report.html")
    assert "Seeds stopped at different steps" in words
    assert "for 3,000 to 5,000 environment steps" in words


def test_the_bandit_is_compared_with_the_truth(tmp_path):
    run = make(tmp_path / "run", Made(env="toy/bandit", rows=5, height=0.9, modes=("sample",), alpha_end=0.2))
    add_bandit_samples(run, (1000, 3000, 5000), alpha=0.2, n=4000)
    html, words = report([run], tmp_path / "report.html")
    learned = re.search(r"\blearned (0\.\d{3,4}) ([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+)", words)
    true = re.search(r"\btrue 0 ([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+)", words)
    floor = re.search(r"4,000 exact samples of the target would score (0\.\d{3})", words)
    assert learned is not None
    assert true is not None
    assert floor is not None
    assert float(learned[1]) == pytest.approx(float(floor[1]), abs=0.02)  # the samples are exact
    for share, target in zip(learned.groups()[1:], true.groups(), strict=True):
        assert float(share) == pytest.approx(float(target), abs=3)
    assert "final α = 0.200" in words
    assert len(set(re.findall(r"(\d,000) · TV", words))) == 3
    assert html.count("data:image/png;base64,") == 2 * (4 + 3)


def test_several_bandit_runs_stand_side_by_side(tmp_path):
    """One panel per temperature; a run without samples is left out of it."""
    runs = []
    for algo, alpha, n in (("smfp", 0.2, 2000), ("sac", 0.2, 2500), ("mfpo", 0.5, 2000)):
        made = Made(env="toy/bandit", algo=algo, rows=4, modes=("sample",), alpha_end=alpha)
        runs.append(make(tmp_path / algo, made))
        add_bandit_samples(runs[-1], (2000, 4000), alpha=alpha, n=n)
    alone = make(
        tmp_path / "none", Made(env="toy/bandit", algo="td3", rows=4, modes=("sample",), alpha_end=0.2)
    )
    _, words = report([*runs, alone], tmp_path / "report.html")
    assert "Learned densities beside the true one" in words
    assert "at α = 0.200. Numbers" in words
    assert "at α = 0.500. Numbers" in words
    for name in ("sac", "smfp", "mfpo", "best Gaussian"):
        assert re.search(rf"{name} · TV 0\.\d\d", words), name
    assert "td3 · TV" not in words
    assert "Learned densities beside" not in report(runs[:1], tmp_path / "one.html")[1]
    np.save(next((runs[0] / "samples").glob("*4000.npy")), np.zeros((5, 3)))
    _, words = report(runs, tmp_path / "damaged.html")
    assert "must have shape [N, 2]" in words
    assert "sac · TV" in words
    assert "smfp · TV" not in words


def test_the_entropies_of_a_mixture_stand_together(tmp_path):
    extra = {"policy/log_std": -4.0, "policy/mean_spread": 0.2, "policy/conditional_entropy": -1.0}
    made = Made(env="toy/bandit", algo="smfp", rows=4, modes=("sample",), alpha_end=0.2, extra=extra)
    run = make(tmp_path / "run", made)
    add_bandit_samples(run, (2000, 4000), alpha=0.2, n=2000)
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(f'{config}\n[entropy]\nkind = "semi_implicit"\ntarget_std = 0.01\n')
    _, words = report([run], tmp_path / "soft.html")
    assert "nearest-neighbour estimate" in words
    assert "Used: the bound H_K" in words
    assert "Spread of the mean over the noise" in words
    assert "Dashed: log target_std" not in words
    (run / "config.toml").write_text(f'{config}\n[entropy]\nkind = "hinge"\ntarget_std = 0.01\n')
    assert "Dashed: log target_std" in report([run], tmp_path / "hinge.html")[1]


def test_a_bandit_sample_that_is_no_action_is_named(tmp_path):
    run = make(tmp_path / "run", Made(env="toy/bandit", rows=2, modes=("sample",)))
    (run / "samples").mkdir()
    np.save(run / "samples" / "actions-000002000.npy", np.full((5, 2), 3.0))
    _, words = report([run], tmp_path / "report.html")
    assert "cannot be shown: actions of toy/bandit must be finite and in [-1, 1]" in words
    np.save(run / "samples" / "actions-000002000.npy", np.zeros((5, 3)))
    assert "must have shape [N, 2]" in report([run], tmp_path / "report.html")[1]


def test_the_goals_of_multigoal_are_counted(tmp_path):
    run = make(tmp_path / "run", Made(env="toy/multigoal", rows=3, height=5))
    add_trajectories(run, 1000, [0, 0, 0, 0])
    add_trajectories(run, 3000, [0, 0, 0, 1, 1, 2, 3, -1])
    _, words = report([run], tmp_path / "report.html")
    for text in ("37.5 %", "25.0 %", "12.5 %", "% of 8 episodes", "8 episodes of the policy at 3,000"):
        assert text in words
    (run / "samples" / "trajectories-000003000.npz").write_bytes(b"torn")
    assert "samples/trajectories-000003000.npz cannot be read" in report([run], tmp_path / "report.html")[1]


def test_names_from_files_come_out_escaped(tmp_path):
    nasty = "<script>alert(1)</script>$x^2$&amp;"
    made = Made(
        env=nasty, rows=3, modes=("<b>mode</b>", "sample"), extra={"<i>/x": 1.0, "a/\" onload='": 2.0}
    )
    path = make(tmp_path / "<u>run", made)
    (path / "provenance.json").write_text(
        json.dumps({"versions": {"mujoco": "<img src=x>"}, "device": nasty})
    )
    html, words = report([path], tmp_path / "report.html")
    assert nasty in words
    assert "<b>mode</b>" in words
    assert not re.search(r"<(script|img|b|i|u)\b(?! class)", html)


def test_the_same_runs_give_the_same_bytes(tmp_path):
    bandit = make(
        tmp_path / "bandit", Made(env="toy/bandit", rows=3, modes=("sample",), height=1.0, alpha_end=0.3)
    )
    add_bandit_samples(bandit, (1000, 3000), alpha=0.3)
    runs = [make(tmp_path / "run", Made(rows=6)), bandit]
    first = write_report(runs, tmp_path / "a.html").read_bytes()
    code = "import sys; from pathlib import Path; from fewstep.analysis.report import write_report as w; "
    code += "w([Path(p) for p in sys.argv[2:]], Path(sys.argv[1])); assert 'jax' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "b.html", *runs],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert (tmp_path / "b.html").read_bytes() == first


def test_figure_files(tmp_path):
    run = make(tmp_path / "run", Made(rows=3))
    svg = write_figure([run], tmp_path / "curve.svg").read_text()
    assert "var(--" not in svg
    assert "<text" not in svg
    assert svg == write_figure([run], tmp_path / "again.svg").read_text()
    assert write_figure([run], tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_figures_that_cannot_be_are_one_line(tmp_path):
    run, other = make(tmp_path / "a", Made(rows=2)), make(tmp_path / "b", Made(rows=2, env="Ant-v5"))
    with pytest.raises(UsageError, match=r"must end in \.svg or \.png"):
        write_figure([run], tmp_path / "x.pdf")
    with pytest.raises(UsageError, match="one environment under one version of its simulator"):
        write_figure([run, other], tmp_path / "x.svg")
    (run / "evaluations.jsonl").unlink()
    with pytest.raises(UsageError, match="no evaluations to draw"):
        write_figure([run], tmp_path / "x.svg")


def test_bad_requests_are_one_line(tmp_path):
    run = make(tmp_path / "run", Made(rows=2))
    with pytest.raises(UsageError, match="at least one run"):
        write_report([], tmp_path / "x.html")
    with pytest.raises(UsageError, match="is not a run: no such directory"):
        write_report([run, tmp_path / "no"], tmp_path / "x.html")
    with pytest.raises(FewstepError, match="cannot write"):
        write_report([run], run / "log.txt" / "x.html")


def test_drawings_hold_nothing_for_the_whole_page(tmp_path):
    """A sheet of styles inside a drawing would be for every other, too; ids are checked in ``check``."""
    html, _ = report([make(tmp_path / f"run-{k}", Made(seed=k)) for k in range(3)], tmp_path / "report.html")
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "<style" not in drawings
    assert "<metadata" not in drawings
    assert not re.search(r"#[0-9a-f]{6}\b", drawings), "colours must be the page's, for the dark theme"
    assert not re.search(r" d=\"[^\"]*\d\.\d{3}", drawings), "hundredths of a point are enough"


def test_a_figure_in_a_file_is_on_white(tmp_path):
    """It may be shown on a dark page."""
    run = make(tmp_path / "run", Made())
    write_figure([run], tmp_path / "curve.svg")
    write_figure([run], tmp_path / "curve.png")
    paper = re.search(
        r'id="patch_1">.*?style="fill: ([^";]+)', (tmp_path / "curve.svg").read_text(), re.DOTALL
    )
    assert paper
    assert paper[1] == "#ffffff"
    np.testing.assert_array_equal(matplotlib.image.imread(tmp_path / "curve.png")[0, 0], 1.0)
