"""Trackio: a dashboard without an account, on this machine or on a server of one's own."""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from fewstep.runs.files import read_json, write_text
from fewstep.runs.layout import RunDir
from fewstep.sinks.points import Point, configuration


class Trackio:
    """A Trackio run per run directory, grouped by environment and algorithm; ``trackio show`` draws them.

    Trackio does not tell what it holds, so the newest step that was sent is kept in ``folder``: a second call
    sends only later ones, and removing the folder sends everything anew. ``TRACKIO_DIR`` says where Trackio
    keeps its files, ``TRACKIO_SERVER_URL`` sends to a server instead.
    """

    def __init__(self, run: RunDir, folder: Path, project: str) -> None:
        trackio: Any = importlib.import_module("trackio")
        config = configuration(run)
        provenance = run.provenance.read_bytes() if run.provenance.is_file() else b""
        identity = hashlib.sha256(run.config.read_bytes() + provenance).hexdigest()[:8]
        folder.mkdir(parents=True, exist_ok=True)
        self._sent = folder / "sent.json"
        known = read_json(self._sent) if self._sent.is_file() else {}
        self.last = int(known["last"]) if known.get("project") == project else -1
        self._project = project
        group = f"{config['env']}/{config['algo']}"
        self._run: Any = trackio.init(
            project=project,
            name=f"{group}/seed-{config['seed']} {identity}",
            group=group,
            config=config,
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def write(self, point: Point) -> None:
        """Log one row at the point's environment step."""
        self._run.log(point.values, step=point.env_steps)

    def close(self) -> str:
        """Finish the run; return its project."""
        self._run.finish()
        write_text(self._sent, json.dumps({"project": self._project, "last": self.last}) + "\n")
        return f"project {self._project} of Trackio (`trackio show --project {self._project}`)"
