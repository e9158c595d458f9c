"""HumanoidBench (Sferrazza et al. 2024, arXiv 2403.10506): ``hb/ROBOT-TASK-v0``.

It is on no package index and is used from a clone. An episode counts as a success when its return has reached
the benchmark's ``success_bar`` for the task.
"""

from fewstep.suites.suite import Suite

_ROBOTS = {
    "h1": "Unitree H1 without hands, 19 actions",
    "h1hand": "Unitree H1 with two hands, 61 actions",
    "h1touch": "Unitree H1 with two hands that feel, 61 actions",
    "h1strong": "Unitree H1 with stronger arms, 61 actions",
    "h1simplehand": "Unitree H1 with simple hands",
    "g1": "Unitree G1 with hands, 37 torques",
}
_TASKS = {  # name: (what it is, limit)
    "stand": ("stand", 1000),
    "walk": ("walk at 1 m/s", 1000),
    "run": ("run at 5 m/s", 1000),
    "hurdle": ("run over hurdles", 1000),
    "crawl": ("crawl through a tunnel", 1000),
    "stair": ("walk up and down stairs", 1000),
    "slide": ("walk up and down slopes", 1000),
    "pole": ("walk through a forest of poles", 1000),
    "maze": ("walk through a maze by stages", 1000),
    "reach": ("reach a point with the left hand", 1000),
    "sit_simple": ("sit down on a chair", 1000),
    "sit_hard": ("sit down on a movable chair", 1000),
    "balance_simple": ("balance on a board", 1000),
    "balance_hard": ("balance on a board on a moving ball", 1000),
    "highbar_simple": ("swing up on a bar", 1000),
    "highbar_hard": ("swing up on a bar held by the hands", 1000),
    "push": ("push a box to a place", 500),
    "basketball": ("catch a ball and throw it into a basket", 500),
    "cube": ("turn two cubes in the hands", 500),
    "door": ("pull a door open and walk through", 1000),
    "powerlift": ("lift a barbell", 1000),
    "window": ("wipe a window", 1000),
    "spoon": ("stir in a pot", 1000),
    "room": ("tidy up a room", 1000),
    "package": ("carry a package to a place", 1000),
    "truck": ("unload a truck", 1000),
    "cabinet": ("open a cabinet and sort what is in it", 1000),
    "bookshelf_simple": ("sort a bookshelf", 1000),
    "bookshelf_hard": ("sort a bookshelf, order drawn", 1000),
    "insert_small": ("insert a small block into pegs", 500),
    "insert_normal": ("insert a block into pegs", 500),
    "kitchen": ("do tasks of a kitchen", 500),
}
_WITH_HANDS = {
    *("bookshelf_simple", "bookshelf_hard", "cabinet", "cube", "insert_normal", "insert_small", "kitchen"),
    *("powerlift", "room", "spoon", "window"),
}
_BARS = {"highbar_simple", "highbar_hard"}
_MODELS = {  # robot: tasks that the repository has a model file for; it registers every pair
    "h1": set(_TASKS) - _WITH_HANDS - {"highbar_hard"},
    "h1hand": set(_TASKS) - _BARS,
    "h1touch": set(_TASKS) - _BARS,
    "g1": set(_TASKS) - _BARS,
    "h1strong": {"highbar_hard"},
    "h1simplehand": {"stand"},
}
_REFUSED = "MuJoCo 3.17 refuses its model file (it renames the default class 'main')"
_PAIRS = {(robot, task): f"hb/{robot}-{task}-v0" for robot in _ROBOTS for task in _TASKS}
SUITE = Suite(
    name="hb",
    title="HumanoidBench",
    tasks={
        env_id: f"{_ROBOTS[robot]}: {_TASKS[task][0]}"
        for (robot, task), env_id in _PAIRS.items()
        if task in _MODELS[robot] and task != "kitchen"
    },
    excluded={
        env_id: _REFUSED if task in _MODELS[robot] else "HumanoidBench has no model file for it"
        for (robot, task), env_id in _PAIRS.items()
        if task not in _MODELS[robot] or task == "kitchen"
    },
    packages=("mujoco", "dm_control", "humanoid_bench"),
    modules=("humanoid_bench", "dm_control"),
    install=(
        "git clone https://github.com/carlosferrazza/humanoid-bench; pip install 'fewstep[dmc]'; "
        "pip install --no-deps -e humanoid-bench, or set FEWSTEP_HUMANOID_BENCH to that folder"
    ),
    folder="FEWSTEP_HUMANOID_BENCH",
    entry_point="fewstep.envs.suites.humanoid_bench:make",
    limits={env_id: _TASKS[task][1] for (_, task), env_id in _PAIRS.items()},
)
