"""Small trained policies that come with the package: one of each algorithm on each of two tasks.

They are bundles (``fewstep.sharing.bundle``), one zip file each, beside an index. ``benchmarks/zoo.py`` makes
them of the runs of ``benchmarks/zoo.toml``.
"""

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from fewstep.errors import FewstepError, unknown
from fewstep.runs.layout import RunDir

INDEX = "index.json"
_ALWAYS = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip file: the same files are the same bytes


@dataclass(frozen=True)
class Entry:
    """One policy of the zoo.

    Attributes:
        algo: its algorithm.
        env: its task.
        steps: environment steps of its training.
        actions: how it acted in the evaluation of which the return is told.
        episodes: episodes of its last evaluation.
        mean_return: their mean undiscounted return.
        size: bytes of the file.
        sha256: sum of the file.
    """

    algo: str
    env: str
    steps: int
    actions: str
    episodes: int
    mean_return: float
    size: int
    sha256: str


def name_of(algo: str, env: str) -> str:
    """What a policy is called: ``sac``, ``Pendulum-v1`` -> ``sac-pendulum``."""
    return f"{algo}-{env.rpartition('/')[2].partition('-v')[0].lower()}"


def listed(folder: Traversable | None = None) -> dict[str, Entry]:
    """The policies by name; ``folder`` holds them, by default the package's own."""
    text = ((folder or _own()) / INDEX).read_text(encoding="utf-8")
    return {name: Entry(**entry) for name, entry in json.loads(text).items()}


def get(name: str, out: Path, folder: Traversable | None = None) -> RunDir:
    """Make a policy of the zoo the run directory ``out``, every sum checked, whole or not at all.

    Raises:
        UsageError: there is no such policy, or ``out`` is in use or cannot be written.
        FewstepError: the file is missing or damaged.
    """
    from fewstep.sharing import bundle  # not before: it brings what draws figures, which the list needs not

    folder = folder or _own()
    entries = listed(folder)
    if name not in entries:
        raise unknown("policy", name, entries)
    RunDir.refuse_existing(out)
    try:
        data = (folder / f"{name}.zip").read_bytes()
    except OSError as error:
        raise FewstepError(f"{name}.zip is missing; install fewstep again") from error
    if hashlib.sha256(data).hexdigest() != entries[name].sha256:
        raise FewstepError(f"{name}.zip is damaged; install fewstep again")
    with tempfile.TemporaryDirectory() as made, zipfile.ZipFile(io.BytesIO(data)) as packed:
        for member in bundle.NAMES:
            target = Path(made) / member
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(packed.read(member))
        return bundle.unpack(Path(made), out)


def zipped(files: Mapping[str, bytes]) -> bytes:
    """The files as one zip file, which depends on nothing but them."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in sorted(files):
            packed.writestr(zipfile.ZipInfo(name, _ALWAYS), files[name], zipfile.ZIP_DEFLATED, 9)
    return made.getvalue()


def write(policies: Mapping[str, tuple[Entry, bytes]], folder: Path) -> None:
    """Write the zip files and their index, in place of what ``folder`` holds."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.zip"), *folder.glob(INDEX)):
        old.unlink()
    for name, (_, data) in policies.items():
        (folder / f"{name}.zip").write_bytes(data)
    index = {name: asdict(entry) for name, (entry, _) in sorted(policies.items())}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _own() -> Traversable:
    return resources.files("fewstep.sharing") / "policies"
