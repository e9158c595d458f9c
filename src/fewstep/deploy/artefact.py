"""The numpy artefact: one safetensors file with the constants, and the program as JSON in its header.

Everything that acting depends on (description, program, every number) is under one SHA-256 sum, so that a
file with a flipped bit is refused and never acts. Nothing is pickled; opening a file runs no code from it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fewstep.deploy.description import Description, Exported
from fewstep.deploy.program import FloatArray, Instruction, Program
from fewstep.errors import FewstepError, UsageError

FORMAT = 2


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
    text = json.dumps(content, sort_keys=True)
    constants = dict(program.constants)
    # One entry: safetensors writes several in an order that changes from call to call.
    header = json.dumps({"content": text, "sha256": _digest(text, constants)})
    return save(constants, metadata={"fewstep": header})


def read(path: Path) -> Exported:
    """Open a file that ``to_bytes`` made.

    Raises:
        UsageError: there is no such file.
        FewstepError: it is something else, damaged, or of another format version.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file; `fewstep export RUN --to numpy` writes one")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            constants: dict[str, FloatArray] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata["fewstep"])
        text, digest = str(header["content"]), str(header["sha256"])
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise FewstepError(f"{path} is damaged or not an exported policy: {error}") from error
    if _digest(text, constants) != digest:
        raise FewstepError(
            f"{path} is damaged: its content does not have the SHA-256 sum it was written with"
        )
    content = json.loads(text)
    if content["format"] != FORMAT:
        raise FewstepError(
            f"{path} has format {content['format']}; this fewstep reads format {FORMAT}; export it again"
        )
    exported = Exported(_program(content, constants), Description.from_json(content["description"]))
    exported.program.shapes()
    return exported


def _program(content: dict[str, Any], constants: dict[str, FloatArray]) -> Program:
    steps = tuple(
        Instruction(op, out, tuple(args), tuple(numbers))
        for op, out, args, numbers in content["instructions"]
    )
    return Program(content["inputs"], constants, steps, content["output"])


def _digest(text: str, constants: dict[str, FloatArray]) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(constants):
        array = np.ascontiguousarray(constants[name])
        sha.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
