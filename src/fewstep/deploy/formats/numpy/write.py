"""The numpy artefact: one safetensors file with the constants, and the program as JSON in its header.

Everything that acting depends on (description, program, every number) is under one SHA-256 sum, so that a
file with a flipped bit is refused and never acts. Nothing is pickled; opening a file runs no code from it.
"""

from pathlib import Path
from typing import Any

from fewstep.deploy.formats import checked_tensors as tensors
from fewstep.deploy.program.description import Description, Exported
from fewstep.deploy.program.program import NOISE, FloatArray, Instruction, Program
from fewstep.errors import UsageError

FORMAT = 5


def to_bytes(exported: Exported) -> bytes:
    """The content of the file."""
    program = exported.program
    content = {
        "format": FORMAT,
        "description": exported.description.to_json(),
        "inputs": dict(program.inputs),
        "action_size": exported.act_size,
        "instructions": [[step.op, step.out, step.args, step.numbers] for step in program.instructions],
        "output": program.output,
    }
    return tensors.to_bytes(content, program.constants)


def read(path: Path) -> Exported:
    """Open a file that ``to_bytes`` made.

    Raises:
        UsageError: there is no such file.
        FewstepError: it is something else, damaged, or of another format version.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file; `fewstep export RUN --to numpy` writes one")
    content, constants = tensors.read(path, FORMAT)
    program = _program(content, constants)
    program.shapes()
    about = Description.from_json(content["description"])
    return Exported(about, program.inputs.get(NOISE, 0), lambda: program)


def _program(content: dict[str, Any], constants: dict[str, FloatArray]) -> Program:
    steps = tuple(
        Instruction(op, out, tuple(args), tuple(numbers))
        for op, out, args, numbers in content["instructions"]
    )
    return Program(content["inputs"], constants, steps, content["output"])
