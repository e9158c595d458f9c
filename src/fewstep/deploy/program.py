"""A policy as a straight-line program: what is left of it once the training library is gone.

Every value is a float32 vector with a name; an instruction makes one new vector from earlier ones and from
constants. No loops, no branches, no shapes beyond a length: the sampler is unrolled, and whatever does not
depend on observation or noise (time embeddings, their products) was computed when the program was made.
Each format of ``fewstep export`` is a translation of this form, so a new format knows nothing of algorithms.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewstep.errors import FewstepError

FloatArray = NDArray[np.float32]

OBS, NOISE = "obs", "noise"
"""Names of the inputs; a program without noise has the first alone."""

EPSILON = 1e-6
"""Inside the root of both normalisations."""

UNARY = ("gelu", "relu", "silu", "tanh", "exp", "rms_norm")
BINARY = ("add", "mul")
OPERATIONS: dict[str, tuple[int, int]] = {
    "affine": (3, 0),  # x, weight[inputs, outputs], bias: x @ weight + bias
    "layer_norm": (3, 0),  # x, scale, bias: to mean 0 and variance 1, times scale plus bias
    "axpy": (2, 1),  # x, y; k: y + k x
    "clip": (1, 2),  # x; low, high
    "slice": (1, 2),  # x; start, size
    "box": (3, 0),  # a in [-1, 1], low, high: 0.5 (1 - a) low + 0.5 (1 + a) high, exact at both ends
    **dict.fromkeys(UNARY, (1, 0)),  # gelu in its tanh form; rms_norm: x / sqrt(mean(x^2) + EPSILON)
    **dict.fromkeys(BINARY, (2, 0)),
}
"""What there is: how many vectors (or constants) and how many plain numbers each operation takes."""


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

    Fields:
        inputs: size of each input, in numbers; ``obs``, and ``noise`` where there is any.
        constants: float32 vectors and matrices, all finite.
        instructions: in the order they are carried out.
        output: the vector that is the action.
    """

    inputs: Mapping[str, int]
    constants: Mapping[str, FloatArray]
    instructions: tuple[Instruction, ...]
    output: str

    def sizes(self) -> dict[str, int]:
        """Length of every vector by name, inputs first.

        Raises:
            FewstepError: the program does not hang together, or a constant is not finite float32.
        """
        for name, value in self.constants.items():
            if value.dtype != np.float32 or value.ndim not in (1, 2):
                raise FewstepError(f"constant {name} is not a float32 vector or matrix")
            if not np.isfinite(value).all():
                raise FewstepError("the policy holds a number that is not finite; its training has diverged")
        sizes = dict(self.inputs)
        for step in self.instructions:
            if step.out in sizes or step.out in self.constants:
                raise FewstepError(f"the program makes {step.out} twice")
            sizes[step.out] = self._size(step, sizes)
        if self.output not in sizes:
            raise FewstepError(f"the program never makes its output {self.output}")
        return sizes

    def _size(self, step: Instruction, sizes: Mapping[str, int]) -> int:
        if OPERATIONS.get(step.op) != (len(step.args), len(step.numbers)):
            raise FewstepError(f"the program has an operation {step.op} that this fewstep does not know")
        shapes: list[tuple[int, ...]] = []
        for name in step.args:
            if name not in sizes and name not in self.constants:
                raise FewstepError(f"the program uses {name} before it is made")
            shapes.append((sizes[name],) if name in sizes else self.constants[name].shape)
        first = shapes[0]
        match step.op:
            case "affine":
                weight = shapes[1]
                fits = len(weight) == 2 and first == weight[:1] and shapes[2] == weight[1:]
                size = weight[-1]
            case "slice":
                start, size = (int(number) for number in step.numbers)
                fits = len(first) == 1 and start >= 0 and 0 < size <= first[0] - start
            case _:
                fits = len(first) == 1 and all(shape == first for shape in shapes)
                size = first[0]
        if not fits:
            raise FewstepError(f"the program's {step.op} does not fit its arguments of shapes {shapes}")
        return size
