"""A policy made ready to act many times in a row: what ``predict`` calls.

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
    algorithm: Algorithm, cfg: Any, spec: Spec, mode: ActionMode, policy: Any, key: PRNGKeyArray
) -> Acting:
    """``compiled.act`` with policy and key filled in: the same draws, the same actions.

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
    algorithm: Algorithm, cfg: Any, spec: Spec, mode: ActionMode, policy: Any, key: PRNGKeyArray, each: bool
) -> tuple[Callable[..., jax.Array], list[jax.Array], np.ndarray]:
    """What acts, and its first and third argument: the arrays it reads, and the bits of the key."""
    leaves, tree = jax.tree.flatten(policy)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    places, act = _act(algorithm, cfg, spec, mode, tree, shapes, each)
    bits = np.asarray(jax.random.key_data(key))  # a typed key, too, is taken apart in Python
    return act, [leaves[place] for place in places], bits


@numerics.own
@functools.lru_cache(maxsize=64)
def _act(
    algorithm: Algorithm,
    cfg: Any,
    spec: Spec,
    mode: ActionMode,
    tree: Any,
    leaves: tuple[tuple[tuple[int, ...], Any], ...],
    each: bool,
) -> tuple[list[int], Callable[..., jax.Array]]:
    """Which of the policy's ``leaves`` (shapes and types) acting reads, and acting, compiled, on these; with
    ``each`` on the first ``count`` rows of ``ROWS``, one after another."""

    def on_all(values: list[jax.Array], obs: jax.Array, bits: jax.Array, counter: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.wrap_key_data(bits), counter)
        return algorithm.act(cfg, jax.tree.unflatten(tree, values), obs, key, mode)

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
