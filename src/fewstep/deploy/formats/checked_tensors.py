"""Named tensors and a JSON text in one safetensors file, all under one SHA-256 sum.

A file with a flipped bit is refused. Nothing is pickled; opening a file runs no code from it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fewstep.errors import FewstepError

Tensors = Mapping[str, NDArray[Any]]


def to_bytes(content: Mapping[str, Any], tensors: Tensors) -> bytes:
    """The file; ``content`` holds the version of what is written under ``format``."""
    text = json.dumps(content, sort_keys=True)
    # One entry: safetensors writes several in an order that changes from call to call.
    header = json.dumps({"content": text, "sha256": digest(text, tensors)})
    return save(dict(tensors), metadata={"fewstep": header})


def read(path: Path, version: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Content and tensors of a file that ``to_bytes`` made.

    Raises:
        FewstepError: it is something else, damaged, or of another version than ``version``.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata["fewstep"])
        text, expected = str(header["content"]), str(header["sha256"])
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise FewstepError(f"{path} is damaged or not an exported policy: {error}") from error
    if digest(text, tensors) != expected:
        raise FewstepError(
            f"{path} is damaged: its content does not have the SHA-256 sum it was written with"
        )
    content = json.loads(text)
    if content["format"] != version:
        raise FewstepError(
            f"{path} has format {content['format']}; this fewstep reads format {version}; export it again"
        )
    return content, tensors


def digest(text: str, tensors: Tensors) -> str:
    """SHA-256 of the text, and of every tensor with its name, type and shape."""
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        sha.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
