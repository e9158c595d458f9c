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
from typing import Annotated, Any, Literal

from fewstep.config import presets, settings
from fewstep.config.replay import ReplayConfig
from fewstep.config.settings import Count, Range, Section, Whole
from fewstep.errors import UsageError, shown

FROM_PYTHON = "training.device_env=none steps the environment from Python"
"""What to do where the device cannot."""
RESERVED = ("algo", "env", "seed", "preset", "training", "for")
"""Top-level names of ``config.toml`` and of presets that no algorithm may use for a section of its own."""


CountOrNone = Annotated[int | None, Range(1)]


@dataclass(frozen=True)
class TrainingConfig(Section):
    """Settings of the training loop, whatever the algorithm; those of the replay buffer are a section of the
    algorithms that have one (``config.replay``).

    Attributes:
        steps: environment steps in total, over all environments, warm-up included.
        envs: environments stepped side by side.
        device_env: the same task as jax functions (docs/device.md): environments, replay buffer and updates
            are then one program on the device, and the host's environment is for evaluation alone.
            ``toy/bandit`` or ``toy/multigoal``, with the environment of that name, or ``module:make`` (none:
            training steps the host's environments).
        max_episode_steps: a time limit in place of the environment's own (none). One that the environment
            cannot be given, because it brings a tighter one of its own, is refused.
        action_repeat: how often the environment takes each action, rewards summed. With more than 1, all that
            counts environment steps counts decisions, but for ``max_episode_steps``. It is part of the task:
            results under different numbers do not compare.
        env_process: every training environment lives in a process of its own, the evaluation's in one
            together; a hanging or dying one is noticed and named.
        env_timeout: seconds that a reset or step of such an environment may take. It needs ``env_process``.
        env_restarts: processes of training environments that may be replaced in one go of the run before a
            failure stops it. The running episode is lost. More than 0 need ``env_process``.
        eval_every: environment steps between evaluations; 0 means never.
        eval_episodes: episodes per evaluation and action mode.
        eval_max_steps: steps after which an evaluation episode that has not ended is cut, and marked as cut
            in its results (none: 10 000, or the environment's time limit where that is longer).
        eval_env: ``own``, every evaluation episode has an environment of its own, side by side with the
            others; ``shared``, they are played one after another on the first training environment, whose
            running episode is abandoned: for environments of which only one can exist.
        eval_modes: how evaluated actions are chosen: ``native``, ``sample``, ``mode``, ``best-of-N``.
        log_every: environment steps between rows of ``metrics.jsonl``.
        checkpoint_every: environment steps between checkpoints; 0 means only at the end.
        keep_checkpoints: newest checkpoints kept on disk.
    """

    steps: Count = 1_000_000
    envs: Count = 1
    device_env: str | None = None
    max_episode_steps: CountOrNone = None
    action_repeat: Count = 1
    env_process: bool = False
    env_timeout: Annotated[float, Range(0, 1e6, low_open=True)] = 60.0
    env_restarts: Whole = 0
    eval_every: Whole = 10_000
    eval_episodes: Count = 10
    eval_max_steps: CountOrNone = None
    eval_env: Literal["own", "shared"] = "own"
    eval_modes: tuple[str, ...] = ("native", "sample")
    log_every: Count = 1_000
    checkpoint_every: Whole = 50_000
    keep_checkpoints: Count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("env_timeout", "env_restarts"):
            if getattr(self, name) != getattr(type(self), name) and not self.env_process:
                raise UsageError(f"training.{name} needs training.env_process=true")
        if self.device_env is not None:
            self._refuse_on_device()
        if not self.eval_modes:
            raise UsageError("training.eval_modes must name at least one action mode (native, sample, ...)")
        if len(set(self.eval_modes)) < len(self.eval_modes):
            raise UsageError(f"training.eval_modes names one twice: {', '.join(self.eval_modes)}")

    def _refuse_on_device(self) -> None:
        for name in ("max_episode_steps", "action_repeat", "env_process", "eval_env"):
            if getattr(self, name) != getattr(type(self), name):
                raise UsageError(f"training.{name} cannot be set with training.device_env; {FROM_PYTHON}")


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
        if self.replay is not None:
            self.replay.updates_per_iteration(self.training.envs)
        if self.training.device_env is not None:
            self._refuse_on_device()

    def _refuse_on_device(self) -> None:
        name = self.training.device_env
        if self.replay is None:
            raise UsageError(
                f"{self.algo} learns from rollouts, which training.device_env does not give; {FROM_PYTHON}"
            )
        if name in ("toy/bandit", "toy/multigoal") and name != self.env:
            raise UsageError(f"training.device_env={name} is for the environment {name}, not {self.env}")
        for setting in ("overlap", "reward", "noise_repeat", "n_step", "dataset"):
            if getattr(self.replay, setting) != getattr(ReplayConfig, setting):
                raise UsageError(f"replay.{setting} cannot be set with training.device_env; {FROM_PYTHON}")

    @property
    def replay(self) -> ReplayConfig | None:
        """The settings of the replay buffer; None for an algorithm without one."""
        found = getattr(self.algorithm, "replay", None)
        return found if isinstance(found, ReplayConfig) else None

    @property
    def overlap(self) -> bool:
        """Whether updates and steps of the environments are done at once."""
        return self.replay is not None and self.replay.overlap

    def to_toml(self) -> str:
        """The text of ``config.toml``; ``from_toml`` gives back an equal config."""
        head = {"algo": self.algo, "env": self.env, "seed": self.seed, "preset": self.preset}
        own = settings.flatten(self.algorithm)
        plain = {name: value for name, value in own.items() if "." not in name}
        training = settings.flatten(self.training, "training.")
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


def known_settings(algorithm_config: type) -> dict[str, Any]:
    """Name -> annotation of everything ``--set`` can address for an algorithm."""
    own = settings.schema(algorithm_config)
    for name in own:
        if name.split(".")[0] in RESERVED:
            raise TypeError(f"{algorithm_config.__name__}.{name}: the name is reserved for the run itself")
    return settings.schema(TrainingConfig, "training.") | own


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


def from_file(path: Path, config_class: Callable[[str], type]) -> RunConfig:
    """Read the ``config.toml`` at ``path``. Raises UsageError if it cannot be read or is none."""
    return from_toml(_text(path), config_class, str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """TOML tables, or a UsageError that names the file and the line."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of 5000 digits, endless brackets
        raise UsageError(f"{source} is not valid TOML: {error}") from error


ON_DEVICE = ("brax/", "gymnax/", "mjx/")
"""What the ids of tasks begin with that are written in jax: ``training.device_env`` is the task itself unless
it is set (``none``: they are stepped from Python)."""


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
            taken, which a file of settings must not have; its algo must be this one).
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
        whole = {"algo", "env", "seed", "preset"} <= tree.keys()  # of a run: this one has its own of each
        own = [name for name in ("env", "seed", "preset") if name in tree]
        if own and not whole:
            raise UsageError(f"{file}: {own[0]} is an argument of its own and no setting; take it out")
        for name in ("algo", *own):
            tree.pop(name, None)
        flat |= _layer(tree, env, known, str(file))
    flat |= settings.assignments(sets, known)
    flat |= settings.checked(overrides or {}, known, origin)
    if env.startswith(ON_DEVICE):
        flat.setdefault("training.device_env", env)
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
    return parse_toml(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors of Windows begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
