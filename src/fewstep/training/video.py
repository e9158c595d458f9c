"""One episode as a film, rendered without a screen."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from fewstep import envs
from fewstep.algos.contract import ActionMode
from fewstep.errors import FewstepError, UsageError
from fewstep.training import compiled, seeds
from fewstep.training.evaluate import Rollout, rollout
from fewstep.training.policy_io import SavedPolicy
from fewstep.training.signals import Check, never

FRAMES_PER_SECOND = 30


def writable(path: Path) -> None:
    """Check, before any work is done, that a video can be written to ``path``.

    Raises:
        UsageError: the ending is not .mp4 or .gif, the folder is missing, or the extra ``video`` is not
            installed.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise UsageError(f"cannot write a video to {path}: the name must end in .mp4 or .gif")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: the folder {path.parent} does not exist")
    for module in ("imageio", "imageio_ffmpeg" if path.suffix == ".mp4" else "PIL"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"videos need {module}: pip install 'fewstep[video]'") from error


def _open(path: Path) -> Any:
    imageio = importlib.import_module("imageio")
    if path.suffix == ".gif":
        return imageio.get_writer(path, mode="I", duration=1000 / FRAMES_PER_SECOND, loop=0)
    return imageio.get_writer(path, fps=FRAMES_PER_SECOND, macro_block_size=2)


def record(
    saved: SavedPolicy,
    path: Path,
    mode: ActionMode,
    seed: int,
    max_episode_steps: int | None = None,
    check: Check = never,
) -> Rollout:
    """Play one episode, with the reset seed of the first one of an evaluation, and write it to ``path``."""
    writable(path)
    vector = envs.make(saved.env, 1, render_mode="rgb_array", max_episode_steps=max_episode_steps)
    try:
        film = _open(path)

        def watch(vector: envs.VectorEnv, moved: np.ndarray) -> None:
            film.append_data(vector.render(0))

        try:
            act = compiled.act(saved.algorithm, saved.cfg, mode)
            key = seeds.key(seed, seeds.Stream.EVALUATE)
            return rollout(vector, act, saved.policy, key, seeds.evaluation_seeds(seed, 1), check, watch)
        finally:
            film.close()
    except OSError as error:
        raise FewstepError(f"cannot write {path}: {error}") from error
    finally:
        vector.close()
