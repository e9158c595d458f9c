"""A loop at a fixed rate, on a clock that the test moves."""

import gc
import time

import numpy as np
import pytest

from fewstep.deploy import pacing


class Clock:
    """Time passes in ``sleep`` and where the test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0.0
        self.now += seconds


def loop(acting, applying=(), period=1.0, ticks=None, breaks=()):
    """Tick by tick: how long acting and applying take; returns the timing and when each action began."""
    clock, began, served = Clock(), [], iter(range(10_000))

    def act():
        began.append(clock.now - 100.0)
        clock.now += acting[len(began) - 1]

    def apply():
        at = next(served)
        clock.now += applying[at] if at < len(applying) else 0.0
        if at in breaks:
            clock.now += 50.0  # what happens in a break is nobody's delay
        return at in breaks

    timing = pacing.run(act, apply, period, ticks or len(acting), clock=clock, sleep=clock.sleep)
    return timing, began


def test_every_tick_begins_when_it_is_due():
    timing, began = loop([0.5, 0.25, 0.125, 0.75])
    assert began == [0.0, 1.0, 2.0, 3.0]
    assert (timing.ticks, timing.misses) == (4, 0)
    np.testing.assert_array_equal(timing.act, [0.5, 0.25, 0.125, 0.75])
    np.testing.assert_array_equal(timing.woke, 0.0)


def test_a_late_action_is_a_miss_and_the_next_tick_begins_at_once():
    timing, began = loop([1.5, 0.25, 0.25])
    assert began == [0.0, 1.5, 2.0]
    np.testing.assert_array_equal(timing.woke, [0.0, 0.5, 0.0])
    assert timing.misses == 1


def test_an_environment_that_is_late_delays_the_next_tick_which_may_still_be_in_time():
    timing, began = loop([0.25, 0.25, 0.25], applying=[1.0])
    assert began == [0.0, 1.25, 2.0]
    assert timing.misses == 0
    late, _ = loop([0.25, 0.75, 0.25], applying=[1.25])  # from 1.5 to 2.25
    assert late.misses == 1


def test_ticks_whose_deadlines_have_passed_are_missed_and_not_caught_up_with():
    timing, began = loop([3.25, 0.25, 0.25], ticks=5)
    assert began == [0.0, 3.25, 4.0]  # those of 1 and 2 were never begun
    assert (timing.ticks, timing.misses, len(timing.act)) == (5, 3, 3)
    assert loop([9.5], ticks=4)[0].misses == 4


def test_a_break_is_no_delay():
    timing, began = loop([0.25] * 4, breaks=(1,))
    assert began == [0.0, 1.0, 51.25, 52.25]
    assert timing.misses == 0
    np.testing.assert_array_equal(timing.woke, 0.0)


def test_the_garbage_collector_rests_and_is_as_it_was_afterwards():
    seen = []
    pacing.run(lambda: seen.append(gc.isenabled()), lambda: False, 1e-4, 3)
    assert seen
    assert not any(seen)
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        pacing.run(lambda: 1 / 0, lambda: False, 1e-4, 3)
    assert gc.isenabled()


def test_a_quantile_is_one_of_the_values():
    values = np.array([4.0, 1.0, 3.0, 2.0])
    assert [pacing.quantile(values, share) for share in (0.0, 0.25, 0.26, 0.5, 0.999, 1.0)] == [
        1,
        1,
        2,
        2,
        4,
        4,
    ]


def test_on_the_real_clock_it_keeps_the_rate():
    """The last of 50 ticks is due after 49 periods, however late the loop wakes up."""
    begun = time.perf_counter()
    timing = pacing.run(lambda: None, lambda: False, 2e-3, 50)
    assert time.perf_counter() - begun >= 49 * 2e-3
    assert 50 - timing.misses <= len(timing.act) <= 50
    assert (timing.woke >= 0.0).all()
