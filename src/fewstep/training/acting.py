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
from fewstep.types import Spec

Acting = Callable[[Any, int], Any]
"""``(obs[B, obs_size], counter) -> action[B, act_size]``; the counter addresses the draw."""


def bind(
    algorithm: Algorithm, cfg: Any, spec: Spec, mode: ActionMode, policy: Any, key: PRNGKeyArray
) -> Acting:
    """``compiled.act`` with policy and key filled in: the same draws, the same actions.

    ``spec`` has the sizes that ``policy`` was made for; ``key`` is folded with each call's counter. The
    arrays of ``policy`` are kept, so it may not have been given to an update since.
    """
    leaves, tree = jax.tree.flatten(policy)
    places, act = _act(algorithm, cfg, spec, mode, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    read = [leaves[place] for place in places]
    bits = np.asarray(jax.random.key_data(key))  # a typed key, too, is taken apart in Python

    def acting(obs: Any, counter: int) -> Any:
        return np.asarray(act(read, obs, bits, np.uint32(counter)))

    return acting


@numerics.own
@functools.lru_cache(maxsize=64)
def _act(
    algorithm: Algorithm,
    cfg: Any,
    spec: Spec,
    mode: ActionMode,
    tree: Any,
    leaves: tuple[tuple[tuple[int, ...], Any], ...],
) -> tuple[list[int], Callable[..., jax.Array]]:
    """Which of the policy's ``leaves`` (shapes and types) acting reads, and acting, compiled, on these."""

    def on_all(values: list[jax.Array], obs: jax.Array, bits: jax.Array, counter: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.wrap_key_data(bits), counter)
        return algorithm.act(cfg, jax.tree.unflatten(tree, values), obs, key, mode)

    def on_read(read: list[jax.Array], *rest: jax.Array) -> jax.Array:
        given = dict(zip(places, read, strict=True))
        return on_all([given.get(i, jnp.zeros(*leaf)) for i, leaf in enumerate(leaves)], *rest)

    bits = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    traced = jax.make_jaxpr(on_all)(
        [jax.ShapeDtypeStruct(*leaf) for leaf in leaves],
        jax.ShapeDtypeStruct((1, spec.obs_size), jnp.float32),
        bits,
        jax.ShapeDtypeStruct((), jnp.uint32),
    ).jaxpr
    needed = {id(value) for step in traced.eqns for value in step.invars} | {id(v) for v in traced.outvars}
    places = [place for place in range(len(leaves)) if id(traced.invars[place]) in needed]
    return places, numerics.jit(on_read)
