"""The environments that fewstep knows, suite by suite: tasks, what they need, how returns are read.

Tasks are data here, so that they can be listed and named in an instant: neither the package they come from
nor Gymnasium is imported. ``envs.registry`` registers those of suites beyond Gymnasium's own, under
``PREFIX/NAME``; what builds them is in ``envs.suites``.
"""

from fewstep.suites import device, dmc, gymnasium_tasks, humanoid_bench, maze, pusht, toy
from fewstep.suites.suite import Suite

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


def list_ids() -> list[tuple[str, str, str]]:
    """``(id, suite, note)`` of every environment known to work; other ids with Box actions may too."""
    return [(env_id, suite.name, note) for suite in SUITES for env_id, note in suite.tasks.items()]
