"""gymnax's tasks with continuous actions (Lange 2022, version 1) as ``JaxEnv``s: ``gymnax/Pendulum-v1``."""

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.training.device.env import HostEnv, Step
from fewstep.types import Spec


@functools.cache
def _made(name: str) -> tuple[Any, Any]:
    return importlib.import_module("gymnax").make(name)


@dataclass(frozen=True)
class Gymnax:
    """A task of gymnax under its own parameters; ``name`` as gymnax has it.

    A time limit is told apart from a terminal state, as gymnax's own ``done`` does not.
    """

    name: str

    @property
    def spec(self) -> Spec:
        """Sizes of observations and actions."""
        env, params = _made(self.name)
        (obs_size,), (act_size,) = env.observation_space(params).shape, env.action_space(params).shape
        return Spec(int(obs_size), int(act_size))

    def reset(self, key: PRNGKeyArray) -> tuple[Any, Float[Array, "obs"]]:
        """An episode as gymnax begins it."""
        env, params = _made(self.name)
        obs, state = env.reset_env(key, params)
        # Some states begin in other shapes or types than they go on with: 0 for a vector of one zero.
        action = jnp.zeros(env.action_space(params).shape)
        after = jax.eval_shape(lambda: env.step_env(key, state, action, params)[1])
        state = jax.tree.map(
            lambda x, as_: jnp.broadcast_to(jnp.asarray(x, as_.dtype), as_.shape), state, after
        )
        return state, jnp.asarray(obs, jnp.float32)

    def step(self, state: Any, action: Float[Array, "act"], key: PRNGKeyArray) -> Step:
        """Take ``action``, scaled to the task's bounds."""
        env, params = _made(self.name)
        box = env.action_space(params)
        scaled = 0.5 * (1.0 - action) * box.low + 0.5 * (1.0 + action) * box.high
        obs, state, reward, _, _ = env.step_env(key, state, scaled, params)
        return Step(
            state=state,
            obs=jnp.asarray(obs, jnp.float32),
            reward=jnp.asarray(reward, jnp.float32).reshape(()),
            terminated=jnp.asarray(env.is_terminated(state, params), bool).reshape(()),
            truncated=jnp.asarray(state.time >= params.max_steps_in_episode).reshape(()),
        )


class OnHost(HostEnv):
    """The task as a Gymnasium environment, for evaluation."""

    def __init__(self, name: str, render_mode: str | None = None) -> None:
        super().__init__(Gymnax(name))
