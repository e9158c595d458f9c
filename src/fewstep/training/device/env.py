"""Environments that are pure jax functions, and how a Gymnasium environment is made of one."""

import functools
from typing import Any, NamedTuple, Protocol

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from numpy.typing import NDArray

from fewstep import foreign
from fewstep.algos import numerics
from fewstep.envs.registry import resolve
from fewstep.errors import UsageError, unknown
from fewstep.suites import device
from fewstep.types import Spec


class Step(NamedTuple):
    """What one step of one environment gives.

    Attributes:
        state: the next state.
        obs: ``[obs_size]`` float32, the true successor, also where the episode ends here.
        reward: ``[]`` float32.
        terminated: ``[]`` bool, a genuine terminal state was reached.
        truncated: ``[]`` bool, the episode was cut off (a time limit).
    """

    state: Any
    obs: Float[Array, "obs"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class JaxEnv(Protocol):
    """One environment as pure functions that jax can trace; ``vmap`` makes many of it.

    Best a frozen dataclass: equal environments then share what is compiled. It does not reset itself: whoever
    steps it does, after a step that has ended the episode.
    """

    @property
    def spec(self) -> Spec:
        """Sizes of observations and actions."""
        ...

    def reset(self, key: PRNGKeyArray) -> tuple[Any, Float[Array, "obs"]]:
        """The state (a pytree of arrays) and the observation that an episode begins with."""
        ...

    def step(self, state: Any, action: Float[Array, "act"], key: PRNGKeyArray) -> Step:
        """Take ``action``, in [-1, 1]; ``key`` is for whatever is random in it."""
        ...


BUILT_IN = {
    "toy/bandit": "fewstep.training.device.toys:Bandit",
    "toy/multigoal": "fewstep.training.device.toys:Multigoal",
}
"""Names of ``training.device_env`` that fewstep brings, and what makes them."""

SUITES = {
    "brax": "fewstep.training.device.brax:Brax",
    "gymnax": "fewstep.training.device.gymnax:Gymnax",
    "mjx": "fewstep.training.device.playground:Playground",
}
"""Beginnings of the names of suites' tasks (``suites.device``), and what makes one from the rest."""


@functools.cache
def load(name: str) -> JaxEnv:
    """The environment called ``name``: one of ``BUILT_IN``, a task of a suite of ``SUITES``, or
    ``module:make``, a function (or class) of no arguments that gives one.

    Raises:
        UsageError: there is none of that name, or it does not do what ``JaxEnv`` asks.
    """
    cannot = f"training.device_env: cannot make {name!r}"
    prefix, _, task = name.partition("/")
    if prefix in SUITES and ":" not in name:
        resolve(name)  # known and installed
        module, _, attribute = SUITES[prefix].partition(":")
        arguments = [task]
    elif ":" in name or name in BUILT_IN:
        module, _, attribute = BUILT_IN.get(name, name).partition(":")
        arguments = []
    else:
        raise unknown("environment on the device", name, (*BUILT_IN, *device.TASKS))

    def failed(error: BaseException) -> UsageError:
        return UsageError(f"{cannot}: {foreign.brief(error)}")

    loaded = foreign.load(module, cannot)
    env: JaxEnv = foreign.call(failed, lambda: getattr(loaded, attribute)(*arguments))
    foreign.call(failed, check, env)
    return env


@numerics.own
def check(env: JaxEnv) -> None:
    """Hold an environment to ``JaxEnv``, by tracing it.

    Raises:
        UsageError: it gives other shapes or types than it must; the message says what.
    """
    try:
        hash(env)
    except TypeError:
        raise UsageError(
            "it must be hashable, such as a frozen dataclass whose fields are no arrays"
        ) from None
    key = jax.eval_shape(lambda: jax.random.key(0))
    state, obs = jax.eval_shape(env.reset, key)
    action = jax.ShapeDtypeStruct((env.spec.act_size,), jnp.float32)
    step = jax.eval_shape(env.step, state, action, key)
    if not isinstance(step, Step):
        raise UsageError(f"step must give a fewstep.training.device.env.Step, not {type(step).__name__}")
    row = jax.ShapeDtypeStruct((env.spec.obs_size,), jnp.float32)
    number, flag = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((), jnp.bool_)
    _require("the observation of reset", obs, row)
    for what, found, wanted in (
        ("the observation", step.obs, row),
        ("the reward", step.reward, number),
        ("terminated", step.terminated, flag),
        ("truncated", step.truncated, flag),
    ):
        _require(f"{what} of step", found, wanted)
    if jax.tree.structure(step.state) != jax.tree.structure(state):
        raise UsageError("the state that step gives must be a tree like that of reset")
    jax.tree.map(lambda found, wanted: _require("a state of step", found, wanted), step.state, state)


def _require(what: str, found: Any, wanted: Any) -> None:
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        raise UsageError(
            f"{what} must be {wanted.dtype}{list(wanted.shape)}, got {found.dtype}{list(found.shape)}"
        )


Vector = NDArray[np.float32]


class HostEnv(gymnasium.Env[Vector, Vector]):
    """A ``JaxEnv`` as a Gymnasium environment, for ``gymnasium.register`` and so for evaluation.

    Its random numbers are those of the seed of its last reset that had one.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(self, env: JaxEnv) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (env.spec.obs_size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (env.spec.act_size,), np.float32)
        self._reset, self._step = _jitted(env)
        self._seed, self._draws = 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Vector, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        if seed is not None:
            self._seed, self._draws = seed, 0
        self._state, obs = self._reset(*self._draw())
        return np.array(obs), {}

    def step(self, action: Vector) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """One step."""
        step = self._step(self._state, np.asarray(action, np.float32), *self._draw())
        self._state = step.state
        return np.array(step.obs), float(step.reward), bool(step.terminated), bool(step.truncated), {}

    def _draw(self) -> tuple[np.uint32, np.uint32]:
        self._draws += 1
        return np.uint32(self._seed), np.uint32(self._draws)


@functools.lru_cache(maxsize=16)
def _jitted(env: JaxEnv) -> tuple[Any, Any]:
    def key(seed: Any, draw: Any) -> PRNGKeyArray:
        return jax.random.fold_in(jax.random.key(seed), draw)

    return (
        numerics.jit(lambda seed, draw: env.reset(key(seed, draw))),
        numerics.jit(lambda state, action, seed, draw: env.step(state, action, key(seed, draw))),
    )
