"""Writing a program, one instruction after the other."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.deploy.program.program import ACROSS, NOISE, OBS, OPERATIONS, FloatArray, Instruction, Program

Operand = str | FloatArray | NDArray[np.float64]
"""The name of a value, or an array that becomes a constant, in float32."""


class UnknownOperation(Exception):
    """A program needs an operation that there is not; its name is the argument."""


class Builder:
    """Collects the instructions of one program; equal constants and equal instructions are kept once.

    Whoever writes a policy down thinks of one action. With several ``candidates`` what depends on the noise
    has as many rows; what depends on the observation alone is computed once, and repeated where they meet.
    """

    def __init__(
        self, obs_size: int, candidates: int = 1, fixed: Callable[[int], FloatArray] | None = None
    ) -> None:
        """``fixed`` gives the noise, as many numbers as are needed, if it is not an input."""
        self._fixed = fixed
        self.obs = OBS
        self.obs_size = obs_size
        self._candidates = candidates
        self._inputs = {OBS: obs_size}
        self._constants: dict[str, FloatArray] = {}
        self._names: dict[tuple[tuple[int, ...], bytes], str] = {}
        self._instructions: list[Instruction] = []
        self._made: dict[tuple[str, tuple[str, ...], tuple[float, ...]], str] = {}
        self._random: set[str] = set()

    def noise(self, size: int) -> str:
        """Declare the noise, ``size`` independent standard normal numbers per candidate; gives its name."""
        count = self._candidates * size
        if self._fixed is None:
            self._inputs[NOISE] = count
            name = NOISE
        else:  # added to zero times the observation, as a value for every observation of a batch
            first = self.emit("slice", OBS, numbers=(0, 1))
            name = self.emit("affine", first, np.zeros((1, count), np.float32), self._fixed(count))
        if self._candidates > 1:
            name = self.emit("rows", name, numbers=(self._candidates,))
        self._random.add(name)
        return name

    def random(self, name: str) -> bool:
        """Whether the value depends on the noise: it then has a row for each candidate."""
        return name in self._random

    def emit(self, op: str, *args: Operand, numbers: tuple[float, ...] = ()) -> str:
        """Append ``op(args; numbers)`` (see ``program.OPERATIONS``) and give the name of its result.

        Any name will do for an operation that the program turns out not to need.
        """
        random = op != "best" and any(isinstance(arg, str) and arg in self._random for arg in args)
        names = tuple(
            self._fitted(arg, random and op not in ACROSS) if isinstance(arg, str) else self._constant(arg)
            for arg in args
        )
        out = self._append(op, names, numbers)
        if random:
            self._random.add(out)
        return out

    def _append(self, op: str, names: tuple[str, ...], numbers: tuple[float, ...]) -> str:
        key = (op, names, tuple(float(number) for number in numbers))
        if key not in self._made:
            self._made[key] = f"v{len(self._instructions)}"
            self._instructions.append(Instruction(op, self._made[key], names, key[2]))
        return self._made[key]

    def _fitted(self, name: str, random: bool) -> str:
        """``name``, repeated for every candidate if the others have a row for each."""
        if not random or name in self._random or self._candidates == 1:
            return name
        repeated = self._append("repeat", (name,), (self._candidates,))
        self._random.add(repeated)
        return repeated

    def _constant(self, value: Any) -> str:
        array = np.ascontiguousarray(value, np.float32)
        key = (array.shape, array.tobytes())
        if key not in self._names:
            self._names[key] = f"c{len(self._names)}"
            self._constants[self._names[key]] = array
        return self._names[key]

    def finish(self, output: str) -> Program:
        """The program whose action is ``output``, checked, without what the action does not depend on.

        Raises:
            UnknownOperation: it needs one that there is not.
            FewstepError: it does not hang together, or holds a number that is not finite.
        """
        needed, kept = {output}, list[Instruction]()
        for step in reversed(self._instructions):
            if step.out in needed:
                if step.op not in OPERATIONS:
                    raise UnknownOperation(step.op)
                needed.update(step.args)
                kept.append(step)
        constants = {name: value for name, value in self._constants.items() if name in needed}
        program = Program(self._inputs, constants, tuple(reversed(kept)), output)
        program.shapes()
        return program
