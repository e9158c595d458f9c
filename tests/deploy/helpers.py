"""Policies with random parameters, what jax makes of them, and what the exported program should give."""

import ctypes
import functools
import shutil
import subprocess

import jax
import numpy as np
import pytest

from fewstep import config
from fewstep.algos import registry
from fewstep.deploy import export
from fewstep.deploy.formats.numpy import run as numpy_runtime
from fewstep.training import compiled
from fewstep.types import EnvInfo, Spec

SPEC = Spec(5, 3)
SMALL = ("actor.hidden=[16,12]", "critic.hidden=[8]")
TINY = {
    "crossq": SMALL,
    "mfpo": (*SMALL, "actor.time_features=4", "actor.time_embed=6", "critic.atoms=11"),
    "ppo": SMALL,
    "sac": SMALL,
    "smfp": SMALL,
    "td3": SMALL,
}
STRICT = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic")

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def surroundings(spec=SPEC, low=-1.0, high=1.0, shape=None):
    """An environment of these sizes and bounds."""
    names = tuple(f"observation[{i}]" for i in range(spec.obs_size))
    low, high = (tuple(np.broadcast_to(end, spec.act_size).tolist()) for end in (low, high))
    return EnvInfo("some/Env-v0", names, low, high, shape or (spec.act_size,))


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
        if leaf.dtype != np.float32:
            return leaf
        return leaf + np.float32(0.05) * rng.normal(size=leaf.shape).astype(np.float32)

    return algorithm, cfg, jax.tree.map(moved, algorithm.policy(state))


def exported(algo, sets=(), preset="small", spec=SPEC, env=None, mode="sample", noise="input"):
    algorithm, cfg, policy = policy_of(algo, sets, preset, spec)
    env = env or surroundings(spec)
    return export.pack(algorithm, cfg, policy, env, env_steps=1000, updates=900, actions=mode, noise=noise)


def observations(size, count=1000, limit=1e3):
    """Ordinary ones, with 0, limit and -limit among them in whole rows and in single entries."""
    rng = np.random.default_rng(0)
    obs = rng.normal(0.0, 2.0, (count, size)).astype(np.float32)
    obs[0], obs[1], obs[2] = 0.0, limit, -limit
    obs[3:50] = rng.choice([-limit, 0.0, limit], (47, size))
    return obs


def from_jax(algo, obs, mode="sample", sets=(), preset="small", spec=SPEC):
    """Actions in [-1, 1] of the algorithm's own ``act``, and the noise it drew for them."""
    algorithm, cfg, policy = policy_of(algo, sets, preset, spec)
    how, key = algorithm.mode(cfg, mode), jax.random.key(7)
    act = jax.jit(lambda p, o, k: algorithm.act(cfg, p, o, k, how))
    shape = (len(obs), how.candidates, *algorithm.noise(cfg, policy))
    noise = jax.random.normal(key, shape).reshape(len(obs), -1)
    return np.asarray(act(policy, obs, key)), np.asarray(noise)


def far(obs):
    """Which observations are so large that float32 shows in a network without normalisation."""
    return np.abs(obs).max(axis=1) > 100.0


def exact(program, obs, noise):
    """The actions in float64, and which observations leave no doubt what is best.

    Two candidates whose values differ by less than float32 can tell may be chosen either way.
    """
    values = {name: array.astype(np.float64) for name, array in program.constants.items()}
    values |= {"obs": obs.astype(np.float64), "noise": noise.astype(np.float64)}
    clear = np.ones(len(obs), bool)
    for step in program.instructions:
        args = [values[name] for name in step.args]
        values[step.out] = numpy_runtime.function(step)(*args)
        if step.op == "best":
            ranked = np.sort(args[1][..., 0], axis=1)
            doubt = 2e-6 * (1.0 + np.abs(ranked).max(axis=1))
            clear = ranked[:, -1] - ranked[:, -2] > doubt
    assert clear.mean() > 0.8
    return values[program.output], clear


def agreement(program, obs, noise, want):
    """``check(got)``: 1e-5 on ordinary observations.

    At 1e3, inside a network without normalisation, float32 itself is coarser than that: there the artefact
    may be as far from the exact value as jax is, and the allowance is measured, not chosen.
    """
    truth, clear = exact(program, obs, noise)
    near, beyond = clear & ~far(obs), clear & far(obs)
    rounding = np.abs(want - truth)[beyond].max(initial=0.0)
    assert rounding < 3e-4

    def check(got):
        assert got.dtype == np.float32
        assert np.abs(got - want)[near].max() <= 1e-5
        assert np.abs(got - truth)[beyond].max(initial=0.0) <= 1e-5 + 2.0 * rounding

    return check


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
