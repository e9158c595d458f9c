"""Tasks of Brax, gymnax and MuJoCo Playground on the device: as theirs, with ends told apart; and what is
said without them."""

import importlib.util
from dataclasses import replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep import config
from fewstep.algos import registry
from fewstep.cli import main
from fewstep.errors import UsageError
from fewstep.suites import device
from fewstep.training.device import env as device_env
from tests.e2e.helpers import one_line

needs_gymnax = pytest.mark.skipif(
    importlib.util.find_spec("gymnax") is None, reason="gymnax is not installed"
)
needs_brax = pytest.mark.skipif(importlib.util.find_spec("brax") is None, reason="brax is not installed")
needs_playground = pytest.mark.skipif(
    importlib.util.find_spec("mujoco_playground") is None, reason="playground is not installed"
)


def resolved(env, *sets):
    return config.resolve(
        "sac", registry.get("sac").config, env, preset="small", sets=sets
    ).training.device_env


def test_a_task_written_in_jax_is_trained_on_the_device_unless_that_is_unset():
    assert resolved("gymnax/Pendulum-v1") == "gymnax/Pendulum-v1"
    assert resolved("brax/ant", "training.device_env=none") is None
    assert resolved("Pendulum-v1") is None
    assert all(task.startswith(config.run.ON_DEVICE) for task in device.TASKS)


@pytest.mark.parametrize(
    ("name", "hidden"),
    [("gymnax/Pendulum-v1", "gymnax"), ("brax/ant", "brax"), ("mjx/CheetahRun", "mujoco_playground")],
)
def test_what_is_not_installed_says_how_to_install_it(name, hidden, monkeypatch):
    found = importlib.util.find_spec
    extra = name.partition("/")[0]
    monkeypatch.setattr(importlib.util, "find_spec", lambda m, *a: None if m == hidden else found(m, *a))
    device_env.load.cache_clear()
    with pytest.raises(UsageError, match=rf"not installed: pip install 'fewstep\[{extra}\]'"):
        device_env.load(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("brax/atn", "did you mean 'brax/ant'"),
        ("toy/bandits", "toy/bandit"),
        ("mjx/CheetaRun", "mjx/CheetahRun"),
    ],
)
def test_an_unknown_name_is_told(name, message):
    with pytest.raises(UsageError, match=message):
        device_env.load(name)


@needs_gymnax
@pytest.mark.parametrize("name", device.GYMNAX.tasks)
def test_a_task_of_gymnax_keeps_to_the_protocol_and_its_line(name):
    env = device_env.load(name)
    text = device.GYMNAX.tasks[name]
    many = f"{env.spec.act_size} action" + ("s" if env.spec.act_size > 1 else "")
    assert text.endswith(f"{env.spec.obs_size} observations, {many}")
    state, obs = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    for count in range(1, device.GYMNAX.limits[name] + 1):
        action = jnp.zeros(env.spec.act_size)
        taken = step(state, action, jax.random.key(count))
        state, obs = taken.state, taken.obs
        assert bool(taken.truncated) == (count == device.GYMNAX.limits[name])
    assert np.isfinite(obs).all()


@needs_gymnax
def test_gymnaxs_pendulum_is_gymnasiums():
    env = device_env.load("gymnax/Pendulum-v1")
    host = gymnasium.make("Pendulum-v1").unwrapped
    host.reset(seed=0)
    state, _ = env.reset(jax.random.key(0))
    state = (
        replace(state, theta=jnp.float32(1.0), theta_dot=jnp.float32(-0.5))
        if hasattr(state, "__dataclass_fields__")
        else state
    )
    host.state = np.array([1.0, -0.5])
    rng = np.random.default_rng(0)
    for action in rng.uniform(-1, 1, (50, 1)).astype(np.float32):
        taken = env.step(state, jnp.asarray(action), jax.random.key(0))
        obs, reward, *_ = host.step(2.0 * action)
        np.testing.assert_allclose(taken.obs, obs, atol=2e-3)
        assert float(taken.reward) == pytest.approx(reward, rel=2e-3, abs=2e-3)
        state = taken.state


@needs_gymnax
def test_a_terminal_state_is_no_time_limit():
    env = device_env.load("gymnax/MountainCarContinuous-v0")
    state, _ = env.reset(jax.random.key(0))
    near = replace(state, position=jnp.float32(0.449), velocity=jnp.float32(0.05))
    taken = env.step(near, jnp.ones(1), jax.random.key(0))
    assert bool(taken.terminated)
    assert not bool(taken.truncated)


