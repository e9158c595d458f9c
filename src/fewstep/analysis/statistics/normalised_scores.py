"""Scores that tasks share: a policy of uniformly random actions is 0, the best mean in a comparison is 1.

No table of published returns serves as 1. Those within reach were measured on other environment versions
(-v2, -v3), under MuJoCo 2.0 and with other metrics (best evaluation, training return), so their "1" would
mean something else on every task. Hence normalised scores may be compared inside one comparison only.
"""

from dataclasses import dataclass

from fewstep.errors import UsageError


@dataclass(frozen=True)
class Random:
    """Mean undiscounted return of uniformly random actions, its standard error, and episodes played."""

    mean: float
    error: float
    episodes: int


MUJOCO = "MuJoCo 3.17.0"
"""What ``RANDOM`` was measured under."""

# Source of every number: our own measurement (`python -m benchmarks.random_returns`) under MuJoCo 3.17.0
# and Gymnasium 1.3.0: the environment's own time limit, actions uniform over the action box, reset seeds
# 0, 1, 2, ..., at least 20 episodes and at least 5,000 steps.
RANDOM = {
    "Ant-v4": Random(-49.8, 13, 36),
    "Ant-v5": Random(-50.89, 13, 36),
    "HalfCheetah-v4": Random(-264, 21, 20),
    "HalfCheetah-v5": Random(-264, 21, 20),
    "Hopper-v4": Random(19.69, 1.4, 215),
    "Hopper-v5": Random(18.69, 1.4, 215),
    "Humanoid-v4": Random(121, 2.4, 208),
    "Humanoid-v5": Random(112.6, 2.3, 208),
    "HumanoidStandup-v4": Random(3.308e04, 4.6e02, 20),
    "HumanoidStandup-v5": Random(3.308e04, 4.6e02, 20),
    "InvertedDoublePendulum-v4": Random(57.59, 0.58, 790),
    "InvertedDoublePendulum-v5": Random(47.59, 0.58, 790),
    "InvertedPendulum-v4": Random(6.173, 0.13, 810),
    "InvertedPendulum-v5": Random(5.173, 0.13, 810),
    "Pusher-v5": Random(-148.8, 0.87, 50),
    "Reacher-v4": Random(-43.35, 0.39, 100),
    "Reacher-v5": Random(-43.29, 0.39, 100),
    "Swimmer-v4": Random(-3.147, 1.8, 20),
    "Swimmer-v5": Random(-3.147, 1.8, 20),
    "Walker2d-v4": Random(3.044, 0.46, 228),
    "Walker2d-v5": Random(2.058, 0.5, 228),
    "MountainCarContinuous-v0": Random(-33.08, 0.2, 20),
    "Pendulum-v1": Random(-1225, 51, 25),
    "toy/bandit": Random(0.2034, 0.003, 5000),
    "toy/multigoal": Random(-17.78, 0.75, 189),
}
"""Environment id to the return of random actions, in the environment's units."""


@dataclass(frozen=True)
class Scale:
    """A task's line from returns to scores: the returns that are 0 and 1, and the error of the first.

    ``given``: its suite says what they are.
    """

    zero: float
    one: float
    error: float
    given: bool = False

    def __call__(self, value: float) -> float:
        """The score of a return: without unit, below 0 if worse than random, above 1 if above the best."""
        return (value - self.zero) / (self.one - self.zero)


def scale(env: str, random: Random, best: float) -> Scale:
    """The scale of one task, given the return of random actions and the best mean return of a comparison.

    Raises:
        UsageError: ``best`` is not above that of random actions.
    """
    if best <= random.mean:
        raise UsageError(
            f"{env} cannot be normalised: no variant is better than random actions ({best:,.4g} against "
            f"{random.mean:,.4g})"
        )
    return Scale(random.mean, best, random.error)
