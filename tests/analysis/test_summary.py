import numpy as np
import pytest

from fewstep.analysis.numbers import count, duration, listing, number, percent, short, span
from fewstep.analysis.runs import summary
from fewstep.analysis.runs.reading import read_run
from tests.analysis.fabricate import Made, make, mean_return, write_rows


def run_with(path, rows, name="evaluations.jsonl"):
    make(path, Made(rows=1))
    write_rows(path / name, rows)
    return read_run(path)


def test_results_by_hand(tmp_path):
    means = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 100]  # twelve evaluations
    rows = [
        {"env_steps": 10 * (i + 1), "updates": i, "actions": "sample", "returns": [m - 1, m + 1]}
        for i, m in enumerate(means)
    ]
    (result,) = summary.results(run_with(tmp_path / "run", rows))
    assert result.actions == "sample"
    assert result.final == 100
    assert result.averaged == 10
    assert result.last == pytest.approx((20 + 30 + 40 + 50 + 60 + 70 + 80 + 90 + 200 + 100) / 10)
    assert result.best == 200
    assert result.area == pytest.approx((sum(means) - 0 / 2 - 100 / 2) / 11)  # even steps: trapezoid rule
    assert (result.evaluations, result.episodes) == (12, 2)


def test_area_weighs_by_steps_not_by_rows():
    assert summary.mean_height(np.array([0.0, 1.0, 4.0]), np.array([0.0, 2.0, 2.0])) == pytest.approx(
        (1 + 6) / 4
    )
    assert summary.mean_height(np.array([5.0]), np.array([7.0])) == 7


def test_cost_by_hand(tmp_path):
    rows = [
        {"env_steps": 100, "updates": 0, "wall_seconds": 10.0},
        {"env_steps": 200, "updates": 50, "wall_seconds": 60.0},
        {"env_steps": 300, "updates": 250, "wall_seconds": 90.0, "wall_update_ms": 4.0, "wall_act_ms": 0.2},
        {"env_steps": 350, "updates": 350, "wall_seconds": 100.0, "wall_update_ms": 9.0, "wall_act_ms": 0.1},
        {"env_steps": 400, "updates": 450, "wall_seconds": 120.0, "wall_update_ms": 5.0, "wall_act_ms": 0.3},
    ]
    cost = summary.cost(run_with(tmp_path / "run", rows, "metrics.jsonl"))
    assert (cost.env_steps, cost.updates, cost.minutes) == (400, 450, 2)
    assert cost.utd == 2  # 400 updates in the last 200 steps; the warm-up does not count
    assert cost.steps_per_second == pytest.approx(400 / 120)
    assert (cost.update_ms, cost.act_ms) == (5.0, 0.2)


def test_a_clock_that_restarts_is_added_up():
    assert summary.clock_total(np.array([10.0, 20.0, 3.0, 8.0, 1.0])) == 20 + 8 + 1
    assert summary.clock_total(np.array([4.0])) == 4


def test_cost_without_metrics_comes_from_evaluations(tmp_path):
    path = make(tmp_path / "run", Made(rows=3))
    (path / "metrics.jsonl").unlink()
    cost = summary.cost(read_run(path))
    assert (cost.env_steps, cost.updates) == (3000, 2000)
    assert np.isnan([cost.utd, cost.minutes, cost.steps_per_second]).all()
    (path / "evaluations.jsonl").unlink()
    assert np.isnan(summary.cost(read_run(path)).env_steps)


def test_modes_are_ordered_and_apart(tmp_path):
    run = read_run(make(tmp_path / "run", Made(rows=2, modes=("mode", "sample", "best-of-2", "best-of-10"))))
    assert summary.modes([run]) == ["best-of-10", "best-of-2", "sample", "mode"]
    steps, means = summary.mode_curve(run, "sample")
    assert steps.tolist() == [1000, 2000]
    assert means == pytest.approx([mean_return(Made(), "sample", 1), mean_return(Made(), "sample", 2)])


