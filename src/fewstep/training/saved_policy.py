"""The ``policy/`` folder: what can act, and all that is needed to use it, without the rest of the run."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from fewstep.algos import numerics, registry
from fewstep.algos.contract import Algorithm, mode_name
from fewstep.config import settings
from fewstep.errors import FewstepError
from fewstep.runs import arrays
from fewstep.runs.files import read_json, write_text
from fewstep.training import seeds, state_io
from fewstep.training.device.trainer import AnyTrainer
from fewstep.types import EnvInfo, Spec

WEIGHTS, DESCRIPTION = "policy.safetensors", "policy.json"
FORMAT = 4
LARGEST_DESCRIPTION = 16 * 2**20
"""Bytes. A description is a page of settings and a name per number of an observation, not more."""

_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, SafetensorError)
"""What reading a file raises that makes no sense."""


@dataclass(frozen=True)
class SavedPolicy:
    """A policy read from disk.

    Attributes:
        algorithm, cfg: what made it.
        info: what it has to know of its environment.
        policy: the pytree that ``algorithm.act`` takes.
        env_steps, updates: how long it had learned.
    """

    algorithm: Algorithm
    cfg: Any
    info: EnvInfo
    policy: Any
    env_steps: int
    updates: int

    @property
    def env(self) -> str:
        """Id of the environment."""
        return self.info.env

    @property
    def spec(self) -> Spec:
        """Sizes of its flat vectors."""
        return self.info.spec


def of(trainer: AnyTrainer) -> SavedPolicy:
    """The trainer's policy with what is needed to use it."""
    config = trainer.config
    return SavedPolicy(
        algorithm=trainer.algorithm,
        cfg=config.algorithm,
        info=trainer.info,
        policy=trainer.policy,
        env_steps=trainer.env_steps,
        updates=trainer.updates,
    )


def save(folder: Path, saved: SavedPolicy, algo: str) -> None:
    """Write the folder. ``algo`` is the algorithm's name as the user gave it.

    The description never changes during a run and the weights are replaced in one step, so the pair always
    fits.

    Raises:
        FewstepError: the disk is full or not writable; an older policy is left as it was.
    """
    prepare(folder, saved, algo)()


def prepare(folder: Path, saved: SavedPolicy, algo: str) -> Callable[[], None]:
    """``save`` in two halves: copy the weights now, write when the result is called (in any thread)."""
    description = {
        "format": FORMAT,
        "algo": algo,
        "spec": asdict(saved.spec),
        **asdict(saved.info),
        "native_actions": mode_name(saved.algorithm.native(saved.cfg)),
        "settings": settings.flatten(saved.cfg),
    }
    counters = {"env_steps": str(saved.env_steps), "updates": str(saved.updates)}
    text, weights = json.dumps(description, indent=1) + "\n", state_io.to_arrays(saved.policy)

    def write() -> None:
        temporary = folder / f".{WEIGHTS}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / DESCRIPTION, text)
            temporary.unlink(missing_ok=True)
            arrays.write(temporary, weights, counters)
            os.replace(temporary, folder / WEIGHTS)
        except OSError as error:
            raise FewstepError(f"cannot save the policy in {folder}: {error.strerror}") from error

    return write


def load(folder: Path, env: str | None = None) -> SavedPolicy:
    """Read a policy folder. ``env`` is the environment's id where it may have been corrected since.

    Raises:
        FewstepError: a file is missing or damaged, or the weights do not fit the description.
        UsageError: its algorithm is not known here.
    """
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise FewstepError(f"{folder} has no {name}; train until a checkpoint has been saved")
    try:
        description = read_json(folder / DESCRIPTION, LARGEST_DESCRIPTION)
        if description["format"] != FORMAT:
            raise FewstepError(
                f"{folder} has format {description['format']}; this fewstep reads format {FORMAT}"
            )
        algorithm = registry.get(description["algo"])
        known = settings.schema(algorithm.config)
        flat = settings.checked(description["settings"], known, f"{folder / DESCRIPTION}")
        info = _info(description)
        weights = load_file(folder / WEIGHTS)
        with safe_open(folder / WEIGHTS, framework="numpy") as file:
            counters = file.metadata()
        cfg = settings.build(algorithm.config, flat)
        policy = state_io.from_arrays(template(algorithm, cfg, info.spec), weights, f"policy {folder}")
        steps, updates = int(counters["env_steps"]), int(counters["updates"])
    except _DAMAGE as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise FewstepError(f"{folder} is damaged: {reason}") from error
    if env is not None:
        info = replace(info, env=env)
    return SavedPolicy(algorithm, cfg, info, policy, steps, updates)


def _info(description: dict[str, Any]) -> EnvInfo:
    names = tuple(str(name) for name in description["obs_names"])
    low, high = (tuple(float(end) for end in description[key]) for key in ("low", "high"))
    shape = tuple(int(size) for size in description["action_shape"])
    if not (len(low) == len(high) == math.prod(shape)):
        raise ValueError(f"{len(low)} lower and {len(high)} upper bounds for actions of shape {shape}")
    rate = None if description["rate"] is None else float(description["rate"])
    height_width_channels = description.get("image")  # the zoo's policies do not say: they are older
    image = None if height_width_channels is None else tuple(int(size) for size in height_width_channels)
    if image is not None and (len(image) != 3 or math.prod(image) != len(names)):
        raise ValueError(f"{len(names)} observation names for images of {image}")
    repeat = int(description["action_repeat"])
    return EnvInfo(str(description["env"]), names, low, high, shape, repeat, rate, image)


@numerics.own
def template(algorithm: Algorithm, cfg: Any, spec: Spec) -> Any:
    """Shapes and types of a policy's leaves, without computing any."""
    return jax.eval_shape(
        lambda key: algorithm.policy(algorithm.init(cfg, spec, key)), seeds.key(0, seeds.Stream.ALGORITHM)
    )
