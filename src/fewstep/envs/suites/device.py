"""Tasks written in jax, by Brax and by gymnax: trained on the device, evaluated as Gymnasium environments."""

from fewstep.envs.suites.suite import Suite

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
TASKS = (*BRAX.tasks, *GYMNAX.tasks)
"""Ids that ``training.device_env`` takes, too."""
