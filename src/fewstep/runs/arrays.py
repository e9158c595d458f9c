"""Named arrays as one safetensors file, written and hashed in a single pass.

The format is an eight-byte length, a JSON header and the raw numbers. Files are read with the safetensors
library; they are written here because its writer copies every array, holds the interpreter while it writes
(training would stand still behind a background save) and leaves the file to be read again for its hash.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_TYPES = {
    "bool": "BOOL",
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


def write(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> str:
    """Write a new file and flush it to disk; gives its SHA-256 sum. A file that failed half-way is removed.

    Raises:
        OSError: the disk is full or not writable, or the file exists.
        TypeError: an array has a type that safetensors does not know.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    blocks: list[memoryview] = []
    end = 0
    for name, array in arrays.items():
        if array.dtype.name not in _TYPES:
            raise TypeError(f"{name} has type {array.dtype}, which safetensors cannot hold")
        # Views and Fortran order are laid out first.
        blocks.append(np.asarray(array, order="C").reshape(-1).view(np.uint8).data)
        offsets = [end, end := end + array.nbytes]
        header[name] = {
            "dtype": _TYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers start at a multiple of eight bytes
    digest = hashlib.sha256()
    with open(path, "xb") as file:  # never through a link that lies in the way
        try:
            for block in (len(text).to_bytes(8, "little"), text, *blocks):
                file.write(block)
                digest.update(block)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
