"""Policies with random parameters, what jax makes of them, and what the exported program should give."""

import ctypes
import dataclasses
import functools
import shutil
import subprocess

import jax
import numpy as np
import pytest

from fewstep import config
from fewstep.algos import registry
from fewstep.algos.contract import ActionMode
from fewstep.deploy import numpy_runtime
from fewstep.deploy.description import Box, Description, Exported
from fewstep.deploy.lower import lower
from fewstep.training import compiled
from fewstep.types import Spec

SPEC = Spec(5, 3)
UNIT = Box((-1.0,) * 3, (1.0,) * 3, (3,))
TINY = {
    "mfpo": ("actor.hidden=[16,12]", "actor.time_features=4", "actor.time_embed=6", "critic.hidden=[4]"),
    "ppo": ("actor.hidden=[16,12]", "critic.hidden=[4]"),
    "sac": ("actor.hidden=[16,12]", "critic.hidden=[4]"),
    "smfp": ("actor.hidden=[16,12]", "critic.hidden=[4]"),
}
STRICT = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic")

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@functools.lru_cache(maxsize=8)
def policy_of(algo, sets=(), preset="small", spec=SPEC):
    """``(algorithm, cfg, policy)`` with every parameter moved, so that zero biases and heads are not."""
    algorithm = registry.get(algo)
    cfg = config.resolve(
        algo, algorithm.config, env="HalfCheetah-v4", preset=preset, sets=list(sets)
    ).algorithm
    state = compiled.init(algorithm, cfg, spec)(jax.random.key(3))
    rng = np.random.default_rng(1)

    def moved(leaf):
        return leaf + np.float32(0.05) * rng.normal(size=leaf.shape).astype(np.float32)

    policy = algorithm.policy(state)
    policy = dataclasses.replace(policy, actor=jax.tree.map(moved, policy.actor))
    if algo == "ppo":  # statistics that do something
        policy = dataclasses.replace(policy, obs_moments=jax.tree.map(moved, policy.obs_moments))
    return algorithm, cfg, policy


def exported(algo, sets=(), preset="small", spec=SPEC, box=UNIT, mode="sample", noise="input"):
    algorithm, cfg, policy = policy_of(algo, sets, preset, spec)
    program = lower(algorithm, cfg, policy, spec, box, noise_free=mode == "mode")
    about = Description(algo, "some/Env-v0", 1000, 900, mode, noise, box.shape, "0.0.0")
    return Exported(program, about)


def observations(size, count=1000):
    """Ordinary ones, with 0, 1e3 and -1e3 among them in whole rows and in single entries."""
    rng = np.random.default_rng(0)
    obs = rng.normal(0.0, 2.0, (count, size)).astype(np.float32)
    obs[0], obs[1], obs[2] = 0.0, 1e3, -1e3
    obs[3:50] = rng.choice([-1e3, 0.0, 1e3], (47, size))
    return obs


def from_jax(algo, obs, mode="sample", sets=(), preset="small", spec=SPEC):
    """Actions in [-1, 1] of the algorithm's own ``act``, and the noise it drew for them."""
    algorithm, cfg, policy = policy_of(algo, sets, preset, spec)
    how, key = ActionMode(noise_free=mode == "mode"), jax.random.key(7)
    act = jax.jit(lambda p, o, k: algorithm.act(cfg, p, o, k, how))
    size = {"mfpo": 1, "ppo": 1, "sac": 1, "smfp": 2}[algo] * spec.act_size
    shape = (len(obs), size) if algo == "ppo" else (len(obs), 1, size)
    noise = jax.random.normal(key, shape).reshape(len(obs), size)
    return np.asarray(act(policy, obs, key)), np.asarray(noise)


def exact(program, obs, noise):
    """The program in float64."""
    values = {name: array.astype(np.float64) for name, array in program.constants.items()}
    values |= {"obs": obs.astype(np.float64), "noise": noise.astype(np.float64)}
    for step in program.instructions:
        values[step.out] = numpy_runtime.function(step)(*(values[name] for name in step.args))
    return values[program.output]


def assert_agrees(got, want, program, obs, noise):
    """1e-5 on ordinary observations.

    At 1e3, inside a network without normalisation, float32 itself is coarser than that: there the artefact
    may be as far from the exact value as jax is, and the allowance is measured, not chosen.
    """
    far = np.abs(obs).max(axis=1) > 100.0
    assert np.abs(got - want)[~far].max() <= 1e-5
    truth = exact(program, obs[far], noise[far])
    rounding = np.abs(want[far] - truth).max()
    assert rounding < 3e-4
    assert np.abs(got[far] - truth).max() <= 1e-5 + 2.0 * rounding


def compiled_c(folder, name, *flags):
    """The compiled C file as a function from arrays to an array of actions."""
    library = folder / f"{name}.so"
    command = [
        "gcc",
        *STRICT,
        *flags,
        "-shared",
        "-fPIC",
        str(folder / f"{name}.c"),
        "-o",
        str(library),
        "-lm",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def act_c(library, obs, noise, act_size):
    obs, noise = np.ascontiguousarray(obs), np.ascontiguousarray(noise)
    actions = np.full((len(obs), act_size), np.nan, np.float32)
    for o, n, a in zip(obs, noise, actions, strict=True):
        library.fewstep_act(*(ctypes.c_void_p(x.ctypes.data) for x in (o, n, a)))
    return actions
