"""From functions of jax to instructions: ``draw`` and ``value`` of any algorithm, as jax sees them.

jax gives a function as a list of equations. What depends on neither observation nor noise is computed, in
float64. What is linear is not written at once but kept as a weighted sum (``value.Value``), so that biases,
scales, normalisations by running statistics, times and sums over parts end in the weights of one product,
combined in float64 and rounded once. Only what bends becomes an instruction as it is (``writer.Writer``).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from numpy.typing import NDArray

from fewstep.deploy.tracing.value import Shape, Value, Wide, joined, total
from fewstep.deploy.tracing.writer import Operand, Writer, negative
from fewstep.nets import activations

UNARY = {"tanh": "tanh", "exp": "exp", "logistic": "sigmoid", "sqrt": "sqrt", "sin": "sin", "cos": "cos"}
SAME = ("convert_element_type", "copy", "stop_gradient", "reduce_precision", "optimization_barrier")
MOVES = ("reshape", "squeeze", "slice", "split", "broadcast_in_dim", "transpose", "rev", "concatenate", "pad")
CALLS = {
    **dict.fromkeys(("closed_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
    **dict.fromkeys(("jit", "checkpoint"), "jaxpr"),
}
KNOWN: dict[str, Callable[..., Any]] = {"gelu": activations.gelu, "softplus": jax.nn.softplus}
"""Functions that are one operation although jax writes more."""
EQUAL: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (jax.nn.leaky_relu, lambda x: jnp.maximum(x, 0.01 * x)),
    (jax.nn.elu, lambda x: jax.nn.relu(x) + jnp.exp(jnp.minimum(x, 0.0)) - 1.0),
]
"""Functions that choose between two branches, and equals of them that do not."""


class Tracer:
    """Writes functions of jax into one program."""

    def __init__(self, writer: Writer) -> None:
        self._w = writer

    def call(self, function: Callable[..., Any], *args: Operand) -> Operand:
        """What the function, of float32 arrays to one, makes of the arguments."""
        closed = jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(x.shape, np.float32) for x in args))
        return self._run(closed, args)[0]

    def _run(self, closed: Any, args: Sequence[Operand]) -> list[Operand]:
        jaxpr = getattr(closed, "jaxpr", closed)
        known: dict[Any, Operand] = dict(zip(jaxpr.invars, args, strict=True))
        known.update(zip(jaxpr.constvars, map(_wide, getattr(closed, "consts", ())), strict=True))

        def read(atom: Any) -> Operand:
            return _wide(atom.val) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            made = self._equation(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, args: list[Operand]) -> Sequence[Operand]:
        op, params = equation.primitive.name, equation.params
        if op in CALLS:
            return self._called(params[CALLS[op]], args)
        if op == "scan":
            return self._scanned(params, args)
        if not any(isinstance(x, Value) for x in args):
            return _computed(equation, args)
        if op in SAME:
            return args
        moved = self._moved(equation, args)
        if moved is not None:
            return moved
        made = self._operation(op, params, args, equation.outvars[0].aval.shape)
        if made is not None:
            return [made]
        # An error only if the action needs it: much of what is not known makes a density nobody asks for.
        return [
            self._w.write(
                f"lax.{op}", out.aval.shape, *(x for x in args if isinstance(x, Value)), numbers=(i,)
            )
            for i, out in enumerate(equation.outvars)
        ]

    def _called(self, inner: Any, args: list[Operand]) -> Sequence[Operand]:
        if len(args) == 1 and isinstance(args[0], Value):
            (x,), text = args, str(inner)
            for op, function in KNOWN.items():
                if text == _text(function, x.shape):
                    return [self._w.write(op, x.shape, x)]
            for function, equal in EQUAL:
                if text == _text(function, x.shape):
                    return [self.call(equal, x)]
        return self._run(inner, args)

    def _scanned(self, params: dict[str, Any], args: list[Operand]) -> list[Operand]:
        """The loop, unrolled."""
        n, m, length = params["num_consts"], params["num_carry"], params["length"]
        consts, carry, rows = args[:n], args[n : n + m], args[n + m :]
        made: list[list[Operand]] = []
        order = range(length)[:: -1 if params["reverse"] else 1]
        for i in order:
            out = self._run(params["jaxpr"], [*consts, *carry, *(self._row(x, i) for x in rows)])
            carry = out[:m]
            made.append(out[m:])
        stacks = [list(stack) for stack in zip(*(made[i] for i in order), strict=True)]
        return [*carry, *(self._stack(stack, length) for stack in stacks)]

    def _row(self, x: Operand, i: int) -> Operand:
        if not isinstance(x, Value):
            return np.asarray(x[i])
        return self._taken(x, np.arange(x.size).reshape(x.shape)[i])

    def _stack(self, parts: list[Operand], length: int) -> Operand:
        if not any(isinstance(part, Value) for part in parts):
            return np.stack([np.asarray(part) for part in parts])
        whole = joined(parts)
        return self._taken(whole, np.arange(whole.size).reshape(length, *parts[0].shape))

    def _moved(self, equation: Any, args: list[Operand]) -> list[Operand] | None:
        """What only puts entries in other places: the equation is carried out on their numbers."""
        op = equation.primitive.name
        first, end = {"select_n": (1, None), "dynamic_slice": (0, 1), "gather": (0, 1)}.get(op, (0, None))
        data, rest = args[first:end], args[:first] + args[len(args) if end is None else end :]
        if (op not in MOVES and not rest) or any(isinstance(x, Value) for x in rest):
            return None
        numbers, size = list[Any](), 0
        for x in data:
            numbers.append(np.arange(size, size + int(np.prod(x.shape))).reshape(x.shape).astype(np.int32))
            size += numbers[-1].size
        places = _bound(equation, [*args[:first], *numbers, *(args[end:] if end else [])], equation.params)
        if any((place < 0).any() for place in places):
            return None
        whole = joined(data)
        return [self._taken(whole, place) for place in places]

    def _operation(
        self, op: str, params: dict[str, Any], args: list[Operand], shape: Shape
    ) -> Operand | None:
        """What an equation with one result makes; None if that is not known."""
        x, y, w = args[0], args[-1], self._w
        if op in UNARY:
            return w.write(UNARY[op], shape, x)
        match op:
            case "add" | "add_any":
                return total(self._fitted(args, shape), shape)
            case "sub":
                made = total(self._fitted([x, negative(y)], shape), shape)
                if isinstance(x, Value) and isinstance(y, Value) and w.is_mean(y, x):
                    made.uncentred = x
                return made
            case "neg":
                return negative(x)
            case "mul":
                return w.times(*self._pair(args, shape), shape)
            case "div":
                return w.quotient(*self._pair(args, shape), shape)
            case "square":
                return w.times(x, x, shape)
            case "integer_pow" if params["y"] >= 1:
                return functools.reduce(lambda a, b: w.times(a, b, shape), [x] * params["y"])
            case "rsqrt":
                return w.write("reciprocal", shape, w.write("sqrt", shape, x))
            case "min" | "max":
                return w.extreme(op, *self._pair(args, shape), shape)
            case "abs":
                return w.extreme("max", x, negative(x), shape)
            case "clamp":
                low, inside, high = self._fitted(args, shape)
                return w.extreme("min", w.extreme("max", inside, low, shape), high, shape)
            case "reduce_sum" if isinstance(x, Value):
                return self._through(x, _adding(x.shape, params["axes"]), shape)
            case "dot_general":
                return self._dotted(params["dimension_numbers"], x, y, shape)
            case _:
                return None

    def _dotted(self, numbers: Any, x: Operand, y: Operand, shape: Shape) -> Operand | None:
        if isinstance(x, Value) and isinstance(y, Value):
            if len(x.shape) != 1 or len(y.shape) != 1:
                return None
            return self._through(self._w.times(x, y, x.shape), np.ones((x.size, 1)), shape)
        value, array = (x, y) if isinstance(x, Value) else (y, x)
        assert isinstance(value, Value)
        assert not isinstance(array, Value)
        (of_x, of_y), _ = numbers
        own, others = (of_x, of_y) if value is x else (of_y, of_x)
        if len(own) == len(value.shape):  # all of it is summed over, as a vector is
            aligned = np.moveaxis(array, [others[own.index(i)] for i in range(len(own))], range(len(own)))
            return self._through(value, aligned.reshape(value.size, -1), shape)
        each = np.eye(value.size).reshape(value.size, *value.shape)
        with jax.enable_x64(True):
            pair = (each, array) if value is x else (array, each)
            axes = (0, None) if value is x else (None, 0)
            dot = jax.vmap(lambda a, b: jax.lax.dot_general(a, b, numbers), axes)
            matrix = np.asarray(dot(*map(jnp.asarray, pair)))
        return self._through(value, matrix.reshape(value.size, -1), shape)

    def _through(self, x: Value, matrix: Wide, shape: Shape) -> Value:
        return self._w.settled(x, matrix.shape[1], mixed=True).through(matrix, shape)

    def _taken(self, x: Value, index: NDArray[Any]) -> Value:
        if np.array_equal(index.ravel(), np.arange(x.size)):
            return x.reshaped(index.shape)
        return self._w.settled(x, index.size, mixed=False).taken(index, self._w.cut)

    def _pair(self, args: Sequence[Operand], shape: Shape) -> tuple[Operand, Operand]:
        x, y = self._fitted(args, shape)
        return x, y

    def _fitted(self, args: Sequence[Operand], shape: Shape) -> list[Operand]:
        """Each repeated along its axes of size 1, to ``shape``."""

        def fitted(x: Operand) -> Operand:
            if not isinstance(x, Value):
                return np.broadcast_to(x, shape)
            return self._taken(x, np.broadcast_to(np.arange(x.size).reshape(x.shape), shape))

        return [fitted(x) for x in args]


def _adding(shape: Shape, axes: Sequence[int]) -> Wide:
    """The matrix that sums entries over ``axes``."""
    kept = np.array([1 if axis in axes else size for axis, size in enumerate(shape)], int)
    place = np.broadcast_to(np.arange(kept.prod()).reshape(kept), shape).ravel()
    return np.eye(int(kept.prod()))[place]


def _computed(equation: Any, args: Sequence[Operand]) -> list[Operand]:
    """The equation on constants, in float64 unless it holds equations of its own, which say float32."""
    params: dict[str, Any] = equation.params
    if any(isinstance(part, Jaxpr | ClosedJaxpr) for part in jax.tree.leaves(list(params.values()))):
        return _bound(equation, [_narrow(x) for x in args], params)
    wide = {key: np.dtype(np.float64) if _is_float32(value) else value for key, value in params.items()}
    with jax.enable_x64(True):
        return _bound(equation, args, wide)


def _bound(equation: Any, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    made = equation.primitive.bind(*map(jnp.asarray, args), **params)
    return [_wide(x) for x in (made if equation.primitive.multiple_results else [made])]


def _wide(x: Any) -> Any:
    if jnp.issubdtype(x.dtype, jax.dtypes.extended):  # a random key
        return x
    array = np.asarray(x)
    return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _narrow(x: Any) -> Any:
    return x.astype(np.float32) if x.dtype == np.float64 else x


def _is_float32(value: Any) -> bool:
    return isinstance(value, np.dtype) and value == np.float32


@functools.lru_cache(maxsize=64)
def _text(function: Callable[..., Any], shape: Shape) -> str:
    """How jax writes the inside of a function that is one call."""
    (equation,) = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, np.float32)).eqns
    return str(equation.params[CALLS[equation.primitive.name]])
