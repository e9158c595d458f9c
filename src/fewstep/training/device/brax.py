"""Brax's tasks (Freeman et al. 2021, arXiv 2106.13281) as ``JaxEnv``s: ``brax/ant``."""

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.training.device.env import HostEnv, Step
from fewstep.types import Spec

HORIZON = 1000
"""Steps of an episode, as in Brax's own training."""


@functools.cache
def _made(name: str) -> Any:
    with jax.ensure_compile_time_eval():  # it keeps arrays, which must not be those of a trace
        return importlib.import_module("brax.envs").get_environment(name)


@dataclass(frozen=True)
class Brax:
    """A task of Brax in its own physics back-end, without Brax's wrappers: one action is one step, nothing
    resets by itself. Actions are in [-1, 1] in Brax, too."""

    name: str

    @property
    def spec(self) -> Spec:
        """Sizes of observations and actions."""
        env = _made(self.name)
        return Spec(int(env.observation_size), int(env.action_size))

    def reset(self, key: PRNGKeyArray) -> tuple[tuple[Any, Int[Array, ""]], Float[Array, "obs"]]:
        """An episode as Brax begins it."""
        state = _made(self.name).reset(key)
        return (state, jnp.int32(0)), jnp.asarray(state.obs, jnp.float32)

    def step(self, state: tuple[Any, Int[Array, ""]], action: Float[Array, "act"], key: PRNGKeyArray) -> Step:
        """One step; Brax's ``done`` is a terminal state, the time limit is ``HORIZON``."""
        before, steps = state
        after = _made(self.name).step(before, action)
        return Step(
            state=(after, steps + 1),
            obs=jnp.asarray(after.obs, jnp.float32),
            reward=jnp.asarray(after.reward, jnp.float32),
            terminated=after.done > 0.5,
            truncated=steps + 1 >= HORIZON,
        )


class OnHost(HostEnv):
    """The task as a Gymnasium environment, for evaluation."""

    def __init__(self, name: str, render_mode: str | None = None) -> None:
        super().__init__(Brax(name))
