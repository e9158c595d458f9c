"""Weights & Biases: a run of the same configuration and name, filled as far as it is not yet."""

import hashlib
import importlib
from pathlib import Path
from typing import Any

from fewstep.runs.layout import RunDir
from fewstep.sinks.points import Point, configuration


class WeightsAndBiases:
    """A W&B run per run directory, grouped by environment and algorithm.

    Its id is a hash of the run's provenance, so a second call continues it: W&B tells the last step it
    holds, and only later ones are sent. Without network set ``WANDB_MODE=offline`` and use ``wandb sync``
    later.
    """

    def __init__(self, run: RunDir, folder: Path, project: str) -> None:
        wandb: Any = importlib.import_module("wandb")
        config = configuration(run)
        folder.mkdir(parents=True, exist_ok=True)
        provenance = run.provenance.read_bytes() if run.provenance.is_file() else b""
        identity = hashlib.sha256(run.config.read_bytes() + provenance).hexdigest()[:16]
        group = f"{config['env']}/{config['algo']}"
        self._run: Any = wandb.init(
            project=project,
            id=identity,
            name=f"{group}/seed-{config['seed']}",
            group=group,
            config=config,
            dir=str(folder),
            resume="allow",
        )
        # A new run starts at step 0, and so does one that holds only that step.
        self.last = self._run.starting_step - 1 if self._run.resumed else -1

    def write(self, point: Point) -> None:
        """Log one row at the point's environment step."""
        self._run.log(point.values, step=point.env_steps)

    def close(self) -> str:
        """Finish the run; return its address, or its folder when offline."""
        place = self._run.url or self._run.dir
        self._run.finish()
        return str(place)
