import pytest

from fewstep.analysis.statistics.normalised_scores import MUJOCO, RANDOM, scale
from fewstep.envs import list_ids
from fewstep.errors import UsageError


def test_random_is_zero_and_the_best_mean_is_one():
    line = scale("HalfCheetah-v4", RANDOM["HalfCheetah-v4"], 9736.0)
    assert line(RANDOM["HalfCheetah-v4"].mean) == 0
    assert line(9736.0) == 1
    assert line((9736.0 - 264) / 2) == pytest.approx(0.5)
    assert line(-1264.0) == pytest.approx(-0.1)
    assert line(10736.0) == pytest.approx(1.1)


def test_every_listed_environment_has_a_random_return():
    measured = {env_id for env_id, suite, _ in list_ids() if suite in ("mujoco", "classic-control", "toy")}
    assert measured == set(RANDOM)
    assert all(found.episodes >= 20 and found.error > 0 for found in RANDOM.values())
    assert MUJOCO == "MuJoCo 3.17.0"


def test_facts_that_bound_random_returns():
    """Pusher's and Reacher's rewards are negative; v4 pays one more step of survival at the fall than v5."""
    assert RANDOM["Pusher-v5"].mean < 0
    assert RANDOM["Pendulum-v1"].mean > -16.3 * 200
    assert 0 < RANDOM["toy/bandit"].mean < 1
    for name, alive in (("Hopper", 1), ("InvertedPendulum", 1), ("InvertedDoublePendulum", 10)):
        assert RANDOM[f"{name}-v4"].mean - RANDOM[f"{name}-v5"].mean == pytest.approx(alive, abs=0.05), name


def test_a_task_where_nothing_beats_random_actions_is_one_line():
    with pytest.raises(UsageError, match="no variant is better than random"):
        scale("Hopper-v4", RANDOM["Hopper-v4"], 3.0)
