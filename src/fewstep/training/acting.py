"""A policy made ready to act many times in a row: what ``predict`` calls.

Of the time of one small action most is jax's way to it: a policy is a tree of some twenty modules, and taking
it apart in Python at every call takes longer than the networks do. Here it is taken apart once.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm

Acting = Callable[[Any, int], Any]
"""``(obs[B, obs_size], counter) -> action[B, act_size]``; the counter addresses the draw."""


def bind(algorithm: Algorithm, cfg: Any, mode: ActionMode, policy: Any, key: PRNGKeyArray) -> Acting:
    """``compiled.act`` with policy and key filled in: the same draws, the same actions.

    The arrays of ``policy`` are kept, so it may not have been given to an update since.
    """
    leaves, tree = jax.tree.flatten(policy)
    act = _act(algorithm, cfg, mode, tree)
    bits = np.asarray(jax.random.key_data(key))  # a typed key, too, is taken apart in Python

    def acting(obs: Any, counter: int) -> Any:
        return np.asarray(act(leaves, obs, bits, np.uint32(counter)))

    return acting


@functools.lru_cache(maxsize=64)
def _act(algorithm: Algorithm, cfg: Any, mode: ActionMode, tree: Any) -> Callable[..., jax.Array]:
    def chosen(leaves: list[jax.Array], obs: jax.Array, bits: jax.Array, counter: jax.Array) -> jax.Array:
        policy = jax.tree.unflatten(tree, leaves)
        key = jax.random.fold_in(jax.random.wrap_key_data(bits), counter)
        return algorithm.act(cfg, policy, obs, key, mode)

    return jax.jit(chosen)
