"""Named starting points: ``<algo>/<name>.toml`` holds the settings that differ from the algorithm's defaults.

The first sentence of the comment that a file begins with says what the preset is for. The name ``default``
always exists: without a file it stands for the algorithm's own defaults.
"""

import itertools
import re
import tomllib
from pathlib import Path
from typing import Any

from fewstep.errors import UsageError, unknown

ROOT = Path(__file__).parent
DEFAULT = "default"


def names(algo: str, root: Path = ROOT) -> dict[str, str]:
    """Preset name -> one sentence of description, for one algorithm, in alphabetical order."""
    found = {DEFAULT: "The algorithm's own defaults."}
    for path in sorted((root / algo).glob("*.toml")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
        text = " ".join(line.lstrip("#").strip() for line in comment)
        found[path.stem] = re.split(r"(?<=\.)\s", text, maxsplit=1)[0]
    return dict(sorted(found.items()))


def load(algo: str, name: str, root: Path = ROOT) -> dict[str, Any]:
    """The tables of one preset.

    Raises:
        UsageError: no preset of that name (the nearest one is suggested), or a file that is not TOML.
    """
    if name not in names(algo, root):
        raise unknown(f"preset of {algo}", name, names(algo, root))
    path = root / algo / f"{name}.toml"
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also what is not UTF-8
        raise UsageError(f"preset {name!r} of {algo} ({path}) is not valid TOML: {error}") from error
