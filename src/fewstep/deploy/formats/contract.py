"""The contract beside an exported policy: what it takes and gives, as JSON that any language reads.

``policy.onnx`` has ``policy.onnx.contract.json`` beside it. Whoever builds a controller around the policy
reads there the order, names and bounds of all numbers, the rate, and the SHA-256 sums of the files.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewstep.deploy.program.description import Description, Exported
from fewstep.errors import FewstepError

SUFFIX = ".contract.json"
VERSION = 1


def path_of(file: Path) -> Path:
    """The contract of the exported policy ``file``."""
    return file.with_name(file.name + SUFFIX)


def to_bytes(exported: Exported, files: Mapping[str, bytes]) -> bytes:
    """The contract of a policy that is written as ``files`` (content by name)."""
    about = exported.description
    bounds = zip(about.low, about.high, strict=True)
    content = {
        "contract": VERSION,
        "policy": {
            "algorithm": about.algorithm,
            "environment": about.env,
            "environment_steps": about.env_steps,
            "updates": about.updates,
            "actions": about.actions,
            "weights_sha256": about.weights,
            "fewstep": about.fewstep,
        },
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "observation": {
            "type": "float32",
            "units": "the environment's; they are normalised inside the policy where it needs that",
            "entries": [{"index": i, "name": name} for i, name in enumerate(about.obs_names)],
        },
        "noise": {"type": "float32", "size": exported.noise_size, "distribution": "independent N(0, 1)"},
        "action": {
            "type": "float32",
            "units": "the environment's; every entry lies within its bounds and reaches them",
            "shape": list(about.action_shape),
            "entries": [{"index": i, "low": low, "high": high} for i, (low, high) in enumerate(bounds)],
        },
        "rate_hz": about.rate,
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def require(file: Path, about: Description) -> None:
    """Raise FewstepError if a contract lies beside ``file`` and is not that of it; none at all is fine."""
    path = path_of(file)
    if not path.is_file():
        return
    try:
        content: Any = json.loads(path.read_bytes())
        version, files = content["contract"], dict(content["files"])
        names = tuple(entry["name"] for entry in content["observation"]["entries"])
        bounds = tuple((entry["low"], entry["high"]) for entry in content["action"]["entries"])
        rate = content["rate_hz"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise FewstepError(f"{path} is damaged or not a contract: {reason}") from error
    if version != VERSION:
        raise FewstepError(f"{path} has version {version}; this fewstep reads {VERSION}; export again")
    if hashlib.sha256(file.read_bytes()).hexdigest() not in files.values():  # both may have been renamed
        raise FewstepError(f"{file} is not the policy that {path.name} is about; export both again")
    inside = (about.obs_names, tuple(zip(about.low, about.high, strict=True)), about.rate)
    if (names, bounds, rate) != inside:
        raise FewstepError(f"{path} says something else than the policy itself; export both again")
