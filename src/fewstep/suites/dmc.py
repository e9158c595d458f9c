"""The DeepMind Control suite (Tassa et al. 2018, arXiv 1801.00690): ``dmc/DOMAIN-TASK``.

All rewards are in [0, 1] per step of an episode of 1000, so a return is in [0, 1000].
"""

from fewstep.suites.suite import Suite

LIMIT = 1000
"""Steps of an episode, of every task."""

_DOMAINS = {
    "acrobot": "two links, driven between them",
    "ball_in_cup": "cup that must catch a ball on a string",
    "cartpole": "one to three poles on a cart",
    "cheetah": "planar runner",
    "dog": "dog with a flexible spine",
    "finger": "finger that turns a body",
    "fish": "fish in three dimensions",
    "hopper": "planar one-legged hopper",
    "humanoid": "humanoid",
    "humanoid_CMU": "humanoid with the joints of CMU's motion capture",
    "manipulator": "planar arm with a gripper",
    "pendulum": "pendulum to swing up and hold",
    "point_mass": "point mass on a plane",
    "quadruped": "four-legged walker",
    "reacher": "two-joint arm reaching a point",
    "stacker": "planar arm stacking boxes",
    "swimmer": "planar swimmer of 6 or 15 links",
    "walker": "planar two-legged walker",
}
_SIZES = {  # task: (numbers in an observation, in an action)
    "acrobot-swingup": (6, 1),
    "acrobot-swingup_sparse": (6, 1),
    "ball_in_cup-catch": (8, 2),
    "cartpole-balance": (5, 1),
    "cartpole-balance_sparse": (5, 1),
    "cartpole-swingup": (5, 1),
    "cartpole-swingup_sparse": (5, 1),
    "cartpole-two_poles": (8, 1),
    "cartpole-three_poles": (11, 1),
    "cheetah-run": (17, 6),
    "dog-stand": (223, 38),
    "dog-walk": (223, 38),
    "dog-trot": (223, 38),
    "dog-run": (223, 38),
    "dog-fetch": (232, 38),
    "finger-spin": (9, 2),
    "finger-turn_easy": (12, 2),
    "finger-turn_hard": (12, 2),
    "fish-upright": (21, 5),
    "fish-swim": (24, 5),
    "hopper-stand": (15, 4),
    "hopper-hop": (15, 4),
    "humanoid-stand": (67, 21),
    "humanoid-walk": (67, 21),
    "humanoid-run": (67, 21),
    "humanoid-run_pure_state": (55, 21),
    "humanoid_CMU-stand": (137, 56),
    "humanoid_CMU-walk": (137, 56),
    "humanoid_CMU-run": (137, 56),
    "manipulator-bring_ball": (44, 5),
    "manipulator-bring_peg": (44, 5),
    "manipulator-insert_ball": (44, 5),
    "manipulator-insert_peg": (44, 5),
    "pendulum-swingup": (3, 1),
    "point_mass-easy": (4, 2),
    "point_mass-hard": (4, 2),
    "quadruped-walk": (78, 12),
    "quadruped-run": (78, 12),
    "quadruped-escape": (101, 12),
    "quadruped-fetch": (90, 12),
    "reacher-easy": (6, 2),
    "reacher-hard": (6, 2),
    "stacker-stack_2": (49, 5),
    "stacker-stack_4": (63, 5),
    "swimmer-swimmer6": (25, 5),
    "swimmer-swimmer15": (61, 14),
    "walker-stand": (24, 6),
    "walker-walk": (24, 6),
    "walker-run": (24, 6),
}


def _note(task: str) -> str:
    obs, act = _SIZES[task]
    more = "; needs OpenGL at every reset" if task == "quadruped-escape" else ""
    return f"{_DOMAINS[task.split('-')[0]]}: {obs} observations, {act} actions{more}"


SUITE = Suite(
    name="dmc",
    title="the DeepMind Control suite",
    tasks={f"dmc/{task}": _note(task) for task in _SIZES},
    excluded={f"dmc/lqr-lqr_{size}": "its actions have no bounds" for size in ("2_1", "6_2")},
    packages=("mujoco", "dm_control"),
    modules=("dm_control",),
    install="pip install 'fewstep[dmc]'",
    entry_point="fewstep.envs.suites.dmc:ControlEnv",
    limits={f"dmc/{task}": LIMIT for task in _SIZES},
    ends=(0.0, 1000.0),
)
