"""fewstep's toys as ``JaxEnv``s: the tasks of ``envs.toys``, in float32."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.envs.toys import bandit, multigoal
from fewstep.training.device.env import Step
from fewstep.types import Spec


@dataclass(frozen=True)
class Bandit:
    """``toy/bandit`` (``envs.toys.bandit``): one step, which always terminates."""

    @property
    def spec(self) -> Spec:
        """Sizes of observations and actions."""
        return Spec(1, 2)

    def reset(self, key: PRNGKeyArray) -> tuple[tuple[()], Float[Array, "1"]]:
        """Nothing is random in it, and there is no state."""
        return (), jnp.asarray(bandit.OBSERVATION)

    def step(self, state: tuple[()], action: Float[Array, "2"], key: PRNGKeyArray) -> Step:
        """Pay the reward of ``action`` and end."""
        end = jnp.bool_(True), jnp.bool_(False)
        return Step((), jnp.asarray(bandit.OBSERVATION), bandit_reward(action), *end)


def bandit_reward(action: Float[Array, "2"]) -> Float[Array, ""]:
    """``envs.toys.bandit.reward`` of one action, differentiable."""
    squared = jnp.sum((action - jnp.asarray(bandit.CENTRES, jnp.float32)) ** 2, axis=-1)
    return jnp.sum(jnp.asarray(bandit.HEIGHTS, jnp.float32) * jnp.exp(-squared / (2 * bandit.WIDTH**2)))


class Point(NamedTuple):
    """Where the point is, and steps taken in the episode."""

    position: Float[Array, "2"]
    steps: Int[Array, ""]


@dataclass(frozen=True)
class Multigoal:
    """``toy/multigoal`` (``envs.toys.multigoal``), without a disturbance; truncated after 30 steps."""

    @property
    def spec(self) -> Spec:
        """Sizes of observations and actions."""
        return Spec(2, 2)

    def reset(self, key: PRNGKeyArray) -> tuple[Point, Float[Array, "2"]]:
        """Put the point near the origin."""
        position = multigoal.START_STD * jax.random.normal(key, (2,))
        return Point(position, jnp.int32(0)), position

    def step(self, state: Point, action: Float[Array, "2"], key: PRNGKeyArray) -> Step:
        """Move by ``action``."""
        position = jnp.clip(state.position + action, -multigoal.ARENA, multigoal.ARENA)
        goals = jnp.asarray(multigoal.GOALS, jnp.float32)
        squared = jnp.sum((position - goals) ** 2, axis=-1).min()
        reached = squared <= multigoal.GOAL_RADIUS**2
        cost = multigoal.ACTION_COST * jnp.sum(action**2) + multigoal.DISTANCE_COST * squared
        steps = state.steps + 1
        return Step(
            Point(position, steps),
            position,
            jnp.where(reached, multigoal.GOAL_BONUS, 0.0) - cost,
            reached,
            steps >= multigoal.HORIZON,
        )
