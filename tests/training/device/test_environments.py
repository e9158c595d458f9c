"""The toys as jax functions are the toys; what a ``JaxEnv`` must do; one as a Gymnasium environment."""

import re
from dataclasses import dataclass, field

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep import envs
from fewstep.envs.toys import multigoal
from fewstep.envs.toys.bandit import BanditEnv
from fewstep.errors import UsageError
from fewstep.training.device import env as device_env
from fewstep.training.device.env import HostEnv, Step
from fewstep.training.device.toys import Bandit, Multigoal, Point
from fewstep.types import Spec

KEY = jax.random.key(0)


def test_the_bandit_pays_the_same():
    ours, theirs = Bandit(), BanditEnv()
    theirs.reset(seed=0)
    for action in np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32):
        step = ours.step((), jnp.asarray(action), KEY)
        obs, reward, terminated, truncated, _ = theirs.step(action)
        np.testing.assert_allclose(step.reward, reward, rtol=1e-5)
        np.testing.assert_array_equal(step.obs, obs)
        assert (bool(step.terminated), bool(step.truncated)) == (terminated, truncated) == (True, False)


@pytest.mark.parametrize("pull", [(0.0, 0.0), (0.6, 0.1), (-0.9, -0.9)], ids=["no goal", "a goal", "a wall"])
def test_the_point_moves_the_same(pull):
    """From the same start with the same actions, to the end of the episode."""
    ours, step_of = Multigoal(), jax.jit(Multigoal().step)
    theirs = gymnasium.make("toy/multigoal")
    obs, _ = theirs.reset(seed=3)
    state = Point(jnp.asarray(obs), jnp.int32(0))
    rng = np.random.default_rng(1)
    moves = 0
    while True:
        moves += 1
        action = np.clip(rng.normal(pull, 0.2), -1, 1).astype(np.float32)
        step = step_of(state, action, KEY)
        obs, reward, terminated, truncated, _ = theirs.step(action)
        np.testing.assert_allclose(step.obs, obs, atol=1e-5)
        np.testing.assert_allclose(step.reward, reward, atol=1e-4)
        assert (bool(step.terminated), bool(step.truncated)) == (terminated, truncated)
        state = step.state
        if terminated or truncated:
            break
    assert (moves == multigoal.HORIZON) == (pull != (0.6, 0.1))
    assert ours.spec == envs.make("toy/multigoal", 1).spec


def test_the_point_starts_the_same():
    """Normal around the origin with a standard deviation of 0.1."""
    starts = jax.vmap(lambda key: Multigoal().reset(key)[1])(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(starts.mean(axis=0), 0.0, atol=0.01)
    np.testing.assert_allclose(starts.std(axis=0), multigoal.START_STD, rtol=0.05)


@pytest.mark.parametrize("name", device_env.BUILT_IN)
def test_the_toys_are_found_and_sound(name):
    env = device_env.load(name)
    device_env.check(env)
    assert env.spec == envs.make(name, 1).spec


@dataclass(frozen=True)
class Drift:
    """A number that moves by the action and a normal disturbance; truncated at 5 steps."""

    fault: str = ""

    @property
    def spec(self):
        return Spec(1, 1)

    def reset(self, key):
        value = jax.random.normal(key, (1,))
        return (value, jnp.int32(0)), value

    def step(self, state, action, key):
        value, steps = state
        value = value + action + 0.1 * jax.random.normal(key, (1,))
        reward = -jnp.sum(value**2)
        if self.fault == "reward":
            reward = -(value**2)
        if self.fault == "flag":
            return Step((value, steps + 1), value, reward, jnp.float32(0), steps >= 4)
        if self.fault == "state":
            return Step(value, value, reward, jnp.bool_(False), steps >= 4)
        if self.fault == "type":
            return (value, steps + 1), value, reward, jnp.bool_(False), steps >= 4
        return Step((value, steps + 1), value, reward, jnp.bool_(False), steps >= 4)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("reward", "the reward of step must be float32[], got float32[1]"),
        ("flag", "terminated of step must be bool[], got float32[]"),
        ("state", "the state that step gives must be a tree like that of reset"),
        ("type", "step must give a fewstep.training.device.env.Step, not tuple"),
    ],
)
def test_what_is_wrong_with_an_environment_is_said(fault, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        device_env.check(Drift(fault))


@dataclass(frozen=True)
class Holding(Drift):
    """It holds an array, by which no program could be found again."""

    weight: jax.Array = field(default_factory=lambda: jnp.ones(2))


def test_one_that_cannot_be_hashed_is_told():
    with pytest.raises(UsageError, match="it must be hashable, such as a frozen dataclass"):
        device_env.load(f"{__name__}:Holding")


def test_an_environment_of_ones_own_is_loaded_by_module_and_name():
    assert device_env.load(f"{__name__}:Drift") == Drift()
    with pytest.raises(UsageError, match="has no attribute 'Nowhere'"):
        device_env.load(f"{__name__}:Nowhere")
    with pytest.raises(UsageError, match="toy/bandit"):
        device_env.load("toy/bandits")


def test_one_as_a_gymnasium_environment():
    """Its episodes are a function of the seed, and its steps those of the functions."""
    returns = []
    for _ in range(2):
        env, total = HostEnv(Drift()), 0.0
        obs, _ = env.reset(seed=4)
        for number in range(1, 6):
            assert obs.shape == (1,)
            assert obs.dtype == np.float32
            before = obs
            obs, reward, terminated, truncated, _ = env.step(np.array([0.5], np.float32))
            assert abs(float(obs[0] - before[0]) - 0.5) < 0.5
            np.testing.assert_allclose(reward, -(float(obs[0]) ** 2), rtol=1e-5)
            assert (terminated, truncated) == (False, number == 5)
            total += reward
        returns.append(total)
    assert returns[0] == returns[1]
