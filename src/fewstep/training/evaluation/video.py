"""One episode as a film, rendered without a screen."""

import importlib
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fewstep import envs
from fewstep.algos.contract import ActionMode
from fewstep.errors import FewstepError, UsageError
from fewstep.training import seeds
from fewstep.training.acting import bind
from fewstep.training.evaluation.evaluate import Rollout, rollout
from fewstep.training.saved_policy import SavedPolicy
from fewstep.training.signals import Check, never

MOST_FRAMES_PER_SECOND = 30
"""Environments that step faster are filmed at every n-th step, so that films run at their true speed."""


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


def record(
    saved: SavedPolicy,
    path: Path,
    mode: ActionMode,
    seed: int,
    max_episode_steps: int | None = None,
    action_repeat: int = 1,
    longest: int | None = None,
    check: Check = never,
    env: envs.Given | None = None,
) -> Rollout:
    """Play one episode, with the reset seed of the first one of an evaluation, and film it to ``path``; on
    ``env`` if given, else on the environment that ``saved`` names.

    It is cut as an evaluation cuts it (``training.eval_max_steps``). The film appears there once it is whole.
    """
    writable(path)
    path = Path(os.path.realpath(path))  # what a link points to
    vector = envs.make(
        saved.env if env is None else env,
        render_mode="rgb_array",
        max_episode_steps=max_episode_steps,
        action_repeat=action_repeat,
    )
    stride, rate = _pace(vector.steps_per_second)
    imageio = importlib.import_module("imageio")
    options = {"duration": 1000 / rate, "loop": 0} if path.suffix == ".gif" else {"fps": rate}
    steps = 0
    film: Any = None
    unfinished = path.with_name(f".{path.name}")

    def watch(vector: envs.VectorEnv, moved: np.ndarray) -> None:
        nonlocal steps
        if steps % stride == 0:
            film.append_data(vector.render(0))
        steps += 1

    try:
        with warnings.catch_warnings():
            # The encoder is a process of its own: forked, and at once replaced, which is safe beside threads.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            key, episode = seeds.key(seed, seeds.Stream.EVALUATE), seeds.evaluation_seeds(seed, 1)
            act = bind(saved.algorithm, saved.cfg, vector.spec, mode, saved.policy, key)
            with imageio.get_writer(unfinished, **options) as film:
                most = vector.longest_episode(longest)
                played = rollout(vector, act, episode, most, check, watch)
            os.replace(unfinished, path)
            return played
    except OSError as error:
        raise FewstepError(f"cannot write {path}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
        vector.close()


def _pace(steps_per_second: float | None) -> tuple[int, float]:
    """Film every n-th step, at which rate: where the environment does not say, every one at 30."""
    steps_per_second = steps_per_second or 30.0
    stride = max(1, math.ceil(steps_per_second / MOST_FRAMES_PER_SECOND))
    return stride, steps_per_second / stride
