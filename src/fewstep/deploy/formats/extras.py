"""Packages that only some formats need."""

import importlib
from types import ModuleType

from fewstep.errors import UsageError


def need(module: str, extra: str) -> ModuleType:
    """Import ``module``.

    Raises:
        UsageError: it is not installed; the message says which extra of fewstep brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{module} is not installed; pip install 'fewstep[{extra}]'") from error
