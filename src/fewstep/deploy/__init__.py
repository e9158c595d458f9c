"""Policies outside the training library: ``load`` opens what ``fewstep export`` wrote.

Loading and acting import numpy and what the format itself needs (safetensors; onnxruntime; jax for
``stablehlo`` alone); only making a program out of a trained policy (``fewstep.deploy.export``) needs jax.
"""

from collections.abc import Sequence
from pathlib import Path

from fewstep.deploy.formats import contract
from fewstep.deploy.formats.numpy import write as artefact
from fewstep.deploy.formats.numpy.run import NumpyPolicy
from fewstep.deploy.runtime import DeployedPolicy
from fewstep.errors import UsageError

__all__ = ["DeployedPolicy", "NumpyPolicy", "load"]


def load(path: str | Path, seed: int | None = None, obs_names: Sequence[str] | None = None) -> DeployedPolicy:
    """Open an exported policy; the suffix says which format it is in. A contract beside it must be its own.

    Args:
        path: the file: ``.safetensors`` (of ``--to numpy``), ``.onnx`` or ``.stablehlo``.
        seed: decides the draws of a policy exported with ``--noise inside``; None takes fresh entropy.
        obs_names: what the numbers of the caller's observation are called, in their order; they must be the
            policy's (``DeployedPolicy.description.obs_names``).

    Raises:
        UsageError: there is no such file, its runtime is not installed, or its observation is another.
        FewstepError: it is damaged, or not an exported policy.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path} is not a file; `fewstep export RUN --to numpy` writes one")
    match path.suffix:
        case ".onnx":
            from fewstep.deploy.formats.onnx.run import OnnxPolicy

            policy = OnnxPolicy(path, seed)
        case ".stablehlo":
            from fewstep.deploy.formats.stablehlo import StableHloPolicy

            policy = StableHloPolicy(path, seed)
        case ".c" | ".h":
            raise UsageError(
                f"{path} is C, which is compiled and not loaded; export --to numpy or onnx as well"
            )
        case _:
            policy = NumpyPolicy(artefact.read(path), seed)
    contract.require(path, policy.description)
    if obs_names is not None:
        policy.require_observation(obs_names)
    return policy