def test_mean_over_seeds_only_where_all_have_a_value():
    a = (np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]))
    b = (np.array([2.0, 3.0, 4.0]), np.array([40.0, 50.0, 60.0]))
    steps, values = summary.common_mean([a, b, (np.zeros(0), np.zeros(0))])
    assert steps.tolist() == [2, 3]
    assert values.tolist() == [30, 40]
    assert summary.common_mean([])[0].size == 0


def test_bins_keep_mean_and_extremes():
    steps, values = np.arange(6.0), np.array([0.0, 2.0, 4.0, 6.0, 8.0, 1.0])
    mid, mean, low, high = summary.binned(steps, values, 2)
    assert (mid.tolist(), mean.tolist()) == ([1, 4], [2, 5])
    assert (low.tolist(), high.tolist()) == ([0, 1], [4, 8])
    assert summary.binned(steps, values, 6)[1] is values


def test_differences_use_the_key_space_of_set():
    a = {"seed": 0, "critic": {"atoms": 101, "hidden": [256]}, "same": 1}
    b = {"seed": 1, "critic": {"atoms": 51, "hidden": [256]}, "same": 1, "new": True}
    assert summary.differences([a, b]) == {"seed": [0, 1], "critic.atoms": [101, 51], "new": [None, True]}


def test_runs_are_never_mixed_over_environments_versions_or_settings(tmp_path):
    made = [
        Made(seed=1, rows=1),
        Made(seed=0, rows=1),
        Made(seed=0, rows=1, atoms=51),
        Made(seed=2, rows=1, mujoco="2.3.7"),
        Made(seed=3, rows=1, env="Ant-v5"),
    ]
    runs = [read_run(make(tmp_path / str(i), m)) for i, m in enumerate(made)]
    groups = summary.group_runs(runs)
    assert [(g.env, g.simulator) for g in groups] == [
        ("HalfCheetah-v4", "MuJoCo 3.17.0"),
        ("HalfCheetah-v4", "MuJoCo 2.3.7"),
        ("Ant-v5", "MuJoCo 3.17.0"),
    ]
    first = groups[0].variants
    assert [v.label for v in first] == ["mfpo [critic.atoms=101]", "mfpo [critic.atoms=51]"]
    assert [run.seed for run in first[0].runs] == ["0", "1"]


def test_any_number_of_variants_have_names_of_their_own():
    """Searches have as many as they have trials."""
    settings = [{"a_setting_with_a_long_name": i, "and_another_such": -i} for i in range(80)]
    labels = summary.label(["sac"] * len(settings), settings)
    assert labels[:2] + labels[25:28] + labels[-1:] == [
        "sac A",
        "sac B",
        "sac Z",
        "sac AA",
        "sac AB",
        "sac CB",
    ]
    assert len(set(labels)) == len(labels)


def test_words():
    values = (-1234.5, 12.34, 1.234, 0.01234, 0.26, 1e-7, 0.0, -0.0, 3.0, 2e13, np.nan)
    spoken = ["−1,234", "12.3", "1.23", "0.0123", "0.260", "1.00e−07", "0", "0", "3", "2.00e+13", "–"]
    assert [number(v) for v in values] == spoken
    assert [short(v) for v in (-0.5, 0.02, 0.0, 2000.0)] == ["−0.5", "0.02", "0", "2,000"]
    assert (percent(0.1234), percent(np.nan)) == ("12.3 %", "–")
    assert [span(x) for x in ([], [8, 8], [10, 8, 1200])] == ["", "8", "8 to 1,200"]
    assert [duration(m) for m in (0.5, 42.3, 150, np.nan)] == ["30 s", "42 min", "2.5 h", "–"]
    assert [listing(x) for x in ([], ["a"], ["a", "b", "c"])] == ["", "a", "a, b and c"]
    assert (count(1, "seed"), count(1200, "seed")) == ("1 seed", "1,200 seeds")
