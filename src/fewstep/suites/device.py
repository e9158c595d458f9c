"""Tasks written in jax, by Brax, gymnax and MuJoCo Playground: trained on the device, evaluated as
Gymnasium environments."""

from fewstep.suites.suite import Suite

_BRAX = {
    "ant": "four-legged runner, 27 observations, 8 actions",
    "halfcheetah": "two-legged runner in a plane, 17 observations, 6 actions",
    "hopper": "one-legged hopper in a plane, 11 observations, 3 actions",
    "humanoid": "walking humanoid, 244 observations, 17 actions",
    "humanoidstandup": "humanoid that is to stand up, 244 observations, 17 actions",
    "inverted_double_pendulum": "two poles on a cart, 8 observations, 1 action",
    "inverted_pendulum": "pole on a cart, 4 observations, 1 action",
    "pusher": "arm that pushes an object to a goal, 23 observations, 7 actions",
    "reacher": "arm of two links that reaches for a point, 11 observations, 2 actions",
    "walker2d": "two-legged walker in a plane, 17 observations, 6 actions",
}
_GYMNAX = {
    "MountainCarContinuous-v0": "car in a valley, 2 observations, 1 action",
    "Pendulum-v1": "pendulum to swing up, 3 observations, 1 action",
    "PointRobot-misc": "point that finds a goal it does not see, 6 observations, 2 actions",
    "Reacher-misc": "arm of two links that reaches for a point, 8 observations, 2 actions",
    "Swimmer-misc": "swimmer of three links, 16 observations, 2 actions",
}
_PLAYGROUND = {
    "AcrobotSwingup": "two links, driven between them, 6 observations, 1 action",
    "AcrobotSwingupSparse": "two links, driven between them, 6 observations, 1 action",
    "BallInCup": "cup that must catch a ball on a string, 8 observations, 2 actions",
    "CartpoleBalance": "pole on a cart, 5 observations, 1 action",
    "CartpoleBalanceSparse": "pole on a cart, 5 observations, 1 action",
    "CartpoleSwingup": "pole on a cart to swing up, 5 observations, 1 action",
    "CartpoleSwingupSparse": "pole on a cart to swing up, 5 observations, 1 action",
    "CheetahRun": "planar runner, 17 observations, 6 actions",
    "FingerSpin": "finger that spins a body, 9 observations, 2 actions",
    "FingerTurnEasy": "finger that turns a body to a target, 12 observations, 2 actions",
    "FingerTurnHard": "finger that turns a body to a target, 12 observations, 2 actions",
    "FishSwim": "fish that swims to a target, 24 observations, 5 actions",
    "HopperHop": "planar one-legged hopper, 15 observations, 4 actions",
    "HopperStand": "planar one-legged hopper, 15 observations, 4 actions",
    "HumanoidRun": "humanoid, 67 observations, 21 actions",
    "HumanoidStand": "humanoid, 67 observations, 21 actions",
    "HumanoidWalk": "humanoid, 67 observations, 21 actions",
    "PendulumSwingup": "pendulum to swing up, 3 observations, 1 action",
    "PointMass": "point in a plane that must come to its middle, 4 observations, 2 actions",
    "SwimmerSwimmer6": "swimmer of six links, 25 observations, 5 actions",
    "WalkerRun": "planar two-legged walker, 24 observations, 6 actions",
    "WalkerStand": "planar two-legged walker, 24 observations, 6 actions",
    "WalkerWalk": "planar two-legged walker, 24 observations, 6 actions",
}
_LIMITS = {"MountainCarContinuous-v0": 999, "Pendulum-v1": 200, "Swimmer-misc": 500}

BRAX = Suite(
    name="brax",
    title="Brax",
    tasks={f"brax/{name}": text for name, text in _BRAX.items()},
    excluded={"brax/swimmer": "Brax calls jax.numpy.clip by a name that today's jax no longer has"},
    packages=("brax",),
    modules=("brax",),
    install="pip install 'fewstep[brax]'",
    entry_point="fewstep.training.device.brax:OnHost",
    limits=dict.fromkeys((f"brax/{name}" for name in _BRAX), 1000),
)
GYMNAX = Suite(
    name="gymnax",
    title="gymnax",
    tasks={f"gymnax/{name}": text for name, text in _GYMNAX.items()},
    packages=("gymnax",),
    modules=("gymnax",),
    install="pip install 'fewstep[gymnax]'",
    entry_point="fewstep.training.device.gymnax:OnHost",
    limits={f"gymnax/{name}": _LIMITS.get(name, 100) for name in _GYMNAX},
)
PLAYGROUND = Suite(
    name="mjx",
    title="MuJoCo Playground",
    tasks={f"mjx/{name}": text for name, text in _PLAYGROUND.items()},
    excluded=dict.fromkeys(
        ("mjx/ReacherEasy", "mjx/ReacherHard"),
        "Playground calls MjSpec.find_body, which MuJoCo 3.17 no longer has",
    ),
    packages=("playground", "mujoco", "mujoco-mjx"),
    modules=("mujoco_playground",),
    install="pip install 'fewstep[mjx]'",
    entry_point="fewstep.training.device.playground:OnHost",
    limits=dict.fromkeys((f"mjx/{name}" for name in _PLAYGROUND), 1000),
)
TASKS = (*BRAX.tasks, *GYMNAX.tasks, *PLAYGROUND.tasks)
"""Ids that ``training.device_env`` takes, too."""
