"""A policy made ready to act many times in a row: collecting, evaluation and ``predict`` call nothing else.

Of the time of one small action most is jax's way to it: a policy is a tree of some twenty modules, and taking
it apart in Python at every call takes longer than the networks do. Here it is taken apart once, and only the
arrays that acting reads are passed: one sample does not need the critics.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from fewstep.algos import numerics
from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.training import seeds
from fewstep.types import Spec

Acting = Callable[[Any, int], Any]
"""``(obs[B, obs_size], counter) -> action[B, act_size]``; the counter addresses the draw."""

ROWS = 16
"""Observations that one call of ``bind_each`` takes. More would save little: what a call costs beside them is
about one action."""


def bind(
    algorithm: Algorithm, cfg: Any, spec: Spec, mode: ActionMode | None, policy: Any, key: PRNGKeyArray
) -> Acting:
    """``algorithm.act`` (``collect`` without a mode) with all but observations and counter filled in.

    ``spec`` has the sizes that ``policy`` was made for; ``key`` is folded with each call's counter. The
    arrays of ``policy`` are kept, so it may not have been given to an update since.
    """
    act, read, bits = _bound(algorithm, cfg, spec, mode, policy, key, each=False)

    def acting(obs: Any, counter: int) -> Any:
        return np.asarray(act(read, obs, bits, np.uint32(counter)))

    return acting


def bind_each(
    algorithm: Algorithm, cfg: Any, spec: Spec, mode: ActionMode, policy: Any, key: PRNGKeyArray
) -> Acting:
    """As ``bind``, but every row gets the draw and the action that it would get alone, to the last bit.

    The rows of one call share neither noise by position nor a product of matrices, whose rounding depends on
    how many there are and could make another candidate the best. One program, which goes through the rows in
    turn, serves batches of every size.
    """
    act, read, bits = _bound(algorithm, cfg, spec, mode, policy, key, each=True)

    def acting(obs: Any, counter: int) -> Any:
        made = np.empty((len(obs), spec.act_size), np.float32)
        for start in range(0, len(obs), ROWS):
            some = obs[start : start + ROWS]
            padded = np.zeros((ROWS, spec.obs_size), np.float32)
            padded[: len(some)] = some
            actions = act(read, padded, bits, np.uint32(counter), np.int32(len(some)))
            made[start : start + ROWS] = np.asarray(actions)[: len(some)]
        return made

    return acting


def deterministic_key(seed: int) -> PRNGKeyArray:
    """The key of the draws behind deterministic actions of a run, of ``predict`` and of exports."""
    return seeds.fold_in(seeds.key(seed, seeds.Stream.PREDICT), 0)


def _bound(
    algorithm: Algorithm,
    cfg: Any,
    spec: Spec,
    mode: ActionMode | None,
    policy: Any,
    key: PRNGKeyArray,
    each: bool,
) -> tuple[Callable[..., jax.Array], list[jax.Array], np.ndarray]:
    """What acts, and its first and third argument: the arrays it reads, and the bits of the key."""
    places, act = on_arrays(algorithm, cfg, spec, mode, policy, each=each)
    leaves = jax.tree.leaves(policy)
    return act, [leaves[place] for place in places], key_bits(key)


def key_bits(key: PRNGKeyArray) -> np.ndarray:
    """The bits of a key: a typed key, too, is taken apart in Python at every call."""
    return np.asarray(jax.random.key_data(key))


def on_arrays(
    algorithm: Algorithm, cfg: Any, spec: Spec, mode: ActionMode | None, policy: Any, each: bool = False
) -> tuple[list[int], Callable[..., jax.Array]]:
    """Acting, compiled once however many ask, for policies of one shape.

    Args:
        algorithm, cfg, spec: what the policy belongs to.
        mode: how actions are chosen; None: as experience is collected.
        policy: one of that shape; its arrays are not kept.
        each: for ``bind_each``.

    Returns:
        Which leaves of the policy acting reads, and ``(those, obs[B, obs_size], key's bits, counter) ->
        action[B, act_size]``.
    """
    leaves, tree = jax.tree.flatten(policy)
    return _act(algorithm, cfg, spec, mode, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves), each)


@numerics.own
@functools.lru_cache(maxsize=64)
def _act(
    algorithm: Algorithm,
    cfg: Any,
    spec: Spec,
    mode: ActionMode | None,
    tree: Any,
    leaves: tuple[tuple[tuple[int, ...], Any], ...],
    each: bool,
) -> tuple[list[int], Callable[..., jax.Array]]:
    """``on_arrays``; with ``each`` on the first ``count`` rows of ``ROWS``, one after another."""

    def on_all(values: list[jax.Array], obs: jax.Array, bits: jax.Array, counter: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.wrap_key_data(bits), counter)
        policy = jax.tree.unflatten(tree, values)
        if mode is None:
            return algorithm.collect(cfg, policy, obs, key)
        return algorithm.act(cfg, policy, obs, key, mode)

    def on_read(read: list[jax.Array], *rest: jax.Array) -> jax.Array:
        given = dict(zip(places, read, strict=True))
        return on_all([given.get(i, jnp.zeros(*leaf)) for i, leaf in enumerate(leaves)], *rest)

    def on_each(
        read: list[jax.Array], obs: jax.Array, bits: jax.Array, counter: jax.Array, count: jax.Array
    ) -> jax.Array:
        def row(i: jax.Array, made: jax.Array) -> jax.Array:
            return made.at[i].set(on_read(read, obs[i][None], bits, counter)[0])

        return jax.lax.fori_loop(0, count, row, jnp.zeros((ROWS, spec.act_size)))

    bits = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    traced = jax.make_jaxpr(on_all)(
        [jax.ShapeDtypeStruct(*leaf) for leaf in leaves],
        jax.ShapeDtypeStruct((1, spec.obs_size), jnp.float32),
        bits,
        jax.ShapeDtypeStruct((), jnp.uint32),
    ).jaxpr
    needed = {id(value) for step in traced.eqns for value in step.invars} | {id(v) for v in traced.outvars}
    places = [place for place in range(len(leaves)) if id(traced.invars[place]) in needed]
    return places, numerics.jit(on_each if each else on_read)
