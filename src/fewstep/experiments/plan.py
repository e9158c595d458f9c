"""From the spec to the runs: every configuration resolved and every clash found before anything starts."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fewstep import envs
from fewstep.algos import registry
from fewstep.config import RunConfig, from_file, resolve, settings
from fewstep.errors import UsageError
from fewstep.experiments.process import Work
from fewstep.experiments.spec import Entry, Spec
from fewstep.runs.layout import is_free


@dataclass(frozen=True)
class Job:
    """One run: its entry in the comparison, its directory and everything that decides it."""

    entry: Entry
    path: Path
    config: RunConfig

    @property
    def name(self) -> str:
        """Label, environment and seed."""
        return f"{self.entry.label} {self.config.env} seed {self.config.seed}"

    @property
    def words(self) -> list[str]:
        """Arguments of ``fewstep`` that start the run, or go on with it (to more steps) if it has begun."""
        return list(self.work(logs=Path(), folder=Path()).words)

    def work(self, logs: Path, folder: Path, gpus: float = 0.0) -> Work:
        """What a process that runs it must know; ``logs`` is for what it prints, it works in ``folder``."""
        entry, config = self.entry, self.config
        steps = ("--steps", str(config.training.steps))
        train = [
            "train",
            entry.algo,
            config.env,
            "--preset",
            entry.preset,
            "--seed",
            str(config.seed),
            *steps,
        ]
        train += ["--out", str(self.path), "--quiet"]
        sets = [f"{name}={settings.to_text(value)}" for name, value in entry.settings.items()]
        return Work(
            path=self.path,
            train=(*train, *(["--set", *sets] if sets else [])),
            resume=("resume", str(self.path), *steps, "--quiet"),
            log=logs / f"{self.path.parent.parent.name}-{entry.label}-{self.path.name}.txt",
            folder=folder,
            gpus=gpus,
        )


def expand(spec: Spec, root: Path) -> list[Job]:
    """All runs, seeds innermost last: every entry gets its first seed before any gets its second.

    An experiment that is stopped early has then compared all of its entries.

    Raises:
        UsageError: an algorithm, preset, setting or environment that does not exist or does not fit, or a
            directory below ``root`` that holds a run of another configuration.
    """
    for env, source in {env: entry.source for entry in reversed(spec.entries) for env in entry.envs}.items():
        require_env(env, source)
    seeds = max(len(entry.seeds) for entry in spec.entries)
    jobs = [
        _job(entry, env, entry.seeds[index], root)
        for index in range(seeds)
        for entry in spec.entries
        if index < len(entry.seeds)
        for env in entry.envs
    ]
    for job in jobs:
        refuse_other(job, job.path)
    return jobs


def require_env(env: str, source: str) -> None:
    """Raise UsageError unless the environment can be built; ``source`` is the place that names it."""
    with _named(source):
        envs.make(env, 1).close()


def _job(entry: Entry, env: str, seed: int, root: Path) -> Job:
    steps = {} if entry.steps is None else {"training.steps": entry.steps}
    with _named(entry.source):
        config = resolve(
            entry.algo,
            registry.get(entry.algo).config,
            env,
            seed=seed,
            preset=entry.preset,
            overrides=dict(entry.settings) | steps,
            origin="set",
        )
    return Job(entry, root / re.sub(r"[/:\\]", "_", env) / entry.label / f"seed-{seed}", config)


@contextmanager
def _named(source: str) -> Generator[None]:
    """Put the place in the experiment's file before the message of what cannot be."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def refuse_other(job: Job, folder: Path) -> None:
    """A directory from an earlier start of this experiment may be there, that of another one may not.

    More steps than the earlier start asked for extend its runs.

    Raises:
        UsageError: the folder holds a run of another configuration or of more steps, or something else.
    """
    path = folder / "config.toml"
    if not path.exists():
        if not is_free(folder):
            raise UsageError(f"{folder} exists and is not a run; choose another folder")
        return
    there = config_of(path)
    wanted = job.config.training.steps
    if there.training.steps > wanted:
        raise UsageError(
            f"{folder} was started for {there.training.steps:,} steps, more than the {wanted:,} of now; "
            "choose another folder, or move it away"
        )
    if replace(there, training=replace(there.training, steps=wanted)) != job.config:
        raise UsageError(
            f"{folder} holds a run of another configuration than {job.name} has now; choose another folder, "
            "or move it away"
        )


def config_of(path: Path) -> RunConfig:
    """The configuration in a run's ``config.toml``. Raises UsageError if it cannot be one."""
    return from_file(path, lambda name: registry.get(name).config)
