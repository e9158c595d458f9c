"""Push-T (Chi et al. 2023, arXiv 2303.04137) by gym-pusht: ``pusht/state`` and ``pusht/keypoints``.

A disc pushes a T onto its place, seen from above. The reward of a step is the share of the place that is
covered, over 0.95 and at most 1; with more the episode ends, and that is a success.
"""

from fewstep.suites.suite import Suite

SUITE = Suite(
    name="pusht",
    title="Push-T",
    tasks={
        "pusht/state": "disc pushing a T, 6 observations (positions, angle), 2 actions (where to go)",
        "pusht/keypoints": "disc pushing a T, 18 observations (eight corners, the disc), 2 actions",
    },
    packages=("gym-pusht", "pymunk"),
    modules=("gym_pusht",),
    install="pip install 'fewstep[pusht]'",
    entry_point="fewstep.envs.suites.pusht:make",
    limits={"pusht/state": 300, "pusht/keypoints": 300},
    peaks=True,
)
