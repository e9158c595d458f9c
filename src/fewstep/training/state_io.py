"""A state of jax arrays as named numpy arrays, and back.

Names are the paths of the pytree (``actor/layers/0/weight``). PRNG keys are stored as their raw words.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from fewstep.algos import numerics
from fewstep.errors import FewstepError

T = TypeVar("T")


@numerics.own
def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Copy every leaf to the host under its path.

    Raises:
        TypeError: a leaf is not an array; the contract of algorithms forbids it.
    """
    return {path: _to_numpy(path, leaf) for path, leaf in _leaves(tree)}


@numerics.own
def from_arrays(template: T, arrays: Mapping[str, np.ndarray], what: str) -> T:
    """The template's tree with its leaves taken from ``arrays``.

    Args:
        template: a tree of arrays or of ``jax.ShapeDtypeStruct`` (no memory needed).
        arrays: as ``to_arrays`` gave them.
        what: what is being read, for the message.

    Raises:
        FewstepError: a leaf is missing, left over, or has another shape or type. Typical causes are another
            algorithm, environment or network size.
    """
    named = _leaves(template)
    missing = sorted({path for path, _ in named} - set(arrays))
    extra = sorted(set(arrays) - {path for path, _ in named})
    if missing or extra:
        one = f"{missing[0]!r} is missing" if missing else f"{extra[0]!r} is not part of it"
        raise FewstepError(
            f"{what} does not fit its config: {one} ({len(missing)} missing, {len(extra)} extra)"
        )
    leaves = [_to_jax(path, leaf, arrays[path], what) for path, leaf in named]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def first_non_finite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Name of the first array that holds a NaN or an infinity."""
    for path, array in arrays.items():
        if finite_share(array) < 1.0:
            return path
    return None


def finite_share(array: np.ndarray) -> float:
    """The share of numbers that are neither NaN nor infinite; 1 of what has none or is not of floats."""
    if not jnp.issubdtype(array.dtype, jnp.floating) or not array.size:
        return 1.0
    known = array if array.dtype.kind == "f" else array.astype(np.float32)  # bfloat16
    return float(np.isfinite(known).mean())


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in flat]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(path: str, leaf: Any) -> np.ndarray:
    if not isinstance(leaf, jax.Array | np.ndarray):
        raise TypeError(f"{path} is a {type(leaf).__name__}; every leaf of a state must be an array")
    # np.array copies: a view would keep the device buffer from being donated to the next update.
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")


def _to_jax(path: str, leaf: Any, array: np.ndarray, what: str) -> jax.Array:
    expected = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    if array.shape != expected.shape or array.dtype != expected.dtype:
        raise FewstepError(
            f"{what} does not fit its config: {path!r} is {array.dtype}{list(array.shape)}, "
            f"expected {expected.dtype}{list(expected.shape)}"
        )
    value = jnp.array(array)
    return jax.random.wrap_key_data(value) if _is_key(leaf) else value
