"""From a trained policy to something that can be written in any format. This needs jax."""

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from fewstep import __version__
from fewstep.algos import numerics
from fewstep.algos.contract import ActionMode, Algorithm, mode_name
from fewstep.deploy.program.builder import Builder, UnknownOperation
from fewstep.deploy.program.description import Description, Exported
from fewstep.deploy.program.program import OBS, FloatArray, Program
from fewstep.deploy.tracing.trace import Tracer
from fewstep.deploy.tracing.value import Value
from fewstep.deploy.tracing.writer import Operand, Writer
from fewstep.errors import FewstepError, UsageError
from fewstep.types import EnvInfo

NOISES = ("input", "inside", "fixed")


def pack(
    algorithm: Algorithm,
    cfg: Any,
    policy: Any,
    env: EnvInfo,
    *,
    env_steps: int,
    updates: int,
    actions: str = "sample",
    noise: str = "input",
    fixed: PRNGKeyArray | None = None,
) -> Exported:
    """What the policy does, with its description.

    Args:
        algorithm, cfg, policy: what acts.
        env: where.
        env_steps, updates: how long it had learned.
        actions: ``sample``, ``mode``, ``native`` or ``best-of-N``; the last two may take the critics along.
        noise: ``input``, the caller gives it; ``inside``, the artefact can also draw it; ``fixed``, it is
            always the one of ``fixed``, so that an action is a function of its observation.
        fixed: the key of that noise (``acting.deterministic_key``).

    Raises:
        UsageError: the algorithm cannot act like this.
        FewstepError: the policy holds numbers that are not finite.
    """
    mode = algorithm.mode(cfg, actions)
    if noise not in NOISES:
        raise UsageError(f"unknown noise {noise!r}; use {', '.join(NOISES)}")
    noise_size = 0 if mode.noise_free else mode.candidates * math.prod(algorithm.noise(cfg, policy))
    if not noise_size and noise == "inside":
        raise UsageError(f"--noise inside has no meaning with --actions {actions}, which needs no noise")
    if noise == "fixed" and noise_size:
        if fixed is None:
            raise UsageError("noise fixed needs the key of the noise")
        noise_size = 0
    else:
        fixed = None
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(policy)):
        raise FewstepError("the policy holds a number that is not finite; its training has diverged")
    description = Description(
        algorithm=algorithm.name,
        env=env.env,
        env_steps=env_steps,
        updates=updates,
        actions=mode_name(mode),
        noise=noise,
        obs_names=env.obs_names,
        low=env.low,
        high=env.high,
        action_shape=env.action_shape,
        rate=env.rate,
        action_repeat=env.action_repeat,
        weights=_digest(policy),
        fewstep=__version__,
    )
    return Exported(
        description,
        noise_size,
        lambda: program(algorithm, cfg, policy, env, mode, fixed),
        function(algorithm, cfg, policy, env, mode, fixed),
    )


@numerics.own
def function(
    algorithm: Algorithm,
    cfg: Any,
    policy: Any,
    env: EnvInfo,
    mode: ActionMode,
    fixed: PRNGKeyArray | None = None,
) -> Callable[..., jax.Array]:
    """What the policy does in ``mode`` as a function of arrays, see ``Exported.function``; ``fixed`` as for
    ``program``."""
    low, high = np.array(env.low, np.float32), np.array(env.high, np.float32)
    one = (mode.candidates, *algorithm.noise(cfg, policy))
    centre = np.zeros(one, np.float32) if fixed is None else _drawn(fixed, math.prod(one)).reshape(one)

    def act(obs: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        shape = (obs.shape[0], *one)
        each = jnp.broadcast_to(centre, shape) if noise is None else noise.reshape(shape)
        a = jnp.clip(algorithm.chosen(cfg, policy, obs, each), -1.0, 1.0)
        return 0.5 * (1.0 - a) * low + 0.5 * (1.0 + a) * high

    return act


@numerics.own
def program(
    algorithm: Algorithm,
    cfg: Any,
    policy: Any,
    env: EnvInfo,
    mode: ActionMode,
    fixed: PRNGKeyArray | None = None,
) -> Program:
    """What the policy does in ``mode`` as a program whose action is in the environment's units.

    Without noise, every random draw is replaced by its centre, and the program has no noise input; with
    several candidates the critics are inside, and the noise is that of all of them, one after the other. With
    ``fixed`` it is no input but what ``Algorithm.act`` draws with this key for one observation.

    Raises:
        UsageError: it takes an operation that programs do not have, or images.
        FewstepError: it holds numbers that are not finite.
    """
    if env.image is not None:
        raise UsageError(
            f"{algorithm.name} acts on images, which only stablehlo can hold; export it --to stablehlo"
        )
    draws = None if fixed is None else functools.partial(_drawn, fixed)
    builder = Builder(env.spec.obs_size, mode.candidates, draws)
    writer = Writer(builder)
    tracer = Tracer(writer)
    shape = algorithm.noise(cfg, policy)
    noise: Operand = np.zeros(shape)
    if noise.size and not mode.noise_free:
        noise = Value.of(builder.noise(noise.size), shape)
    obs = Value.of(OBS, (env.spec.obs_size,))
    # An accelerator would compute the constants in fewer bits.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        action = writer.clip(
            tracer.call(lambda s, e: algorithm.draw(cfg, policy, s, e), obs, noise), -1.0, 1.0
        )
        if mode.candidates > 1 and algorithm.value is not None:
            value = tracer.call(algorithm.value(cfg, policy), obs, action)
            action = writer.write("best", action.shape, action, value)
    if action.shape != (env.spec.act_size,):
        raise FewstepError(
            f"the policy's actions do not have the {env.spec.act_size} entries of its environment"
        )
    low, high = np.array(env.low), np.array(env.high)
    if (low != -1.0).any() or (high != 1.0).any():
        action = writer.write("box", action.shape, action, low, high)
    try:
        return builder.finish(writer.name(action))
    except UnknownOperation as error:
        raise UsageError(
            f"{algorithm.name} acts by {error}, which only stablehlo can hold; export it --to stablehlo"
        ) from None


def _drawn(key: PRNGKeyArray, count: int) -> FloatArray:
    """The numbers do not depend on the shape that they are drawn in."""
    return np.asarray(jax.random.normal(key, (count,)), np.float32)


def _digest(policy: Any) -> str:
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(policy):
        array = np.ascontiguousarray(leaf)
        sha.update(f"\0{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\0".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
