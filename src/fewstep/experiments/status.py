"""How a run stands, read from its directory alone, so that any process may ask at any time."""

from dataclasses import dataclass

from fewstep.experiments.plan import Job
from fewstep.runs import checkpoint
from fewstep.runs.layout import RunDir
from fewstep.runs.metrics import last_row


@dataclass(frozen=True)
class Progress:
    """Environment steps done, speed and last evaluation; NaN-free: what is not known is None."""

    env_steps: int
    steps_per_second: float | None
    last_return: float | None


def is_finished(job: Job) -> bool:
    """Whether the run has a checkpoint at its last step, written after its last evaluation."""
    newest = checkpoint.newest_step(RunDir(job.path).checkpoints)
    return newest is not None and newest >= job.config.training.steps


def progress(job: Job) -> Progress:
    """What the run's rows say."""
    run = RunDir(job.path)
    row, evaluation = last_row(run.metrics), last_row(run.evaluations)
    returns = evaluation.get("returns") or []
    return Progress(
        row.get("env_steps", 0),
        row.get("wall_env_steps_per_second"),
        sum(returns) / len(returns) if returns else None,
    )
