"""TensorBoard's event files, through tensorboardX, which needs neither TensorFlow nor torch."""

from datetime import datetime
from pathlib import Path

from tensorboardX import SummaryWriter

from fewstep.errors import UsageError
from fewstep.runs.files import read_json
from fewstep.runs.layout import RunDir
from fewstep.sinks.points import Point

SUFFIX = ".fewstep"


class TensorBoard:
    """One event file in ``folder``, made anew: what an earlier call wrote there is replaced.

    The configuration is the text ``config``; wall time is that of the training, not of the writing.

    Raises:
        UsageError: the folder cannot be written.
    """

    def __init__(self, run: RunDir, folder: Path) -> None:
        self.last = -1
        self._folder = folder
        self._start = _started(run)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
                old.unlink()
            self._writer = SummaryWriter(str(folder), filename_suffix=SUFFIX)
        except OSError as error:
            raise UsageError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
        indented = "".join(f"    {line}\n" for line in run.config.read_text(errors="replace").splitlines())
        self._writer.add_text("config", indented, 0, self._start)

    def write(self, point: Point) -> None:
        """Add one scalar per value, at the point's environment step."""
        for name, value in point.values.items():
            self._writer.add_scalar(name, value, point.env_steps, self._start + point.wall_seconds)
        self._writer.flush()

    def close(self) -> str:
        """Close the file; return its folder."""
        self._writer.close()
        return str(self._folder)


def _started(run: RunDir) -> float:
    """When the run was made, in seconds since 1970; 0 if its provenance does not tell."""
    try:
        return datetime.fromisoformat(str(read_json(run.provenance)["created_at"])).timestamp()
    except (OSError, KeyError, ValueError):
        return 0.0
