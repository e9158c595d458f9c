"""A replay buffer by itself in a folder: safetensors and JSON with their hashes, as in a checkpoint."""

from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError, UsageError
from fewstep.runs import checkpoint
from fewstep.training import saved_model
from fewstep.training.collect.experience import Replay
from fewstep.training.device.trainer import AnyTrainer
from fewstep.training.trainer import Trainer

FOLDER = "transitions"


def save(trainer: AnyTrainer, path: Any) -> None:
    """``Model.save_replay``."""
    rows, meta = _replay_of(trainer).snapshot()

    def write(fresh: Path) -> None:
        groups = {Replay.group: saved_model.unshared(rows)}
        checkpoint.save(fresh / FOLDER, trainer.env_steps, groups, {Replay.group: meta}, keep=1)

    saved_model.put(path, "replay buffer", (FOLDER,), write)


def load(trainer: AnyTrainer, path: Any) -> None:
    """``Model.load_replay``."""
    replay = _replay_of(trainer)
    folder = saved_model.path_of(path)
    if trainer.algorithm.numbered:
        raise UsageError(
            f"{trainer.config.algo} keeps something of its own for every transition: load the model that was "
            "saved with replay=True"
        )
    if not (folder / FOLDER).is_dir():
        raise UsageError(f"{path} is not a saved replay buffer")
    newest = checkpoint.newest_folder(folder / FOLDER)
    if newest is None:
        raise FewstepError(f"{path} is damaged: it holds no transitions")
    saved = checkpoint.load(newest)
    try:
        rows, meta = saved.groups[Replay.group], saved.meta[Replay.group]
        replay.take_over(rows, meta, trainer.env_steps, trainer.updates)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise FewstepError(f"{path} does not make sense: {type(error).__name__}: {error}") from error


def _replay_of(trainer: AnyTrainer) -> Replay:
    if not isinstance(trainer, Trainer):
        raise UsageError(
            "with training.device_env the replay buffer is on the device; model.save(PATH, replay=True) "
            "keeps it"
        )
    if not isinstance(trainer.experience, Replay):
        raise UsageError(f"{trainer.config.algo} learns from its own steps alone: it has no replay buffer")
    return trainer.experience
