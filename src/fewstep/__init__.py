"""fewstep: online reinforcement learning with few-step generative policies.

``from fewstep import SMFP`` (or any algorithm of ``fewstep algos``: ``MFPO``, ``SAC``, ``QVPO``, ...) gives a
model with the habits of Stable-Baselines3; ``fewstep.load`` opens a saved model or a run and
``fewstep.make_env`` builds environments as training sees them. The command line is ``fewstep --help``.
"""

import importlib
from typing import TYPE_CHECKING

from fewstep.algos import registry

if TYPE_CHECKING:
    from fewstep.api import Model, NamedModel, load
    from fewstep.envs import make as make_env

    __version__: str

__all__ = ["Model", "__version__", "load", "make_env"]

_LAZY = {
    "Model": ("fewstep.api", "Model"),
    "load": ("fewstep.api", "load"),
    "make_env": ("fewstep.envs", "make"),
}


def __getattr__(name: str) -> "type[NamedModel] | str":
    """Import public names at their first use, so that ``import fewstep`` (and ``--help``) costs nothing.

    Beside those of ``__all__`` they are the classes of all registered algorithms.
    """
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("fewstep")
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(importlib.import_module(module), attribute)
    for algo, entry in registry.entries().items():
        if entry.model == name:
            return importlib.import_module("fewstep.api").model_class(algo)
    raise AttributeError(f"module 'fewstep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(entry.model for entry in registry.entries().values())])
