"""The mazes of Gymnasium-Robotics, after D4RL (Fu et al. 2020, arXiv 2004.07219): ``maze/ID``.

An episode goes on when the goal is reached, and nothing else ends it before its limit: the sparse reward is 1
on every step within 0.45 of the goal, the dense one exp(-distance). Whether the goal was reached is
``info["success"]``.
"""

from fewstep.suites.suite import Suite

_MAPS = {
    "UMaze": "a U",
    "Open": "an open room",
    "Open_Diverse_G": "an open room, goals drawn",
    "Open_Diverse_GR": "an open room, starts and goals drawn",
    "Medium": "a medium maze",
    "Medium_Diverse_G": "a medium maze, goals drawn",
    "Medium_Diverse_GR": "a medium maze, starts and goals drawn",
    "Large": "a large maze",
    "Large_Diverse_G": "a large maze, goals drawn",
    "Large_Diverse_GR": "a large maze, starts and goals drawn",
}
_ROBOTS = {  # (robot, version): (what it is, {beginning of a map's name: limit})
    ("PointMaze", 3): (
        "ball, 8 observations, 2 actions",
        {"UMaze": 300, "Open": 300, "Medium": 600, "Large": 800},
    ),
    ("AntMaze", 4): (
        "ant, 31 observations, 8 actions",
        {"UMaze": 700, "Open": 700, "Medium": 1000, "Large": 1000},
    ),
    ("AntMaze", 5): (
        "ant, 109 observations, 8 actions",
        {"UMaze": 700, "Open": 700, "Medium": 1000, "Large": 1000},
    ),
}
_TASKS = {  # id: (note, limit)
    f"maze/{robot}_{ground}{reward}-v{version}": (
        f"{who}; {where}{', dense reward' if reward else ''}",
        limits[ground.split("_")[0]],
    )
    for (robot, version), (who, limits) in _ROBOTS.items()
    for ground, where in _MAPS.items()
    for reward in ("", "Dense")
}
SUITE = Suite(
    name="maze",
    title="the mazes of Gymnasium-Robotics",
    tasks={env_id: note for env_id, (note, _) in _TASKS.items()},
    packages=("mujoco", "gymnasium-robotics"),
    modules=("gymnasium_robotics",),
    install="pip install 'fewstep[maze]'",
    entry_point="fewstep.envs.suites.maze:make",
    limits={env_id: limit for env_id, (_, limit) in _TASKS.items()},
)
