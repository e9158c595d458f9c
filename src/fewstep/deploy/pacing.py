"""A control loop at a fixed rate, and how well it keeps its deadlines; it knows no policy or environment."""

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Timing:
    """What a loop's ticks took. A tick begins every ``period`` seconds; its deadline is the next one.

    Attributes:
        period: seconds.
        woke: ``[n]`` seconds from a tick to the loop's waking up for it, for every tick that was served.
        act: ``[n]`` seconds that choosing the action took.
        apply: ``[n]`` seconds that applying it took (in simulation: the environment's step, and its reset
            where an episode ended).
        ticks: how many there were, served or not.
        misses: those without an action before their deadline: it came late, or the loop was busy.
    """

    period: float
    woke: Seconds
    act: Seconds
    apply: Seconds
    ticks: int
    misses: int


def quantile(values: Seconds, share: float) -> float:
    """The smallest of ``values`` that at least ``share`` of them do not exceed: never between two of them."""
    return float(np.sort(values)[max(0, math.ceil(share * len(values)) - 1)])


def run(
    act: Callable[[], None],
    apply: Callable[[], bool],
    period: float,
    ticks: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Timing:
    """Call ``act`` at every tick and ``apply`` right after it.

    A loop that is late begins the present tick at once, and does not catch up with those whose
    deadlines have passed. The garbage collector rests, as in a controller.

    Args:
        act: chooses the action; the deadline is for this.
        apply: applies it; True says that there was a break in it (an episode has ended, the next was begun):
            the next tick is then, so that the break is nobody's delay.
        period: seconds between ticks.
        ticks: how many.
        clock, sleep: the time in seconds, and how to wait.
    """
    woke, acting, applying = [], [], []
    misses, tick = 0, 0
    collecting = gc.isenabled()
    gc.disable()
    try:
        origin, first = clock(), 0  # tick ``first`` is at ``origin``
        while tick < ticks:
            due = origin + (tick - first) * period
            if (ahead := due - clock()) > 0.0:
                sleep(ahead)
            begun = clock()
            act()
            chosen = clock()
            again = apply()
            done = clock()
            woke.append(begun - due)
            acting.append(chosen - begun)
            applying.append(done - chosen)
            misses += chosen - due > period
            tick += 1
            if again:
                origin, first = clock(), tick
                continue
            now = min(ticks, first + int((done - origin) / period))  # the tick whose deadline comes next
            if now > tick:
                misses += now - tick
                tick = now
    finally:
        if collecting:
            gc.enable()
    return Timing(period, np.array(woke), np.array(acting), np.array(applying), ticks, misses)
