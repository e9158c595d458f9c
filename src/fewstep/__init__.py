"""fewstep: online reinforcement learning with few-step generative policies.

``from fewstep import SMFP`` (or ``MFPO``, ``SAC``, ``CrossQ``, ``TD3``, ``PPO``) gives a model with the
habits of Stable-Baselines3; ``fewstep.load`` opens a saved model or a run; ``fewstep.make_env`` builds
environments as training sees them. The command line is ``fewstep --help``.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewstep.api import MFPO, PPO, SAC, SMFP, TD3, CrossQ, Model, load
    from fewstep.envs import make as make_env

__version__ = importlib.metadata.version("fewstep")
__all__ = ["MFPO", "PPO", "SAC", "SMFP", "TD3", "CrossQ", "Model", "__version__", "load", "make_env"]

_LAZY = {
    "CrossQ": ("fewstep.api", "CrossQ"),
    "MFPO": ("fewstep.api", "MFPO"),
    "PPO": ("fewstep.api", "PPO"),
    "SAC": ("fewstep.api", "SAC"),
    "SMFP": ("fewstep.api", "SMFP"),
    "TD3": ("fewstep.api", "TD3"),
    "Model": ("fewstep.api", "Model"),
    "load": ("fewstep.api", "load"),
    "make_env": ("fewstep.envs", "make"),
}


def __getattr__(name: str) -> Any:
    """Import public names at their first use, so that ``import fewstep`` (and ``--help``) costs nothing."""
    if name not in _LAZY:
        raise AttributeError(f"module 'fewstep' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
