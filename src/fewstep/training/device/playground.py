"""The control suite of MuJoCo Playground (Zakka et al. 2025, arXiv 2502.08844) as ``JaxEnv``s:
``mjx/CheetahRun``."""

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.training.device.env import HostEnv, Step
from fewstep.types import Spec


@functools.cache
def _made(name: str) -> tuple[Any, int]:
    """The task and the steps of its episodes. Its physics is MJX in jax: Warp's kernels, Playground's own
    default, are compiled for minutes on a CPU and add in no fixed order on a GPU, so that no run could be
    repeated."""
    suite = importlib.import_module("mujoco_playground").dm_control_suite
    with jax.ensure_compile_time_eval():  # it keeps arrays, which must not be those of a trace
        env = suite.load(name, config_overrides={"impl": "jax"})
    return env, int(suite.get_default_config(name).episode_length)


@dataclass(frozen=True)
class Playground:
    """A task of the control suite without Playground's wrappers: nothing resets by itself. Actions are in
    [-1, 1] in Playground, too. Its ``done`` says only that a position or a velocity is NaN, which ends the
    run here; every episode ends by its time limit."""

    name: str

    @property
    def spec(self) -> Spec:
        """Sizes of observations and actions."""
        env, _ = _made(self.name)
        return Spec(int(env.observation_size), int(env.action_size))

    def reset(self, key: PRNGKeyArray) -> tuple[tuple[Any, Int[Array, ""]], Float[Array, "obs"]]:
        """An episode as Playground begins it."""
        state = _made(self.name)[0].reset(key)
        return (state, jnp.int32(0)), state.obs

    def step(self, state: tuple[Any, Int[Array, ""]], action: Float[Array, "act"], key: PRNGKeyArray) -> Step:
        """One control step."""
        env, horizon = _made(self.name)
        before, steps = state
        after = env.step(before, action)
        return Step(
            state=(after, steps + 1),
            obs=after.obs,
            reward=after.reward,
            terminated=jnp.bool_(False),
            truncated=steps + 1 >= horizon,
        )


class OnHost(HostEnv):
    """The task as a Gymnasium environment, for evaluation."""

    def __init__(self, name: str, render_mode: str | None = None) -> None:
        super().__init__(Playground(name))
