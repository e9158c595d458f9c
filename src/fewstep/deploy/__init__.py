"""Policies outside the training library: ``load`` opens what ``fewstep export --to numpy`` wrote.

Loading and acting import numpy and safetensors, never jax; only making a program out of a trained policy
(``fewstep.deploy.lower``) needs it.
"""

from pathlib import Path

from fewstep.deploy import artefact
from fewstep.deploy.numpy_runtime import NumpyPolicy

__all__ = ["NumpyPolicy", "load"]


def load(path: str | Path, seed: int | None = None) -> NumpyPolicy:
    """Open an exported policy.

    Args:
        path: the file.
        seed: decides the draws of a policy exported with ``--noise inside``; None takes fresh entropy.

    Raises:
        UsageError: there is no such file.
        FewstepError: it is damaged, or not an exported policy.
    """
    return NumpyPolicy(artefact.read(Path(path)), seed)
