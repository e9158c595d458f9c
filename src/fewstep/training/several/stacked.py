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
from jax.sharding import Mesh

from fewstep.algos import numerics
from fewstep.algos.contract import Algorithm
from fewstep.training.compiled import Updates
from fewstep.training.several.placement import EVERY, SPLIT

T = TypeVar("T")
COUNTS = ("updates", "inner.updates")
"""``State.updates`` of the contract of algorithms, and where ``algos.normalised`` has it."""


def _is_count(path: Any) -> bool:
    return jax.tree_util.keystr(path, simple=True, separator=".") in COUNTS


def axes(state: T) -> T:
    """The tree of ``state`` with the axis of seeds for each leaf, as ``vmap`` takes it."""
    return jax.tree_util.tree_map_with_path(lambda path, _: None if _is_count(path) else 0, state)


def specs(state: T) -> T:
    """The tree of ``state`` with, for each leaf, how it lies on a mesh (``several.placement``)."""
    return jax.tree_util.tree_map_with_path(lambda path, _: EVERY if _is_count(path) else SPLIT, state)


def _on_each(call: Callable[..., Any], mesh: Mesh | None, ins: Any, outs: Any) -> Callable[..., Any]:
    """``call`` by every device of the mesh on its own seeds.

    ``shard_map``, not a program that XLA divides itself: so no device ever waits for another, whatever an
    algorithm computes. Its check of what is equal on all devices is off, because loops whose first carry is a
    constant do not pass it; only the count of updates is, which each device computes from equal counts.
    """
    if mesh is None:
        return call
    return jax.shard_map(call, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False)


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
def updates(single: Updates, mesh: Mesh | None = None) -> Updates:
    """``single`` (``compiled.updates``) for S states, totals and data, each with a leading axis of seeds.

    State and totals are donated. With a mesh they and the data lie on it, as ``specs`` and SPLIT say.
    """

    def many(states: Any, totals: Any, data: Any) -> tuple[Any, Any]:
        over, placed = axes(states), specs(states)
        call = jax.vmap(single, in_axes=(over, 0, 0), out_axes=(over, 0))
        return _on_each(call, mesh, (placed, SPLIT, SPLIT), (placed, SPLIT))(states, totals, data)

    return numerics.jit(many, donate_argnums=(0, 1))


@functools.lru_cache(maxsize=16)
def collect(
    algorithm: Algorithm, cfg: Any, mesh: Mesh | None = None
) -> Callable[[Any, Any, Any, Any], jax.Array]:
    """``(states, obs[S, N, obs_size], keys[S], counters[S]) -> action[S, N, act_size]`` to collect with.

    With a mesh all lie on it, as ``specs`` and SPLIT say.
    """

    def one(state: Any, obs: jax.Array, key: Any, counter: Any) -> jax.Array:
        return algorithm.collect(cfg, algorithm.collecting(state), obs, jax.random.fold_in(key, counter))

    def many(states: Any, obs: jax.Array, keys: Any, counters: Any) -> jax.Array:
        call = jax.vmap(one, in_axes=(axes(states), 0, 0, 0))
        return _on_each(call, mesh, (specs(states), SPLIT, SPLIT, SPLIT), SPLIT)(states, obs, keys, counters)

    return numerics.jit(many)
