"""Writing a program, one instruction after the other."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fewstep.deploy.program import ACROSS, NOISE, OBS, FloatArray, Instruction, Program

Operand = str | FloatArray
"""The name of a value, or an array that becomes a constant."""


class Builder:
    """Collects the instructions of one program; equal constants are kept once.

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
        self._several: set[str] = set()
        self._repeated: dict[str, str] = {}

    def noise(self, size: int) -> str:
        """Declare the noise, ``size`` independent standard normal numbers per candidate; gives its name."""
        count = self._candidates * size
        if self._fixed is None:
            self._inputs[NOISE] = count
            noise = NOISE
        else:  # added to zero times the observation, as a value for every observation of a batch
            first = self.emit("slice", OBS, numbers=(0, 1))
            noise = self.emit("affine", first, np.zeros((1, count), np.float32), self._fixed(count))
        if self._candidates == 1:
            return noise
        return self.emit("rows", noise, numbers=(self._candidates,))

    def emit(self, op: str, *args: Operand, numbers: tuple[float, ...] = ()) -> str:
        """Append ``op(args; numbers)`` (see ``program.OPERATIONS``) and give the name of its result.

        A product of constants is carried out at once.
        """
        if op == "affine" and not isinstance(args[0], str):
            x, weight, bias = args
            return self.emit("add", bias, np.dot(np.asarray(x, np.float64), np.asarray(weight, np.float64)))
        several = op == "rows" or (
            op != "best" and any(isinstance(a, str) and a in self._several for a in args)
        )
        names = tuple(
            self._fitted(arg, several and op not in ACROSS) if isinstance(arg, str) else self._constant(arg)
            for arg in args
        )
        out = self._append(op, names, numbers)
        if several:
            self._several.add(out)
        return out

    def _append(self, op: str, names: tuple[str, ...], numbers: tuple[float, ...]) -> str:
        out = f"v{len(self._instructions)}"
        self._instructions.append(Instruction(op, out, names, tuple(float(number) for number in numbers)))
        return out

    def _fitted(self, name: str, several: bool) -> str:
        """``name``, repeated for every candidate if the others have a row for each."""
        if not several or name in self._several:
            return name
        if name not in self._repeated:
            self._repeated[name] = self._append("repeat", (name,), (self._candidates,))
            self._several.add(self._repeated[name])
        return self._repeated[name]

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
            FewstepError: it does not hang together, or holds a number that is not finite.
        """
        needed, kept = {output}, list[Instruction]()
        for step in reversed(self._instructions):
            if step.out in needed:
                needed.update(step.args)
                kept.insert(0, step)
        constants = {name: value for name, value in self._constants.items() if name in needed}
        program = Program(self._inputs, constants, tuple(kept), output)
        program.shapes()
        return program
