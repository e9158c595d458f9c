"""The statistics against numbers worked by hand, against scipy, and against the truth of a simulation."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from fewstep.analysis.statistics import aggregates as st

MATRIX = np.array([[0.0, 10.0], [1.0, 20.0], [2.0, 60.0]])  # [runs, tasks]


def test_aggregates_by_hand():
    assert st.mean(MATRIX.T) == pytest.approx((1 + 30) / 2)
    assert st.median(MATRIX.T) == pytest.approx((1 + 30) / 2)
    three = [np.array([0.0, 2.0]), np.array([5.0]), np.array([100.0, 300.0, 200.0])]
    assert st.mean(three) == pytest.approx((1 + 5 + 200) / 3)
    assert st.median(three) == 5
    # Shortfalls 0.5 and 0 in the first task, 1.25 in the second; 3.0 earns nothing above 1.
    assert st.optimality_gap([np.array([0.5, 3.0]), np.array([-0.25])]) == pytest.approx((0.25 + 1.25) / 2)
    assert st.optimality_gap([np.array([0.5, 3.0])], gamma=4) == pytest.approx((3.5 + 1) / 2)


def test_the_interquartile_mean_by_hand():
    assert st.interquartile_mean([np.arange(1.0, 9.0)]) == pytest.approx((3 + 4 + 5 + 6) / 4)
    assert st.interquartile_mean([np.array([8.0, 1, 7, 2]), np.array([6.0, 3, 5, 4])]) == pytest.approx(4.5)
    assert st.interquartile_mean([np.array([1.0, 2.0, 6.0])]) == 3  # below four runs nothing is cut
    assert st.interquartile_mean([np.array([7.0])]) == 7
    assert st.interquartile_mean([np.array([2.0, 4.0])]) == 3
    assert st.interquartile_mean([np.array([0.0, 5.0, 5.0, 1000.0])]) == 5  # outliers do not count
    assert st.interquartile_mean([np.full(9, 2.5)]) == pytest.approx(2.5)  # ties


@pytest.mark.parametrize("runs", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_the_interquartile_mean_is_scipys_trimmed_mean(runs, tasks):
    matrix = np.random.default_rng(runs * tasks).normal(size=(runs, tasks))
    assert st.interquartile_mean(matrix.T) == pytest.approx(trim_mean(matrix.ravel(), 0.25))


def test_tasks_with_unequal_runs_weigh_the_same():
    # Weights 1/2 for the 8 and 1/12 for each of six others; 7 runs: 1/7 of the weight is cut at each end.
    # Sorted 0 0 0 0 0 0 | 8: below goes 1/7 of zeros, above 1/7 of the 8; left are 5/14 of each.
    assert st.interquartile_mean([np.array([8.0]), np.zeros(6)]) == pytest.approx(4)
    # Writing every run of a task down twice changes nothing but the share that is cut.
    a, b = np.array([1.0, 5.0]), np.array([2.0, 3.0])
    assert st.mean([a, np.repeat(b, 2)]) == st.mean([a, b])
    assert st.optimality_gap([a, np.repeat(b, 2)], 4) == st.optimality_gap([a, b], 4)


def test_replications_are_leading_axes():
    rng = np.random.default_rng(0)
    drawn = [rng.normal(size=(7, 4)), rng.normal(size=(7, 3))]
    for statistic in st.STATISTICS.values():
        one_by_one = [float(statistic([drawn[0][i], drawn[1][i]])) for i in range(7)]
        assert statistic(drawn) == pytest.approx(one_by_one)


def test_the_interval_of_two_runs_is_known():
    """Means of two draws from {0, 1}: 0, 1/2, 1 with probability 1/4, 1/2, 1/4."""
    found = st.estimate(st.mean, [np.array([0.0, 1.0])], confidence=0.4)  # quantiles 0.3 and 0.7
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    wide = st.estimate(st.mean, [np.array([0.0, 1.0])])
    assert (wide.low, wide.high) == (0, 1)
    # A sum over independent tasks: with three tasks all draws are low with probability 1/64 < 2.5 %.
    three = st.estimate(st.mean, [np.array([0.0, 1.0])] * 3)
    assert (three.low, three.high) == pytest.approx((1 / 6, 5 / 6))


def test_intervals_of_many_runs_are_normal():
    """Mean of n runs: standard error s / sqrt(n), and 1.96 of them at 95 %."""
    runs = np.random.default_rng(3).normal(5, 2, 400)
    found = st.estimate(st.mean, [runs])
    half = 1.96 * runs.std() / 20
    assert (found.low, found.high) == pytest.approx((runs.mean() - half, runs.mean() + half), abs=0.03)


def test_tasks_are_resampled_apart():
    """Strata: constant tasks have no spread, however far apart they are."""
    found = st.estimate(st.mean, [np.full(3, 1.0), np.full(5, 9.0)])
    assert (found.low, found.value, found.high) == (5, 5, 5)


def test_a_single_run_has_no_interval():
    lone = [np.array([1.0]), np.array([2.0, 3.0])]
    for found in (
        st.estimate(st.interquartile_mean, lone),
        st.probability_of_improvement(lone, [np.zeros(2), np.zeros(2)]),
        st.performance_profile(lone, np.array([0.0, 2.5])),
    ):
        assert np.isnan(found.low).all()
        assert np.isnan(found.high).all()
    assert st.probability_of_improvement(lone, [np.zeros(2), np.zeros(2)]).value == 1


def test_intervals_are_seeded():
    runs = [np.random.default_rng(0).normal(size=6)]
    assert st.estimate(st.median, runs) == st.estimate(st.median, runs)
    assert st.estimate(st.mean, runs, seed=1) != st.estimate(st.mean, runs, seed=0)


@pytest.mark.parametrize(("runs", "low", "high"), [(10, 0.88, 0.98), (3, 0.6, 0.85)])
def test_how_often_the_interval_holds_the_truth(runs, low, high):
    """About 93 % with ten runs; with three about 75 %, which is why the report warns."""
    rng = np.random.default_rng(1)
    found = [
        st.estimate(st.interquartile_mean, rng.normal(size=(1, runs)), replications=400, seed=i)
        for i in range(400)
    ]
    assert low < np.mean([e.low <= 0 <= e.high for e in found]) < high


def test_probability_of_improvement_by_hand():
    x, y = np.array([1.0, 3.0, 5.0]), np.array([2.0, 3.0])
    # 1 beats none, 3 beats the 2 and ties the 3, 5 beats both: (0 + 1.5 + 2) / 6.
    found = st.probability_of_improvement([x], [y])
    assert found.value == pytest.approx(3.5 / 6)
    assert found.low < found.value < found.high
    back = st.probability_of_improvement([y], [x])
    assert back.value == pytest.approx(1 - 3.5 / 6)
    both = st.probability_of_improvement([x, np.ones(2)], [y, np.zeros(4)])
    assert both.value == pytest.approx((3.5 / 6 + 1) / 2)
    same = st.probability_of_improvement([np.ones(3)], [np.ones(4)])
    assert (same.low, same.value, same.high) == (0.5, 0.5, 0.5)
    one = st.probability_of_improvement([np.array([2.0, 3.0])], [np.array([0.0, 1.0])])
    assert (one.low, one.value, one.high) == (1, 1, 1)


def test_probability_of_improvement_is_mann_whitney():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 6, 9).astype(float), rng.integers(1, 7, 7).astype(float)
    u = mannwhitneyu(x, y).statistic
    assert st.probability_of_improvement([x], [y]).value == pytest.approx(u / (9 * 7))
    # Only the order counts.
    assert st.probability_of_improvement([x**3], [y**3]) == st.probability_of_improvement([x], [y])


def test_profiles_by_hand():
    taus = np.array([-1.0, 0.0, 0.5, 1.0])
    found = st.performance_profile([np.array([0.0, 1.0]), np.array([0.2, 0.4, 0.6, 0.8])], taus)
    assert found.above == pytest.approx([1, (0.5 + 1) / 2, (0.5 + 0.5) / 2, 0])  # above is strict
    assert (found.low[0], found.high[0], found.low[3], found.high[3]) == (1, 1, 0, 0)
    assert (found.low <= found.above).all()
    assert (found.above <= found.high).all()


def test_profile_intervals_are_binomial():
    """The share of n runs above a threshold has standard error sqrt(p (1 - p) / n)."""
    runs = (np.arange(400) < 120).astype(float)
    found = st.performance_profile([runs], np.array([0.5]))
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert (found.low[0], found.high[0]) == pytest.approx((0.3 - half, 0.3 + half), abs=0.008)


RLIABLE = json.loads(Path(__file__).with_name("rliable_fixture.json").read_text())


@pytest.mark.parametrize("case", RLIABLE["cases"], ids=lambda case: "x".join(map(str, np.shape(case["x"]))))
def test_the_statistics_are_rliables(case):
    """Points to the last digit, intervals to what two bootstraps of 20,000 draws differ by."""
    x, y = np.array(case["x"]), np.array(case["y"])
    draws = RLIABLE["replications"]
    for name, statistic in st.STATISTICS.items():
        ours = st.estimate(statistic, list(x.T), replications=draws)
        assert ours.value == pytest.approx(case["points"][name], abs=1e-12), name
        low, high = case["intervals"][name]
        assert [ours.low, ours.high] == pytest.approx([low, high], abs=0.05 * (high - low)), name
    better = st.probability_of_improvement(list(x.T), list(y.T), replications=draws)
    assert better.value == pytest.approx(case["better"], abs=1e-12)
    low, high = case["better_interval"]
    assert [better.low, better.high] == pytest.approx([low, high], abs=0.05 * max(high - low, 0.1))
    profile = st.performance_profile(list(x.T), np.array(RLIABLE["taus"]))
    assert profile.above == pytest.approx(case["above"], abs=1e-12)
