"""What a program can be written as: one function per format, which sees no algorithm.

Only ``stablehlo`` needs jax, and only when it is asked for.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fewstep.deploy.formats.numpy import write as artefact
from fewstep.deploy.formats.c import source as c_source
from fewstep.deploy.formats.onnx import write as onnx_model
from fewstep.deploy.formats import stablehlo
from fewstep.deploy.program.description import Exported
from fewstep.deploy.formats.extras import need
from fewstep.errors import FewstepError, UsageError


@dataclass(frozen=True)
class Format:
    """One format.

    Fields:
        suffix: of the file that ``--out`` names.
        needs: ``(module, extra)``, the package it takes and the extra of fewstep that brings it.
        files: ``(exported, name) -> content by suffix``; ``name`` is the file's without suffix.
    """

    suffix: str
    files: Callable[[Exported, str], dict[str, bytes]]
    needs: tuple[str, str] | None = None


FORMATS = {
    "c": Format(".c", c_source.files),
    "numpy": Format(".safetensors", lambda exported, name: {".safetensors": artefact.to_bytes(exported)}),
    "onnx": Format(
        ".onnx", lambda exported, name: {".onnx": onnx_model.to_bytes(exported)}, ("onnx", "onnx")
    ),
    "stablehlo": Format(
        ".stablehlo",
        lambda exported, name: {".stablehlo": stablehlo.to_bytes(exported)},
        ("flatbuffers", "stablehlo"),
    ),
}


def get(name: str) -> Format:
    """The format called ``name``.

    Raises:
        UsageError: there is none (the message names those there are), or its package is not installed.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown export format {name!r}; known: {', '.join(FORMATS)}")
    form = FORMATS[name]
    if form.needs:
        need(*form.needs)
    return form


def write(exported: Exported, to: str, path: Path) -> list[Path]:
    """Write the policy in the format ``to``; each file appears whole or not at all.

    Args:
        exported: what to write.
        to: name of the format.
        path: the (first) file; its suffix is added if missing, other files of the format lie beside it.

    Returns:
        The files written.

    Raises:
        UsageError: no such format, or a path that cannot be a file of it.
        FewstepError: the disk is full or not writable.
    """
    form = get(to)
    stem = path.with_suffix("") if path.suffix == form.suffix else path
    if not stem.name or path.is_dir():
        raise UsageError(f"{path} is a folder; give --out the file to write, such as {path / 'policy'}")
    written: list[Path] = []
    for suffix, content in form.files(exported, stem.name).items():
        target = stem.with_name(stem.name + suffix)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise FewstepError(f"cannot write {target}: {error.strerror}") from error
        written.append(target)
    return written