@needs_gymnax
def test_it_trains_evaluates_and_resumes(tmp_path, capsys):
    out = tmp_path / "run"
    words = (
        "training.log_every=100 training.eval_every=200 training.eval_episodes=1 replay.learning_starts=50"
    )
    more = (
        "actor.hidden=[8] critic.hidden=[8] training.envs=4 replay.capacity=1000 replay.updates_per_step=0.25"
    )
    sets = [*words.split(), *more.split()]
    train = ["train", "sac", "gymnax/Pendulum-v1", "--preset", "small", "--steps", "200", "--out", str(out)]
    assert main([*train, "--quiet", "--set", *sets]) == 0
    assert main(["resume", str(out), "--steps", "400", "--quiet"]) == 0
    assert main(["evaluate", str(out), "--episodes", "1"]) == 0
    assert "gymnax/Pendulum-v1 after 400 steps" in capsys.readouterr().out


@pytest.mark.slow
@needs_brax
def test_a_task_of_brax_keeps_to_the_protocol_and_steps_like_brax():
    from brax import envs

    env, theirs = device_env.load("brax/inverted_pendulum"), envs.get_environment("inverted_pendulum")
    key = jax.random.key(0)
    (state, steps), obs = jax.jit(env.reset)(key)
    other = jax.jit(theirs.reset)(key)
    np.testing.assert_array_equal(obs, other.obs)
    ours, step = jax.jit(env.step), jax.jit(theirs.step)
    state = (state, steps)
    for value in (0.5, -1.0, 0.25):
        action = jnp.full(1, value)
        taken, other = ours(state, action, key), step(other, action)
        np.testing.assert_allclose(taken.obs, other.obs, rtol=1e-5, atol=1e-6)
        assert float(taken.reward) == pytest.approx(float(other.reward))
        assert bool(taken.terminated) == bool(other.done > 0.5)
        state = taken.state
    assert bool(ours((state[0], jnp.int32(999)), jnp.zeros(1), key).truncated)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param(*task, marks=needed)
        for suite, needed in ((device.BRAX, needs_brax), (device.PLAYGROUND, needs_playground))
        for task in suite.tasks.items()
    ],
)
def test_every_task_has_the_sizes_of_its_line(name, line):
    spec = device_env.load(name).spec
    many = f"{spec.act_size} action" + ("s" if spec.act_size > 1 else "")
    assert line.endswith(f"{spec.obs_size} observations, {many}")


@pytest.mark.slow
@needs_playground
def test_a_task_of_playground_keeps_to_the_protocol_and_steps_like_playground():
    from mujoco_playground import dm_control_suite

    env = device_env.load("mjx/PendulumSwingup")
    theirs = dm_control_suite.load("PendulumSwingup", config_overrides={"impl": "jax"})
    key = jax.random.key(0)
    state, obs = jax.jit(env.reset)(key)
    other = jax.jit(theirs.reset)(key)
    np.testing.assert_array_equal(obs, other.obs)
    ours, step = jax.jit(env.step), jax.jit(theirs.step)
    for value in (0.5, -1.0, 0.25):
        action = jnp.full(1, value)
        taken, other = ours(state, action, key), step(other, action)
        np.testing.assert_allclose(taken.obs, other.obs, rtol=1e-5, atol=1e-6)
        assert float(taken.reward) == pytest.approx(float(other.reward))
        assert not bool(taken.terminated)
        assert not bool(taken.truncated)
        state = taken.state
    last = ours((state[0], jnp.int32(999)), jnp.zeros(1), key)
    assert bool(last.truncated)
    assert not bool(last.terminated)


@pytest.mark.slow
@needs_playground
def test_a_run_of_playground_resumes_to_the_bits_of_an_undisturbed_one(tmp_path):
    words = "training.log_every=40 training.eval_every=0 replay.learning_starts=20 actor.hidden=[8]"
    more = "critic.hidden=[8] training.envs=2 replay.capacity=500 replay.updates_per_step=0.5"
    train = ["train", "sac", "mjx/PendulumSwingup", "--preset", "small", "--quiet"]
    sets = ["--set", *words.split(), *more.split()]
    assert main([*train, "--steps", "160", "--out", str(tmp_path / "whole"), *sets]) == 0
    assert main([*train, "--steps", "80", "--out", str(tmp_path / "parts"), *sets]) == 0
    assert main(["resume", str(tmp_path / "parts"), "--steps", "160", "--quiet"]) == 0
    policies = [(tmp_path / run / "policy/policy.safetensors").read_bytes() for run in ("whole", "parts")]
    assert policies[0] == policies[1]


def test_ppo_says_what_to_do(capsys):
    assert main(["config", "ppo", "gymnax/Pendulum-v1"]) == 2
    one_line(
        capsys.readouterr().err, "learns from rollouts", "training.device_env=none steps the environment"
    )
