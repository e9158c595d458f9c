"""fewstep's own toys, which register themselves (``envs.toys``)."""

from fewstep.suites.suite import Suite

SUITE = Suite(
    name="toy",
    title="fewstep's toys",
    tasks={
        "toy/bandit": "one step, 2 actions, four bumps of reward; the exact Boltzmann density is known",
        "toy/multigoal": "point mass on a plane, 2 actions, four equivalent goals, 30 steps",
    },
)
