"""A vector that is linear in others, not yet computed: the form in which products are combined."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.float64]
Shape = tuple[int, ...]
Linear = tuple[Wide, dict[str, Wide]]


@dataclass(eq=False)
class Value:
    """``const`` plus a sum over values of a program, each times its weights; flat, in float64.

    Attributes:
        shape: as jax has it.
        const: ``[size]``.
        terms: weights by the value's name: ``[size]``, factors of its entries, or ``[its size, size]``.
        name: what it is called in the program, once it is written there.
        uncentred: the value whose mean was taken off to make this one, if it was made so.
    """

    shape: Shape
    const: Wide
    terms: dict[str, Wide]
    name: str | None = None
    uncentred: "Value | None" = None

    @staticmethod
    def of(name: str, shape: Shape) -> "Value":
        """The program's value ``name``."""
        size = int(np.prod(shape))
        return Value(shape, np.zeros(size), {name: np.ones(size)}, name)

    @property
    def size(self) -> int:
        """Entries."""
        return self.const.size

    @property
    def linear(self) -> Linear:
        """``const`` and ``terms``, in terms of itself where it is written already."""
        if self.name is None:
            return self.const, self.terms
        return np.zeros(self.size), {self.name: np.ones(self.size)}

    def reshaped(self, shape: Shape) -> "Value":
        """The same entries in another shape."""
        return self if shape == self.shape else Value(shape, self.const, self.terms, self.name)

    def scaled(self, factors: Any) -> "Value":
        """Times ``factors``, a number or one per entry."""
        const, terms = self.linear
        flat = np.broadcast_to(np.asarray(factors, np.float64), self.shape).ravel()
        return Value(self.shape, const * flat, {name: w * flat for name, w in terms.items() if flat.any()})

    def through(self, matrix: Wide, shape: Shape) -> "Value":
        """Times ``matrix[size, outputs]``."""
        const, terms = self.linear
        made = {name: w @ matrix if w.ndim == 2 else w[:, None] * matrix for name, w in terms.items()}
        return Value(shape, const @ matrix, made)

    def taken(self, index: NDArray[Any], cut: Callable[[str, int, int], str]) -> "Value":
        """The entries ``index``, in its shape; ``cut(name, start, size)`` names a part of a value."""
        const, terms = self.linear
        flat, made = index.ravel(), dict[str, Wide]()
        start, size = int(flat[0]), flat.size
        in_order = np.array_equal(flat, np.arange(start, start + size))
        for name, w in terms.items():
            if w.ndim == 2:
                made[name] = w[:, flat]
            elif in_order:
                made[cut(name, start, size)] = w[flat]
            else:
                made[name] = np.diag(w)[:, flat]
        return Value(index.shape, const[flat], made)


def total(values: Sequence[Value | NDArray[Any]], shape: Shape) -> Value:
    """The sum of values and constants of one shape."""
    const, terms = np.zeros(int(np.prod(shape))), dict[str, Wide]()
    for value in values:
        own, parts = value.linear if isinstance(value, Value) else (np.asarray(value, np.float64).ravel(), {})
        const = const + own
        for name, w in parts.items():
            if name not in terms:
                terms[name] = w
            elif terms[name].ndim == w.ndim:
                terms[name] = terms[name] + w
            else:
                terms[name] = _matrix(terms[name]) + _matrix(w)
    return Value(shape, const, terms)


def joined(values: Sequence[Value | NDArray[Any]]) -> Value:
    """The entries of all, one value after the other."""
    if len(values) == 1 and isinstance(values[0], Value):
        return values[0]
    sizes = [int(np.prod(value.shape)) for value in values]
    size, parts = sum(sizes), list[Value | NDArray[Any]]()
    for value, start, own in zip(values, np.cumsum([0, *sizes]), sizes, strict=False):
        if isinstance(value, Value):
            parts.append(value.through(np.eye(own, size, int(start)), (size,)))
        else:  # not a product: jax writes a NaN where nothing is chosen, and 0 times it is one, too
            padded = np.zeros(size)
            padded[start : start + own] = np.asarray(value, np.float64).ravel()
            parts.append(padded)
    return total(parts, (size,))


def _matrix(w: Wide) -> Wide:
    return w if w.ndim == 2 else np.diag(w)
