"""Several states as one with a leading axis of seeds, and the jitted calls that work on all of them at once.

The count of updates is the one leaf that is not stacked: states side by side have made equally many, and a
condition on the count (an actor that learns every second time) stays a condition, where ``vmap`` over it
would compute both branches at every update.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from fewstep.algos import numerics
from fewstep.algos.contract import Algorithm
from fewstep.training.compiled import Updates

T = TypeVar("T")
COUNTS = ("updates", "inner.updates")
"""``State.updates`` of the contract of algorithms, and where ``algos.normalised`` has it."""


def _is_count(path: Any) -> bool:
    return jax.tree_util.keystr(path, simple=True, separator=".") in COUNTS


def axes(state: T) -> T:
    """The tree of ``state`` with the axis of seeds for each leaf, as ``vmap`` takes it."""
    return jax.tree_util.tree_map_with_path(lambda path, _: None if _is_count(path) else 0, state)


@numerics.inner
def stack(states: Sequence[T]) -> T:
    """Equal trees as one with a leading axis ``[S]``; their counts of updates must be the same."""

    def leaf(path: Any, *leaves: jax.Array) -> jax.Array:
        return leaves[0] if _is_count(path) else jnp.stack(leaves)

    return jax.tree_util.tree_map_with_path(leaf, *states)


@numerics.inner
def lane(stacked: T, index: Any) -> T:
    """The state of one seed, in memory of its own."""

    def leaf(path: Any, array: jax.Array) -> jax.Array:
        # What jit passes through unchanged is one buffer for all lanes: one donation would take it from all.
        return jnp.copy(array) if _is_count(path) else array[index]

    return jax.tree_util.tree_map_with_path(leaf, stacked)


@functools.lru_cache(maxsize=16)
def updates(single: Updates) -> Updates:
    """``single`` (``compiled.updates``) for S states, totals and data, each with a leading axis of seeds.

    State and totals are donated.
    """

    def many(states: Any, totals: Any, data: Any) -> tuple[Any, Any]:
        over = axes(states)
        return jax.vmap(single, in_axes=(over, 0, 0), out_axes=(over, 0))(states, totals, data)

    return numerics.jit(many, donate_argnums=(0, 1))


@functools.lru_cache(maxsize=16)
def collect(algorithm: Algorithm, cfg: Any) -> Callable[[Any, Any, Any, Any], jax.Array]:
    """``(states, obs[S, N, obs_size], keys[S], counters[S]) -> action[S, N, act_size]`` to collect with."""

    def one(state: Any, obs: jax.Array, key: Any, counter: Any) -> jax.Array:
        return algorithm.collect(cfg, algorithm.policy(state), obs, jax.random.fold_in(key, counter))

    def many(states: Any, obs: jax.Array, keys: Any, counters: Any) -> jax.Array:
        return jax.vmap(one, in_axes=(axes(states), 0, 0, 0))(states, obs, keys, counters)

    return numerics.jit(many)
