"""From a number that stopped being finite back to the update that made it so.

The state is donated to every update, so what it was before the failing one is gone when the failure is seen,
and keeping copies would cost every sound run. Training is deterministic instead: the newest checkpoint and
the run's config lead to the same update again. A diverged run therefore leaves a few lines of JSON, and
``fewstep replay-crash`` goes the way once more with a copy of the state before each dispatch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fewstep.errors import NonFiniteError, UsageError
from fewstep.runs.files import read_json, write_text
from fewstep.runs.layout import RunDir

FORMAT = 1


class Diverged(NonFiniteError):
    """A metric or the state itself is no longer finite: nothing of it may become a checkpoint."""


@dataclass(frozen=True)
class Crash:
    """What ``crash/divergence.json`` holds.

    Attributes:
        message: what was seen.
        env_steps, updates: when it was seen; the failing update is one of those before.
        checkpoint: environment steps of the checkpoint to start from, 0 for the beginning of the run.
    """

    message: str
    env_steps: int
    updates: int
    checkpoint: int


def write(run: RunDir, crash: Crash) -> Path:
    """Leave the reproduction file; gives its path."""
    run.crash.mkdir(exist_ok=True)
    path = run.crash / "divergence.json"
    write_text(path, json.dumps({"format": FORMAT, **asdict(crash)}, indent=1) + "\n")
    return path


def read(path: Path) -> Crash:
    """Read a reproduction file.

    Raises:
        UsageError: there is none, or it is something else.
    """
    try:
        content = read_json(path, 64 * 2**10)
        if content.pop("format") != FORMAT:
            raise ValueError("it has another format")
        numbers = [int(content.pop(name)) for name in ("env_steps", "updates", "checkpoint")]
        return Crash(str(content["message"]), *numbers)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a reproduction file (RUN/crash/divergence.json): {error}") from error
