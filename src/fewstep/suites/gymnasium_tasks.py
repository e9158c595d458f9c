"""Gymnasium's own tasks with continuous actions."""

from fewstep.suites.suite import Suite

_MUJOCO = {
    # name: (versions, what it is; observation and action sizes follow the version where they differ)
    "Ant": ("four-legged walker, 8 joints; v4 observes 27 numbers, v5 105 (with contact forces)", "45"),
    "HalfCheetah": ("planar runner, 6 joints, 17 observations; never terminates", "45"),
    "Hopper": ("planar one-legged hopper, 3 joints, 11 observations", "45"),
    "Humanoid": ("walking humanoid, 17 joints; v4 observes 376 numbers, v5 348", "45"),
    "HumanoidStandup": ("humanoid getting up, 17 joints; v4 observes 376 numbers, v5 348", "45"),
    "InvertedDoublePendulum": ("two poles on a cart, 1 action; v4 observes 11 numbers, v5 9", "45"),
    "InvertedPendulum": ("one pole on a cart, 1 action, 4 observations", "45"),
    "Pusher": ("arm pushing a puck, 7 joints, 23 observations; v4 needs mujoco < 3", "5"),
    "Reacher": ("two-joint arm reaching a point; v4 observes 11 numbers, v5 10", "45"),
    "Swimmer": ("three-link swimmer, 2 joints, 8 observations; never terminates", "45"),
    "Walker2d": ("planar two-legged walker, 6 joints, 17 observations", "45"),
}
MUJOCO = Suite(
    name="mujoco",
    title="Gymnasium's MuJoCo tasks",
    tasks={f"{name}-v{v}": note for name, (note, versions) in _MUJOCO.items() for v in versions},
    packages=("mujoco",),
)
CLASSIC = Suite(
    name="classic-control",
    title="Gymnasium's classic control",
    tasks={
        "MountainCarContinuous-v0": "car that must swing up a hill, 1 action, 2 observations",
        "Pendulum-v1": "swing up and hold a pendulum, 1 action, 3 observations; never terminates",
    },
)


def later_versions(env_id: str) -> list[str]:
    """The ids that took the place of a MuJoCo task of version 1, 2 or 3; empty for any other id."""
    name, _, version = env_id.rpartition("-v")
    if name not in _MUJOCO or version not in ("1", "2", "3"):
        return []
    return [f"{name}-v{v}" for v in _MUJOCO[name][1]]
