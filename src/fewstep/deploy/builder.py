"""Writing a program, one instruction after the other."""

from typing import Any

import numpy as np

from fewstep.deploy.program import NOISE, OBS, FloatArray, Instruction, Program

Operand = str | FloatArray
"""The name of a vector, or an array that becomes a constant."""


class Builder:
    """Collects the instructions of one program; equal constants are kept once."""

    def __init__(self, obs_size: int) -> None:
        self.obs = OBS
        self._inputs = {OBS: obs_size}
        self._constants: dict[str, FloatArray] = {}
        self._names: dict[tuple[tuple[int, ...], bytes], str] = {}
        self._instructions: list[Instruction] = []

    def noise(self, size: int) -> str:
        """Declare the noise, ``size`` independent standard normal numbers, and give its name."""
        self._inputs[NOISE] = size
        return NOISE

    def emit(self, op: str, *args: Operand, numbers: tuple[float, ...] = ()) -> str:
        """Append ``op(args; numbers)`` (see ``program.OPERATIONS``) and give the name of its result."""
        names = tuple(arg if isinstance(arg, str) else self._constant(arg) for arg in args)
        out = f"v{len(self._instructions)}"
        self._instructions.append(Instruction(op, out, names, tuple(float(number) for number in numbers)))
        return out

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
        program.sizes()
        return program
