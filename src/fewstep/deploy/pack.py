"""From a trained policy to something that can be written in any format. This needs jax."""

import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from fewstep import __version__
from fewstep.algos.contract import Algorithm, mode_name
from fewstep.deploy.description import Box, Description, Exported
from fewstep.deploy.lower import lower
from fewstep.errors import UsageError
from fewstep.types import Spec

NOISES = ("input", "inside", "fixed")


class Place(NamedTuple):
    """The environment a policy acts in: its id, names of its flat observation, bounds of actions."""

    env: str
    obs_names: tuple[str, ...]
    box: Box


def place(env: str, obs_names: tuple[str, ...], action_space: Any) -> Place:
    """The place of an environment with this ``gymnasium.spaces.Box`` of actions."""
    low, high = action_space.low.ravel().tolist(), action_space.high.ravel().tolist()
    return Place(env, obs_names, Box(tuple(low), tuple(high), action_space.shape))


def pack(
    algorithm: Algorithm,
    cfg: Any,
    policy: Any,
    where: Place,
    *,
    env_steps: int,
    updates: int,
    actions: str = "sample",
    noise: str = "input",
    fixed: PRNGKeyArray | None = None,
) -> Exported:
    """The policy as a program with its description.

    Args:
        algorithm, cfg, policy: what acts.
        where: the environment.
        env_steps, updates: how long it had learned.
        actions: ``sample``, ``mode``, ``native`` or ``best-of-N``; the last two may take the critics along.
        noise: ``input``, the caller gives it; ``inside``, the artefact can also draw it; ``fixed``, it is
            always the one of ``fixed``, so that an action is a function of its observation.
        fixed: the key of that noise (``acting.deterministic_key``).

    Raises:
        UsageError: the algorithm cannot be exported, or not like this.
        FewstepError: the policy holds numbers that are not finite.
    """
    mode = algorithm.mode(cfg, actions)
    if noise not in NOISES:
        raise UsageError(f"unknown noise {noise!r}; use {', '.join(NOISES)}")
    if mode.noise_free and noise == "inside":
        raise UsageError(f"--noise inside has no meaning with --actions {actions}, which needs no noise")
    spec = Spec(len(where.obs_names), len(where.box.low))
    if mode.noise_free or noise != "fixed":
        fixed = None
    elif fixed is None:
        raise UsageError("noise fixed needs the key of the noise")
    program = lower(algorithm, cfg, policy, spec, where.box, mode, fixed)
    description = Description(
        algorithm=algorithm.name,
        env=where.env,
        env_steps=env_steps,
        updates=updates,
        actions=mode_name(mode),
        noise=noise,
        obs_names=where.obs_names,
        action_shape=where.box.shape,
        weights=_digest(policy),
        fewstep=__version__,
    )
    return Exported(program, description)


def _digest(policy: Any) -> str:
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(policy):
        array = np.ascontiguousarray(leaf)
        sha.update(f"\0{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\0".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
