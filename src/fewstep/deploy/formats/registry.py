"""What a program can be written as: one function per format, which sees no algorithm.

Only ``stablehlo`` needs jax, and only when it is asked for.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fewstep.deploy.formats import contract, stablehlo
from fewstep.deploy.formats.c import library as c_library
from fewstep.deploy.formats.c import source as c_source
from fewstep.deploy.formats.extras import need
from fewstep.deploy.formats.numpy import write as artefact
from fewstep.deploy.formats.onnx import write as onnx_model
from fewstep.deploy.program.description import Exported
from fewstep.errors import FewstepError, UsageError, require


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffix: of the file that ``--out`` names.
        needs: ``(module, extra)``, the package it takes and the extra of fewstep that brings it.
        files: ``(exported, name) -> content by suffix``; ``name`` is the file's without suffix. C
            takes a ``prefix`` of its names, too.
        folder: whether ``--out`` names a folder instead, and ``files`` gives content by whole name.
    """

    suffix: str
    files: Callable[..., dict[str, bytes]]
    needs: tuple[str, str] | None = None
    folder: bool = False


FORMATS = {
    "c": Format(".c", c_source.files),
    "c-library": Format(".c", c_library.files, folder=True),
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


def get(name: str, prefix: str | None = None) -> Format:
    """The format called ``name``, for C with a ``prefix`` of its names in place of ``fewstep``.

    Raises:
        UsageError: there is none (the message names those there are), its package is not installed, or the
            prefix is none that it can have.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown export format {name!r}; known: {', '.join(FORMATS)}")
    form = FORMATS[name]
    if form.needs:
        need(*form.needs)
    if prefix is None:
        return form
    require(
        name.startswith("c"), f"--prefix is for --to c and c-library, whose names it begins; {name} has none"
    )
    c_source.require_prefix(prefix)
    return replace(form, files=partial(form.files, prefix=prefix))


def write(exported: Exported, to: str, path: Path, prefix: str | None = None) -> list[Path]:
    """Write the policy in the format ``to``, and its contract; each file appears whole or not at all.

    Args:
        exported: what to write.
        to: name of the format.
        path: the (first) file; its suffix is added if missing, other files of the format lie beside it. For
            ``c-library`` the folder, made if there is none.
        prefix: what the names in a C file begin with, ``fewstep`` without it.

    Returns:
        The files written, the contract last.

    Raises:
        UsageError: no such format, or a path that cannot be a file of it.
        FewstepError: the disk is full or not writable.
    """
    form = get(to, prefix)
    folder, content = _contents(exported, form, path)
    first = next(iter(content))
    content[contract.path_of(Path(first)).name] = contract.to_bytes(exported, content)
    files = [folder / name for name in content]
    for file in files:
        if os.path.exists(file) and not os.path.isfile(file):
            raise UsageError(f"{file} is not a file; give --out another name")
    for file, data in zip(files, content.values(), strict=True):
        try:
            _replace(Path(os.path.realpath(file)), data)  # what a link points to, not the link
        except OSError as error:
            raise FewstepError(f"cannot write {file}: {error.strerror}") from error
    return files


def _contents(exported: Exported, form: Format, path: Path) -> tuple[Path, dict[str, bytes]]:
    """The folder that is written to, and what by its name."""
    if form.folder:
        if os.path.lexists(path) and not os.path.isdir(path):
            raise UsageError(f"{path} is not a folder; give --out another name")
        return path, form.files(exported, path.absolute().name)
    stem = path.with_suffix("") if path.suffix == form.suffix else path
    if not stem.name or os.path.isdir(path):
        raise UsageError(f"{path} is a folder; give --out the file to write, such as {path / 'policy'}")
    return stem.parent, {stem.name + suffix: data for suffix, data in form.files(exported, stem.name).items()}


def _replace(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(os.fsencode(file.name)).hexdigest()[:16]
    temporary = file.with_name(f".{digest}.tmp")  # a name of any length has one beside it
    try:
        temporary.write_bytes(data)
        os.replace(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
