"""A recorded run: advance and, when due, log, evaluate and save; whatever happens, leave it resumable."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fewstep import foreign
from fewstep.algos import numerics
from fewstep.algos.contract import Algorithm
from fewstep.config import RunConfig
from fewstep.envs.registry import uses_mujoco
from fewstep.errors import FewstepError, NonFiniteError
from fewstep.runs import checkpoint, provenance
from fewstep.runs.files import write_text
from fewstep.runs.layout import RunDir
from fewstep.runs.metrics import RowWriter
from fewstep.training import divergence, policy_io, state_io
from fewstep.training.background import Background
from fewstep.training.divergence import Diverged
from fewstep.training.evaluate import Evaluator
from fewstep.training.explosion import ExplosionWatch
from fewstep.training.policy_io import SavedPolicy
from fewstep.training.probes import Probes
from fewstep.training.progress import Reporter
from fewstep.training.signals import Check, Interrupted
from fewstep.training.trainer import Trainer

SLOW_SECONDS, SLOW_SHARE = 10.0, 0.05
"""Saving that keeps training waiting for more than both is worth a line."""


@dataclass
class Marks:
    """Environment step at which each recurring duty was last done, and seconds the run has taken so far."""

    logged: int = 0
    evaluated: int = 0
    saved: int = 0
    wall_seconds: float = 0.0


class Recorder:
    """Writes one run's rows, evaluations, samples and checkpoints."""

    def __init__(self, trainer: Trainer, run: RunDir, reporter: Reporter, marks: Marks) -> None:
        config = trainer.config
        self._trainer, self._run, self._reporter, self._marks = trainer, run, reporter, marks
        self._metrics = RowWriter(run.metrics)
        self._evaluations = RowWriter(run.evaluations)
        self._evaluator = evaluator(config, trainer.algorithm)
        self._probes = Probes(trainer.algorithm, config, trainer.envs.toy, run.samples)
        self._writing = Background()
        self._waited, self._told_of_waiting = 0.0, False
        discount = float(getattr(config.algorithm, "discount", 0.99))
        self._explosion = ExplosionWatch(discount, trainer.spec.act_size)
        self._crashed = False
        self._saved = marks.saved
        self._began = time.monotonic() - marks.wall_seconds
        self._interval_began = time.monotonic()

    def is_due(self, *, final: bool) -> bool:
        """Whether ``due`` would do anything now."""
        return self._writing.failed or any(self._duties(final))

    def due(self, check: Check, *, final: bool) -> None:
        """Do what has come due since the last time; at the end (``final``) all that was not just done."""
        steps = self._trainer.env_steps
        self._tell()
        if self._writing.failed:
            self._writing.finish()
        log, evaluate, save = self._duties(final)
        if log:
            self._log(steps)
        if evaluate:
            self._evaluate(steps, check)
        if save:
            self.save(wait=final)

    def _duties(self, final: bool) -> tuple[bool, bool, bool]:
        """Whether to log, to evaluate and to save at this step."""
        steps, training, marks = self._trainer.env_steps, self._trainer.config.training, self._marks

        def is_due(every: int, last: int) -> bool:
            return (every > 0 and steps // every > last // every) or (final and steps > last)

        return (
            is_due(training.log_every, marks.logged),
            training.eval_every > 0 and is_due(training.eval_every, marks.evaluated),
            is_due(training.checkpoint_every, marks.saved),
        )

    def leave_out(self, seconds: float) -> None:
        """Time in which another run used this process; it does not count in the rate of training."""
        self._interval_began += seconds

    def _log(self, steps: int) -> None:
        row = self._trainer.interval()
        now = time.monotonic()
        row["wall_seconds"] = round(now - self._began, 3)
        elapsed = max(now - self._interval_began, 1e-9)
        row["wall_env_steps_per_second"] = round((steps - self._marks.logged) / elapsed, 2)
        row |= self._trainer.learner.take_times()
        try:
            self._metrics.append(row)
        except NonFiniteError as error:
            raise self._diverged(str(error)) from error
        self._interval_began, self._marks.logged = now, steps
        self._reporter.interval(row)
        warning = self._explosion.warning(row, self._trainer.largest_reward)
        if warning is not None:
            self._reporter.note(warning)

    def _diverged(self, message: str) -> Diverged:
        """The error for a state or metric that is not finite; leaves what finds the failing update."""
        self._crashed = True
        with suppress(FewstepError):
            self._writing.finish()  # the checkpoint to start from
        trainer = self._trainer
        crash = divergence.Crash(message, trainer.env_steps, trainer.updates, self._saved)
        path = divergence.write(self._run, crash)
        return Diverged(f"{message}; `fewstep replay-crash {path}` finds the update")

    def _evaluate(self, steps: int, check: Check) -> None:
        began = time.monotonic()
        policy = self._trainer.policy
        with self._trainer.lent() as shared:
            rows = self._evaluator.evaluate(policy, steps, self._trainer.updates, check, shared)
        for row in rows:
            self._evaluations.append(row)
            self._reporter.evaluated(row)
        self._tell()
        self._probes.write(policy, steps, check)
        self._marks.evaluated = steps
        self._interval_began += time.monotonic() - began  # the interval's rate is that of training alone

    def _tell(self) -> None:
        for note in self._trainer.envs.take_notes():
            self._reporter.note(note)

    def save(self, wait: bool = True) -> None:
        """Write a checkpoint and the policy.

        Args:
            wait: until both are on disk. Otherwise what changes is copied or held and training goes on while
                a thread writes; a save that finds the one before unfinished waits for it.

        Raises:
            Diverged: the state holds a NaN or an infinity. The checkpoints are left as they are, so that a
                resume starts from sound numbers.
            FewstepError: the disk is full or not writable, now or when the save before was written.
        """
        began = time.monotonic()
        self._writing.finish()
        self._begin_save()
        if wait:
            self._writing.finish()
        else:
            self._count_waiting(time.monotonic() - began)

    def _count_waiting(self, seconds: float) -> None:
        """Say so, once, if training stands still for saving for a noticeable share of its time."""
        self._waited += seconds
        share = self._waited / (time.monotonic() - self._began)
        if not self._told_of_waiting and self._waited > SLOW_SECONDS and share > SLOW_SHARE:
            self._told_of_waiting = True
            self._reporter.note(
                f"saving has taken {share:.0%} of the time: training waits for the disk; raise "
                "training.checkpoint_every"
            )

    def _begin_save(self) -> None:
        groups, meta = self._trainer.snapshot()
        steps = self._trainer.env_steps
        marks = Marks(
            self._marks.logged, self._marks.evaluated, steps, round(time.monotonic() - self._began, 3)
        )
        meta["marks"] = asdict(marks)
        bad = state_io.first_non_finite(groups["state"])
        if bad is not None:
            raise self._diverged(f"{bad} is not finite at environment step {steps}")
        config = self._trainer.config
        write_policy = policy_io.prepare(self._run.policy, saved_policy(self._trainer), config.algo)
        write = checkpoint.prepare(
            self._run.checkpoints, steps, groups, meta, config.training.keep_checkpoints
        )

        def both() -> None:
            write()
            write_policy()
            self._saved = steps

        self._marks.saved = steps
        self._writing.start(both)

    def rescue(self) -> None:
        """Save what was learned since the last checkpoint on disk, if anything sound was, and say how to go
        on with it.

        Raises:
            FewstepError: as ``save``.
        """
        with suppress(FewstepError):  # then it is not on disk
            self._writing.finish()
        steps = self._trainer.env_steps
        if steps > self._saved and not self._crashed:
            self.save()
            self._reporter.note(f"saved at step {steps:,}; continue with `fewstep resume {self._run.path}`")

    def close(self) -> None:
        """Finish what is being written, close files and environments."""
        with suppress(FewstepError):
            self._writing.finish()
        for part in (self._metrics, self._evaluations, self._evaluator, self._probes):
            part.close()


def saved_policy(trainer: Trainer) -> SavedPolicy:
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


def start(config: RunConfig, algorithm: Algorithm, run_path: Path) -> tuple[Trainer, RunDir]:
    """Build a trainer and, once that has worked, its run directory.

    Raises:
        UsageError: the environment, a setting or the directory is not usable; nothing has been written then.
    """
    RunDir.refuse_existing(run_path)
    trainer = build(config, algorithm)
    try:
        return trainer, create(config, run_path)
    except BaseException:
        trainer.close()
        raise


def build(config: RunConfig, algorithm: Algorithm) -> Trainer:
    """A new trainer.

    Raises:
        UsageError: the environment or a setting is not usable.
        FewstepError: evaluation needs environments beside those of training, and there cannot be any.
    """
    judge = evaluator(config, algorithm)
    trainer = Trainer(config, algorithm)
    try:
        if config.training.eval_every:
            judge.try_another()  # rather now than after the steps to the first evaluation
        return trainer
    except BaseException:
        trainer.close()
        raise


def evaluator(config: RunConfig, algorithm: Algorithm, env: Any = None) -> Evaluator:
    """What evaluates as a config says; ``env`` builds environments that ``config.env`` only names."""
    training = config.training
    return Evaluator(
        algorithm,
        config.algorithm,
        env or config.env,
        episodes=training.eval_episodes,
        modes=training.eval_modes,
        seed=config.seed,
        max_episode_steps=training.max_episode_steps,
        longest=training.eval_max_steps,
        shared=training.eval_env == "shared",
        timeout=training.env_timeout if training.env_process else None,
    )


def create(config: RunConfig, run_path: Path) -> RunDir:
    """A new run directory with all that is known before the first step."""
    run = RunDir.create(run_path, config.to_toml())
    found = provenance.collect(config.sha256, numerics.device(), mujoco=uses_mujoco(config.env))
    write_text(run.provenance, json.dumps(found, indent=1) + "\n")
    return run


def train(
    trainer: Trainer, run: RunDir, reporter: Reporter, check: Check, marks: Marks | None = None
) -> None:
    """Go on until the config's number of environment steps, then evaluate and save once more.

    Whatever ends it early (a signal, a failing environment, a number that is not finite), what was learned so
    far is saved first. The caller holds the run's lock and closes the trainer.

    Raises:
        Interrupted: a signal came.
        Diverged: a metric or the state stopped being finite.
        FewstepError: the environment failed, or the disk did.
    """
    with foreign.heard_by(reporter.note):
        _train(trainer, run, reporter, check, marks or Marks())


def _train(trainer: Trainer, run: RunDir, reporter: Reporter, check: Check, marks: Marks) -> None:
    total = trainer.config.training.steps
    note_if_nothing_will_be_learned(trainer, reporter)
    recorder = Recorder(trainer, run, reporter, marks)
    try:
        while True:
            check()
            final = trainer.env_steps >= total
            recorder.due(check, final=final)
            if final:
                return
            trainer.advance()
            reporter.step(trainer.env_steps, trainer.updates)
    except BaseException as error:
        try:
            recorder.rescue()
        except Exception as second:
            if isinstance(error, Interrupted):
                raise second from error  # the user was promised a saved run
            if isinstance(second, Diverged):
                raise Diverged(f"{error}; {second}") from error
            reporter.note(str(second))
        raise
    finally:
        recorder.close()


def note_if_nothing_will_be_learned(trainer: Trainer, reporter: Reporter) -> None:
    """Say so if the run ends before its first update."""
    total = trainer.config.training.steps
    first, cause = trainer.experience.first_update()
    if first > total:
        reporter.note(f"no update will happen: {cause} is {first:,} of {total:,} steps")
