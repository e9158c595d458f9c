import pytest
from scipy.stats import binomtest

from fewstep.analysis.statistics.proportion import success_words, wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (0, 10), (3, 10), (7, 10), (10, 10), (1, 400)])
def test_the_interval_is_wilsons(successes, trials):
    found = wilson(successes, trials)
    theirs = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert found.value == successes / trials
    assert found.low == pytest.approx(theirs.low, abs=1e-12)
    assert found.high == pytest.approx(theirs.high, abs=1e-12)


def test_words():
    assert success_words([1, 0, 1, 1, 0, 1, 1, 1, 0, 1]) == "7 of 10 (0.40 to 0.89)"
