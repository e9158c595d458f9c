"""The jitted calls that start and learn, made once per algorithm and config however many trainers ask."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fewstep.algos import numerics
from fewstep.algos.contract import Algorithm
from fewstep.types import Spec

Updates = Callable[[Any, Any, Any], tuple[Any, Any]]


@functools.lru_cache(maxsize=16)
def init(algorithm: Algorithm, cfg: Any, spec: Spec) -> Callable[[Any], Any]:
    """``key -> State``, compiled as one program instead of one per initialiser."""
    return numerics.jit(functools.partial(algorithm.init, cfg, spec))


@functools.lru_cache(maxsize=16)
def _one_update(algorithm: Algorithm, cfg: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    return numerics.inner(functools.partial(algorithm.update, cfg))


@functools.lru_cache(maxsize=16)
def updates(algorithm: Algorithm, cfg: Any) -> Updates:
    """``(state, totals, data) -> (state, totals)``: one update per entry of the leading axis, to be jitted.

    ``totals`` holds the running sum of every metric, so that the host reads the device once per log interval.
    """
    update = _one_update(algorithm, cfg)

    def one(carry: tuple[Any, Any], data: Any) -> tuple[tuple[Any, Any], None]:
        state, totals = carry
        state, metrics = update(state, data)
        return (state, jax.tree.map(jnp.add, totals, metrics)), None

    def many(state: Any, totals: Any, data: Any) -> tuple[Any, Any]:
        return lax.scan(one, (state, totals), data)[0]

    return many


@functools.lru_cache(maxsize=16)
def flat_updates(update: Updates, tree: Any) -> Updates:
    """``update`` (of ``updates``), jitted, on the leaves of a state, which jax gets through in a tenth of the
    time that the state would take.

    Leaves and totals are donated: the caller must not use what it passed in.
    """

    def many(leaves: list[Any], totals: Any, data: Any) -> tuple[list[Any], Any]:
        state, totals = update(jax.tree.unflatten(tree, leaves), totals, data)
        return jax.tree.leaves(state), totals

    return numerics.jit(many, donate_argnums=(0, 1))


@numerics.own
def zero_totals(algorithm: Algorithm, cfg: Any, state: Any, example: Any) -> dict[str, jax.Array]:
    """Zeros for the metrics that one update on data like ``example`` gives; it is traced for this, and not
    traced again later."""
    _, metrics = jax.eval_shape(_one_update(algorithm, cfg), state, example)
    return {name: jnp.zeros(value.shape, value.dtype) for name, value in metrics.items()}
