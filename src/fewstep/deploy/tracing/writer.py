"""Instructions for values: what is linear as products with their constants combined, what bends as it is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.deploy.program.builder import Builder
from fewstep.deploy.program.program import EPSILON, OBS
from fewstep.deploy.tracing.value import Shape, Value, Wide

Operand = Value | NDArray[Any]
"""A value of the program, or a constant."""

LARGEST = float(np.finfo(np.float32).max)
SHIFT = 8.0
"""A scaled value plus a constant larger than this is not folded into a product: where the constant takes off
a large mean, as when observations are normalised, float32 would lose what is left."""


class Writer:
    """Writes operands into a program and knows what it has written."""

    def __init__(self, builder: Builder) -> None:
        self._b = builder
        self._made: dict[str, tuple[str, tuple[Operand, ...], tuple[float, ...]]] = {}
        self._sums: dict[str, Value] = {}
        self._products: dict[tuple[str, bytes], tuple[str, Wide]] = {}

    def name(self, x: Operand) -> str:
        """The name of ``x`` in the program; its instructions are written now if they are not yet."""
        if not isinstance(x, Value):  # depends on nothing: no weight on the observation
            flat = np.asarray(x, np.float64).ravel()
            x = Value(x.shape, flat, {OBS: np.zeros((self._b.obs_size, flat.size))})
        if x.name is None:
            name = self._sum(x)
            self._sums.setdefault(name, x)
            x.name = name
        return x.name

    def _sum(self, x: Value) -> str:
        if len(x.terms) == 1:
            ((base, w),) = x.terms.items()
            op, args, _ = self._made.get(base, ("", (), ()))
            if w.ndim == 1 and op == "layer_norm":  # there without scale and shift
                return self._b.emit("layer_norm", self.name(args[0]), w, x.const)
            if w.ndim == 1 and w.all() and np.abs(x.const).max() > SHIFT:
                return self._b.emit("mul", self._b.emit("add", base, x.const / w), w)
        so_far: str | Wide = x.const
        # First what depends on the observation alone: it is the same for all candidates and steps.
        for base in sorted((base for base, w in x.terms.items() if w.ndim == 2), key=self._b.random):
            so_far = self._product(base, x.terms[base], so_far)
        for base, w in x.terms.items():
            if w.ndim == 1:
                scaled = base if (w == 1.0).all() else self._b.emit("mul", base, w)
                alone = not isinstance(so_far, str) and not so_far.any()
                so_far = scaled if alone else self._b.emit("add", scaled, so_far)
        return so_far if isinstance(so_far, str) else self.name(so_far)

    def _product(self, base: str, weight: Wide, bias: str | Wide) -> str:
        """``base @ weight + bias``; the same product with another constant for a bias is used again."""
        if isinstance(bias, str):
            return self._b.emit("affine", base, weight, bias)
        key = base, weight.astype(np.float32).tobytes()
        if key not in self._products:
            self._products[key] = self._b.emit("affine", base, weight, bias), bias
        name, there = self._products[key]
        return self._b.emit("add", name, bias - there) if (bias != there).any() else name

    def write(self, op: str, shape: Shape, *args: Operand, numbers: tuple[float, ...] = ()) -> Value:
        """Append ``op(args; numbers)``."""
        names = [self.name(x) if isinstance(x, Value) else np.broadcast_to(x, shape).ravel() for x in args]
        name = self._b.emit(op, *names, numbers=numbers)
        self._made[name] = op, args, numbers
        return Value.of(name, shape)

    def settled(self, x: Value, outputs: int, mixed: bool) -> Value:
        """``x`` on its way to ``outputs`` entries, sums over its own (``mixed``) or some of them.

        It goes as the sum it is, or as a value that is written: where the products of two steps are fewer
        than those of one, or where one step would lose digits.
        """
        const, terms = x.linear
        matrices = [w for w in terms.values() if w.ndim == 2]
        at_once = outputs * sum(len(w) for w in terms.values() if mixed or w.ndim == 2)
        apart = sum(w.size for w in matrices) + outputs * (x.size if mixed else 1)
        shifted = mixed and not matrices and np.abs(const).max(initial=0.0) > SHIFT
        return Value.of(self.name(x), x.shape) if shifted or at_once > apart else x

    def cut(self, name: str, start: int, size: int) -> str:
        """The name of a part of the value ``name``."""
        return self._b.emit("slice", name, numbers=(start, size))

    def times(self, x: Operand, y: Operand, shape: Shape) -> Value:
        """``x * y`` of one shape; with a constant it is linear."""
        for a, b in ((x, y), (y, x)):
            if isinstance(a, Value) and not isinstance(b, Value):
                return a.scaled(b)
            if isinstance(a, Value) and isinstance(b, Value):
                logit = self._argument(b, "sigmoid")
                if logit is not None and self.name(logit) == self.name(a):
                    return self.write("silu", shape, a)
                if self._is_inverse_norm(b, a):
                    if a.uncentred is None:
                        return self.write("rms_norm", shape, a)
                    return self.write("layer_norm", shape, a.uncentred, np.ones(a.size), np.zeros(a.size))
        return self.write("mul", shape, x, y)

    def quotient(self, x: Operand, y: Operand, shape: Shape) -> Value:
        """``x / y`` of one shape."""
        if not isinstance(y, Value):
            return self.times(x, 1.0 / y, shape)
        exponent = self._argument(x, "exp")
        if isinstance(x, Value) and exponent is not None:
            below = self._behind(y)
            ones = [name for name, w in below.terms.items() if (w == 1.0).all()]
            if ones == [x.name] == list(below.terms) and not below.const.any():
                # What is taken off all entries alike, such as the largest, makes no difference.
                uneven = {b: w for b, w in exponent.terms.items() if w.ndim == 1 or np.ptp(w, axis=1).any()}
                return self.write("softmax", shape, Value(shape, exponent.const, uneven))
        return self.times(x, self.write("reciprocal", shape, y), shape)

    def extreme(self, op: str, x: Operand, y: Operand, shape: Shape) -> Operand:
        """``min`` or ``max`` of two operands of one shape, one of them a value."""
        x, y = (x, y) if isinstance(x, Value) else (y, x)
        if isinstance(y, Value) or (y != y.flat[0]).any():
            if op == "min":
                return self.write("min", shape, x, y)
            return negative(self.write("min", shape, negative(x), negative(y)))
        end = float(y.flat[0])
        if op == "max" and end == 0.0:
            return self.write("relu", shape, x)
        return self.clip(x, *((end, LARGEST) if op == "max" else (-LARGEST, end)))

    def clip(self, x: Operand, low: float, high: float) -> Operand:
        """``x`` kept in [low, high]; not written where it is there already."""
        if not isinstance(x, Value):
            return np.clip(x, low, high)
        op, args, numbers = self._made.get(self.name(x), ("", (), ()))
        low, high = max(low, -LARGEST), min(high, LARGEST)
        if (low, high) == (-LARGEST, LARGEST):
            return x
        if op == "tanh" and low <= -1.0 and high >= 1.0:
            return x
        if op == "clip" and max(numbers[0], low) <= min(numbers[1], high):
            x, low, high = args[0], max(numbers[0], low), min(numbers[1], high)
        return self.write("clip", x.shape, x, numbers=(low, high))

    def is_mean(self, y: Value, x: Value) -> bool:
        """Whether ``y`` is the mean of the entries of ``x``."""
        y = self._behind(y)
        for const, terms in ((x.const, x.terms), x.linear):
            means = {name: w.mean(1) if w.ndim == 2 else w / x.size for name, w in terms.items()}
            if y.size == 1 and means.keys() == y.terms.keys():
                pairs = [(const.mean(), y.const), *((means[name], w.ravel()) for name, w in y.terms.items())]
                return all(np.allclose(a, b, rtol=1e-6, atol=1e-12) for a, b in pairs)
        return False

    def _is_inverse_norm(self, y: Value, x: Value) -> bool:
        """Whether ``y`` is 1 / sqrt(mean(x^2) + EPSILON)."""
        root = self._argument(y, "reciprocal")
        inside = None if root is None else self._argument(root, "sqrt")
        if inside is None or len(inside.terms) != 1:
            return False
        ((base, w),) = inside.terms.items()
        op, args, _ = self._made.get(base, ("", (), ()))
        return (
            op == "mul"
            and [self.name(arg) for arg in args if isinstance(arg, Value)] == 2 * [self.name(x)]
            and np.allclose(w, 1.0 / x.size, rtol=1e-6)
            and np.allclose(inside.const, EPSILON, rtol=1e-6)
        )

    def _argument(self, x: Operand, op: str) -> Value | None:
        """What ``x`` is ``op`` of, if it is (the same for all entries, where that is one number)."""
        found, args, _ = self._made.get(_only(x) or "", ("", (), ()))
        return args[0] if found == op and isinstance(args[0], Value) else None

    def _behind(self, x: Value) -> Value:
        """The sum that ``x`` was written as."""
        return self._sums.get(_only(x) or "", x)


def negative(x: Operand) -> Operand:
    """``-x``."""
    return x.scaled(-1.0) if isinstance(x, Value) else -x


def _only(x: Operand) -> str | None:
    """The name of the value that ``x`` is, or repeats for all its entries."""
    if not isinstance(x, Value):
        return None
    const, terms = x.linear
    for name, w in terms.items():
        if len(terms) == 1 and not const.any() and (w == 1.0).all() and (w.ndim == 1 or len(w) == 1):
            return name
    return None
