"""The environments that fewstep knows, suite by suite: tasks, what they need, how returns are read.

Tasks of a suite are data here, so that they can be listed and named without importing the package they come
from. Those of suites beyond Gymnasium's own are registered with Gymnasium under ``PREFIX/NAME``.
"""

from fewstep.envs.suites import device, dmc, gymnasium_tasks, humanoid_bench, maze, pusht, toy
from fewstep.envs.suites.suite import Suite

SUITES: tuple[Suite, ...] = (
    gymnasium_tasks.MUJOCO,
    gymnasium_tasks.CLASSIC,
    toy.SUITE,
    dmc.SUITE,
    humanoid_bench.SUITE,
    maze.SUITE,
    pusht.SUITE,
    device.BRAX,
    device.GYMNAX,
    device.PLAYGROUND,
)
_BY_ID = {env_id: suite for suite in SUITES for env_id in (*suite.tasks, *suite.excluded)}


def suite_of(env_id: str) -> Suite | None:
    """The suite of a task, one that it excludes too; None for what none of them knows."""
    return _BY_ID.get(env_id)


for _suite in SUITES:
    _suite.register()
