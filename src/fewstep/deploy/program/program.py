"""A policy as a straight-line program: what is left of it once the training library is gone.

Every value is a float32 vector with a name, or several such vectors of one size, its rows: one per candidate
action where the best of several is chosen. An instruction makes one new value from earlier ones and from
constants, row by row. No loops, no branches, no shapes beyond rows and size: the sampler is unrolled, and
whatever does not depend on observation or noise (time embeddings, their products) was computed when the
program was made. Each format of ``fewstep export`` is a translation of this form, so a new format knows
nothing of algorithms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewstep.errors import FewstepError

FloatArray = NDArray[np.float32]

OBS, NOISE = "obs", "noise"
"""Names of the inputs, one row each; a program without noise has the first alone."""

EPSILON = 1e-6
"""Inside the root of both normalisations."""

UNARY = (
    *("gelu", "relu", "silu", "tanh", "exp", "rms_norm", "softmax"),
    *("sigmoid", "softplus", "sqrt", "reciprocal", "sin", "cos"),
)
BINARY = ("add", "mul", "min")
ACROSS = ("rows", "repeat", "best")
"""Operations that change how many rows there are; all others keep it, and want it equal in all arguments."""
OPERATIONS: dict[str, tuple[int, int]] = {
    "affine": (3, 0),  # x, weight[inputs, outputs], bias: x @ weight + bias
    "layer_norm": (3, 0),  # x, scale, bias: to mean 0 and variance 1, times scale plus bias
    "clip": (1, 2),  # x; low, high
    "slice": (1, 2),  # x; start, size
    "box": (3, 0),  # a in [-1, 1], low, high: 0.5 (1 - a) low + 0.5 (1 + a) high, exact at both ends
    "rows": (1, 1),  # x of one row; n: cut into n rows of equal size
    "repeat": (1, 1),  # x of one row; n: that row n times
    "best": (2, 0),  # x, value[1]: the row of x with the highest value, the first of equal ones
    **dict.fromkeys(UNARY, (1, 0)),  # gelu in its tanh form; rms_norm: x / sqrt(mean(x^2) + EPSILON)
    **dict.fromkeys(BINARY, (2, 0)),
}
"""What there is: how many values (or constants) and how many plain numbers each operation takes."""


class Shape(NamedTuple):
    """``rows`` vectors of ``size`` numbers."""

    rows: int
    size: int


@dataclass(frozen=True)
class Instruction:
    """``out = op(args; numbers)``; arguments name inputs, constants or earlier results."""

    op: str
    out: str
    args: tuple[str, ...]
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Program:
    """From an observation and a noise to an action in the environment's own units.

    Attributes:
        inputs: size of each input, in numbers; ``obs``, and ``noise`` where there is any.
        constants: float32 vectors and matrices, all finite; a vector is the same for every row.
        instructions: in the order they are carried out.
        output: the value, of one row, that is the action.
    """

    inputs: Mapping[str, int]
    constants: Mapping[str, FloatArray]
    instructions: tuple[Instruction, ...]
    output: str

    def shapes(self) -> dict[str, Shape]:
        """Shape of every value by name, inputs first.

        Raises:
            FewstepError: the program does not hang together, or a constant is not finite float32.
        """
        for name, value in self.constants.items():
            if value.dtype != np.float32 or value.ndim not in (1, 2):
                raise FewstepError(f"constant {name} is not a float32 vector or matrix")
            if not np.isfinite(value).all():
                raise FewstepError("the policy holds a number that is not finite; its training has diverged")
        shapes = {name: Shape(1, size) for name, size in self.inputs.items()}
        for step in self.instructions:
            if step.out in shapes or step.out in self.constants:
                raise FewstepError(f"the program makes {step.out} twice")
            shapes[step.out] = self._shape(step, shapes)
        if shapes.get(self.output, Shape(0, 0)).rows != 1:
            raise FewstepError(f"the program never makes its output {self.output}, one row")
        return shapes

    def _shape(self, step: Instruction, shapes: Mapping[str, Shape]) -> Shape:
        if OPERATIONS.get(step.op) != (len(step.args), len(step.numbers)):
            raise FewstepError(f"the program has an operation {step.op} that this fewstep does not know")
        for name in step.args:
            if name not in shapes and name not in self.constants:
                raise FewstepError(f"the program uses {name} before it is made")
        sizes = [(shapes[name].size,) if name in shapes else self.constants[name].shape for name in step.args]
        counts = {shapes[name].rows for name in step.args if name in shapes}
        first, made = sizes[0], max(counts, default=1)
        size = first[-1]
        match step.op:
            case "affine":
                weight = sizes[1]
                fits = (
                    step.args[0] in shapes
                    and step.args[1] in self.constants
                    and len(weight) == 2
                    and first == weight[:1]
                    and sizes[2] == weight[1:]
                )
                size = weight[-1]
            case "slice":
                start, size = (int(number) for number in step.numbers)
                fits = len(first) == 1 and start >= 0 and 0 < size <= first[0] - start
            case "rows" | "repeat":
                fits = len(first) == 1 and made == 1 and step.numbers[0] >= 1
                made = int(step.numbers[0])
                if step.op == "rows":
                    fits = fits and size % made == 0
                    size //= made
            case "best":
                fits = len(first) == 1 and sizes[1] == (1,) and all(name in shapes for name in step.args)
            case _:
                fits = len(first) == 1 and all(size == first for size in sizes)
        if not fits or len(counts) > 1:
            rows = [shapes[name].rows if name in shapes else None for name in step.args]
            raise FewstepError(
                f"the program's {step.op} does not fit its arguments of sizes {sizes} and rows {rows}"
            )
        return Shape(1 if step.op == "best" else made, size)
