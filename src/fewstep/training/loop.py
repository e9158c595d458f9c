"""A recorded run: advance and, when due, log, evaluate and save; whatever happens, leave it resumable."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import jax

from fewstep.algos.contract import Algorithm
from fewstep.config import RunConfig
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
        config, training = trainer.config, trainer.config.training
        self._trainer, self._run, self._reporter, self._marks = trainer, run, reporter, marks
        self._metrics = RowWriter(run.metrics)
        self._evaluations = RowWriter(run.evaluations)
        self._evaluator = Evaluator(
            trainer.algorithm,
            config.algorithm,
            config.env,
            episodes=training.eval_episodes,
            modes=training.eval_modes,
            seed=config.seed,
            max_episode_steps=training.max_episode_steps,
            timeout=training.env_timeout if training.env_process else None,
        )
        self._probes = Probes(trainer.algorithm, config, trainer.envs.toy, run.samples)
        self._writing = Background()
        discount = float(getattr(config.algorithm, "discount", 0.99))
        self._explosion = ExplosionWatch(discount, trainer.spec.act_size)
        self._crashed = False
        self._saved = marks.saved
        self._began = time.monotonic() - marks.wall_seconds
        self._interval_began = time.monotonic()

    def due(self, check: Check, *, final: bool) -> None:
        """Do what has come due since the last time; at the end (``final``) all that was not just done."""
        steps, training, marks = self._trainer.env_steps, self._trainer.config.training, self._marks

        def is_due(every: int, last: int) -> bool:
            return (every > 0 and steps // every > last // every) or (final and steps > last)

        if is_due(training.log_every, marks.logged):
            self._log(steps)
        if training.eval_every and is_due(training.eval_every, marks.evaluated):
            self._evaluate(steps, check)
        for note in self._trainer.envs.take_notes():
            self._reporter.note(note)
        if self._writing.failed:
            self._writing.finish()
        if is_due(training.checkpoint_every, marks.saved):
            self.save(wait=final)

    def _log(self, steps: int) -> None:
        row = self._trainer.interval()
        now = time.monotonic()
        row["wall_seconds"] = round(now - self._began, 3)
        elapsed = max(now - self._interval_began, 1e-9)
        row["wall_env_steps_per_second"] = round((steps - self._marks.logged) / elapsed, 2)
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
        for row in self._evaluator.evaluate(policy, steps, self._trainer.updates, check):
            self._evaluations.append(row)
            self._reporter.evaluated(row)
        self._probes.write(policy, steps, check)
        self._marks.evaluated = steps
        self._interval_began += time.monotonic() - began  # the interval's rate is that of training alone

    def save(self, wait: bool = True) -> None:
        """Write a checkpoint and the policy.

        Args:
            wait: until both are on disk. Otherwise what changes is copied and training goes on while a thread
                writes; a save that finds the one before unfinished waits for it.

        Raises:
            Diverged: the state holds a NaN or an infinity. The checkpoints are left as they are, so that a
                resume starts from sound numbers.
            FewstepError: the disk is full or not writable, now or when the save before was written.
        """
        self._writing.finish()
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
        write = checkpoint.prepare(
            self._run.checkpoints, steps, groups, meta, config.training.keep_checkpoints
        )
        write_policy = policy_io.prepare(self._run.policy, saved_policy(self._trainer), config.algo)

        def both() -> None:
            write()
            write_policy()
            self._saved = steps

        self._marks.saved = steps
        self._writing.start(both)
        if wait:
            self._writing.finish()

    @property
    def unsaved(self) -> bool:
        """Whether there are sound steps since the last checkpoint on disk; waits for one being written."""
        with suppress(FewstepError):  # then it is not on disk
            self._writing.finish()
        return self._trainer.env_steps > self._saved and not self._crashed

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
        spec=trainer.spec,
        env=config.env,
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
    Evaluator(algorithm, config.algorithm, config.env, episodes=1, modes=config.training.eval_modes, seed=0)
    trainer = Trainer(config, algorithm)
    try:
        run = RunDir.create(run_path, config.to_toml())
    except BaseException:
        trainer.close()
        raise
    write_text(run.provenance, json.dumps(provenance.collect(config.sha256, device()), indent=1) + "\n")
    return trainer, run


def device() -> str:
    """The accelerator that jax uses, in words."""
    first = jax.devices()[0]
    return f"{first.platform}: {first.device_kind} x {jax.device_count()}"


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
    total, learning_starts = trainer.config.training.steps, trainer.config.training.learning_starts
    if learning_starts > total:
        reporter.note(
            f"no update will happen: training.learning_starts is {learning_starts:,} of {total:,} steps"
        )
    recorder = Recorder(trainer, run, reporter, marks or Marks())
    try:
        while True:
            check()
            final = trainer.env_steps >= total
            recorder.due(check, final=final)
            if final:
                return
            trainer.advance()
    except (FewstepError, OSError, KeyboardInterrupt) as error:
        _save_what_was_learned(recorder, run, trainer, reporter, error)
        raise
    finally:
        recorder.close()


def _save_what_was_learned(
    recorder: Recorder, run: RunDir, trainer: Trainer, reporter: Reporter, error: BaseException
) -> None:
    try:
        if recorder.unsaved:
            recorder.save()
            reporter.note(f"saved at step {trainer.env_steps:,}; continue with `fewstep resume {run.path}`")
    except FewstepError as second:
        if isinstance(error, Interrupted):
            raise second from error  # the user was promised a saved run
        if isinstance(second, Diverged):
            raise Diverged(f"{error}; {second}") from error
        reporter.note(str(second))
