"""What a run is told to do: the loop's settings, the algorithm's, and how the sources are laid over each
other.

Order, later wins: defaults of the dataclasses, preset, the preset's sections for this environment,
``--config`` file, ``--set``. The result is written to ``config.toml`` before the first step and is all that a
resume reads.
"""

import fnmatch
import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fewstep.config import presets, settings
from fewstep.errors import UsageError, shown

RESERVED = ("algo", "env", "seed", "preset", "training", "for")
"""Top-level names of ``config.toml`` and of presets that no algorithm may use for a section of its own."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training loop. Every algorithm shares them, except that those of the replay buffer
    (``learning_starts``, ``batch_size``, ``updates_per_step``, ``overlap``, ``replay_capacity``) are not
    settings of one that learns from rollouts.

    Attributes:
        steps: environment steps in total, over all environments, warm-up included. At least 1.
        envs: environments stepped side by side. At least 1.
        learning_starts: the environment step at which the first update happens. Actions are uniformly random
            before it and the policy's own from it on, so 10 000 means 9 999 random steps. At least 1.
        batch_size: transitions per update. At least 1.
        updates_per_step: updates per environment step; ``envs * updates_per_step`` must be a whole number.
            Above 0.
        overlap: device and environments work at once: the updates of a step are computed while the next step
            is taken, so the policy that acts is that of one dispatch ago. As repeatable as without.
        replay_capacity: transitions kept; the oldest are overwritten. At least ``batch_size`` and ``envs``.
        max_episode_steps: a time limit in place of the environment's own (none). At least 1. One that the
            environment cannot be given, because it brings a tighter one of its own, is refused.
        env_process: every training environment lives in a process of its own, the evaluation's in one
            together; a hanging or dying one is noticed and named.
        env_timeout: seconds that a reset or step of such an environment may take. Above 0.
        env_restarts: processes of training environments that may be replaced in one go of the run before a
            failure stops it. The running episode is lost. At least 0; more need ``env_process``.
        eval_every: environment steps between evaluations; 0 means never. At least 0.
        eval_episodes: episodes per evaluation and action mode. At least 1.
        eval_max_steps: steps after which an evaluation episode that has not ended is cut, and marked as cut
            in its results (none: 10 000, or the environment's time limit where that is longer). At least 1.
        eval_env: ``own``, every evaluation episode has an environment of its own, side by side with the
            others; ``shared``, they are played one after another on the first training environment, whose
            running episode is abandoned: for environments of which only one can exist.
        eval_modes: how evaluated actions are chosen: ``native``, ``sample``, ``mode``, ``best-of-N``.
        log_every: environment steps between rows of ``metrics.jsonl``. At least 1.
        checkpoint_every: environment steps between checkpoints; 0 means only at the end. At least 0.
        keep_checkpoints: newest checkpoints kept on disk. At least 1.
    """

    steps: int = 1_000_000
    envs: int = 1
    learning_starts: int = 10_000
    batch_size: int = 256
    updates_per_step: float = 1.0
    overlap: bool = False
    replay_capacity: int = 1_000_000
    max_episode_steps: int | None = None
    env_process: bool = False
    env_timeout: float = 60.0
    env_restarts: int = 0
    eval_every: int = 10_000
    eval_episodes: int = 10
    eval_max_steps: int | None = None
    eval_env: Literal["own", "shared"] = "own"
    eval_modes: tuple[str, ...] = ("native", "sample")
    log_every: int = 1_000
    checkpoint_every: int = 50_000
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        at_least_one = ("steps", "envs", "learning_starts", "batch_size", "replay_capacity", "eval_episodes")
        for name in (*at_least_one, "log_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise UsageError(f"training.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("eval_every", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise UsageError(
                    f"training.{name} must be at least 0 (0 means never), got {getattr(self, name)}"
                )
        for name in ("max_episode_steps", "eval_max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"training.{name} must be at least 1, got {value}")
        if not 0 < self.env_timeout < 1e6:
            raise UsageError(f"training.env_timeout must be positive seconds, got {self.env_timeout:g}")
        if self.env_timeout != type(self).env_timeout and not self.env_process:
            raise UsageError("training.env_timeout needs training.env_process=true")
        if self.env_restarts < 0 or (self.env_restarts and not self.env_process):
            raise UsageError("training.env_restarts must be at least 0, and needs training.env_process=true")
        for name in ("batch_size", "envs"):
            if getattr(self, name) > self.replay_capacity:
                raise UsageError(
                    f"training.{name} ({getattr(self, name)}) is larger than training.replay_capacity "
                    f"({self.replay_capacity}); raise the capacity"
                )
        if not self.eval_modes:
            raise UsageError("training.eval_modes must name at least one action mode (native, sample, ...)")
        self.updates_per_iteration  # noqa: B018  (raises when it is not a whole number)

    @property
    def updates_per_iteration(self) -> int:
        """Updates after each joint step of the environments (one dispatch)."""
        updates = self.envs * self.updates_per_step
        if not (updates >= 1 and updates % 1 == 0):
            raise UsageError(
                f"training.envs x training.updates_per_step must be a whole number of at least 1, got "
                f"{self.envs} x {self.updates_per_step:g}"
            )
        return int(updates)


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run.

    Attributes:
        algo: registered name, or ``module:ATTRIBUTE`` of the user's own algorithm.
        env: environment id as the command line takes it, or the name of one that a Python function builds
            (``envs.name_of``).
        seed: 0 to 2**31 - 1, Python's or numpy's; every random stream of the run derives from it.
        preset: name of the preset that was laid under the other settings.
        training: the loop's settings.
        algorithm: the algorithm's own frozen config.
    """

    algo: str
    env: str
    seed: int
    preset: str
    training: TrainingConfig = field(default_factory=TrainingConfig)
    algorithm: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", seed_of(self.seed))

    def to_toml(self) -> str:
        """The text of ``config.toml``; ``from_toml`` gives back an equal config."""
        head = {"algo": self.algo, "env": self.env, "seed": self.seed, "preset": self.preset}
        own = settings.flatten(self.algorithm)
        plain = {name: value for name, value in own.items() if "." not in name}
        training = settings.flatten(self.training, "training.")
        for name in unused(type(self.algorithm)):
            del training[name]
        return settings.to_toml(head | plain | training | own)

    @property
    def sha256(self) -> str:
        """Hash of the resolved config's text."""
        return hashlib.sha256(self.to_toml().encode()).hexdigest()


def seed_of(value: Any, name: str = "seed") -> int:
    """A seed as Python's own number.

    Raises:
        UsageError: it is not a whole number (of Python's or numpy's integers) from 0 to 2**31 - 1.
    """
    seed = settings.plain(value)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UsageError(f"{name} must be a whole number, such as 0, got {shown(value)}")
    if not 0 <= seed < 2**31:
        raise UsageError(f"{name} must be from 0 to {2**31 - 1}, got {shown(seed)}")
    return seed


def unused(algorithm_config: type) -> Mapping[str, str]:
    """Settings of the loop that decide nothing for an algorithm -> what does, as its config class declares
    in ``UNUSED``. They cannot be set, and ``config.toml`` does not have them."""
    return getattr(algorithm_config, "UNUSED", {})


def known_settings(algorithm_config: type) -> dict[str, Any]:
    """Name -> annotation of everything ``--set`` can address for an algorithm, and ``Unused`` for what it
    cannot."""
    own = settings.schema(algorithm_config)
    for name in own:
        if name.split(".")[0] in RESERVED:
            raise TypeError(f"{algorithm_config.__name__}.{name}: the name is reserved for the run itself")
    without = {name: settings.Unused(instead) for name, instead in unused(algorithm_config).items()}
    return settings.schema(TrainingConfig, "training.") | without | own


def from_toml(text: str, config_class: Callable[[str], type], source: str = "config.toml") -> RunConfig:
    """Read a fully resolved ``config.toml``.

    Args:
        text: the file's content.
        config_class: gives the config class of an algorithm from its name.
        source: what to call the file in messages.
    """
    tree = parse_toml(text, source)
    head: dict[str, Any] = {}
    for name, kind in (("algo", str), ("env", str), ("seed", int), ("preset", str)):
        if name not in tree:
            raise UsageError(f"{source}: no {name!r}; this is not the config of a run")
        head[name] = settings.convert(tree.pop(name), kind, f"{source}: {name}")
    cls = config_class(head["algo"])
    return _build(head, cls, settings.checked(tree, known_settings(cls), source))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """TOML tables, or a UsageError that names the file and the line."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of 5000 digits, endless brackets
        raise UsageError(f"{source} is not valid TOML: {error}") from error


def resolve(
    algo: str,
    algorithm_config: type,
    env: str,
    *,
    seed: int = 0,
    preset: str = presets.DEFAULT,
    file: Path | None = None,
    sets: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    origin: str = "override",
    preset_root: Path = presets.ROOT,
) -> RunConfig:
    """Lay all sources over each other and build the config once.

    Args:
        algo: the algorithm's name.
        algorithm_config: its config class.
        env: environment id; preset sections ``[for."PATTERN".section]`` apply where the pattern matches it.
        seed: run seed.
        preset: name of a preset of the algorithm.
        file: a TOML file of settings, or the ``config.toml`` of another run (its env, seed and preset are not
            taken; its algo must be this one).
        sets: ``name=value`` texts, the last layer but one.
        overrides: settings with Python values, the last layer.
        origin: what to call ``overrides`` in messages.
        preset_root: folder that holds ``<algo>/<preset>.toml``.
    """
    known = known_settings(algorithm_config)
    preset = settings.convert(preset, str, "preset")
    flat = _layer(presets.load(algo, preset, preset_root), env, known, f"preset {preset!r}")
    if file is not None:
        tree = _read_file(file)
        if tree.get("algo", algo) != algo:
            raise UsageError(f"{file} is for {tree['algo']!r}, not for {algo!r}")
        for name in ("algo", "env", "seed", "preset"):
            tree.pop(name, None)
        flat |= _layer(tree, env, known, str(file))
    flat |= settings.assignments(sets, known)
    flat |= settings.checked(overrides or {}, known, origin)
    return _build({"algo": algo, "env": env, "seed": seed, "preset": preset}, algorithm_config, flat)


def _layer(tree: dict[str, Any], env: str, known: Mapping[str, Any], source: str) -> settings.Flat:
    """One file's settings: its general sections, then those for matching environments in file order."""
    sections = dict(tree)
    for_env = sections.pop("for", {})
    flat = settings.checked(sections, known, source)
    advice = f'{source}: [for] holds tables named by environment, such as [for."Ant-*".critic]'
    if not isinstance(for_env, dict):
        raise UsageError(advice)
    for pattern, override in for_env.items():
        if not isinstance(override, dict):
            raise UsageError(advice)
        layer = settings.checked(override, known, f"{source}, for {pattern!r}")
        if fnmatch.fnmatchcase(env, pattern):
            flat |= layer
    return flat


def _build(head: dict[str, Any], algorithm_config: type, flat: settings.Flat) -> RunConfig:
    training = settings.build(TrainingConfig, flat, "training.")
    return RunConfig(**head, training=training, algorithm=settings.build(algorithm_config, flat))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
