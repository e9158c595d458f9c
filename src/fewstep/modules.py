"""Modules of the user's own, named on the command line or in a config: importing them, and from where."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType


def load(name: str) -> ModuleType:
    """Import a module from Python's path or, where that has none of its name, from the current folder.

    Raises whatever importing it raises.
    """
    # The console script does not look in the current folder by itself, where users keep their own modules.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


def origin(name: str) -> str:
    """Where an imported module, or the package of one that cannot be imported, came from, in words.

    Says so if the current folder has a module of that name which another one keeps from being found. Empty if
    nothing of the name was imported.
    """
    top = name.split(".")[0]
    package = sys.modules.get(top)
    if package is None:
        return ""
    files = [
        Path(file) for file in (getattr(package, "__file__", None), *getattr(package, "__path__", ())) if file
    ]
    own = [path for path in (Path(f"{top}.py"), Path(top)) if path.is_file() or any(path.glob("*.py"))]
    where = f"{top!r} is {files[0] if files else 'a part of Python itself'}"
    if own and not any(path.samefile(file) for path in own for file in files if file.exists()):
        return f"{where}, which comes before {own[0]} of this folder: give yours another name"
    return where
