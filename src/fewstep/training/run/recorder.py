"""What is said and written about a run: rows, evaluations, samples and checkpoints, each when it is due."""

import time
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

from fewstep.envs.registry import is_in_python_only
from fewstep.errors import FewstepError, NonFiniteError
from fewstep.runs import checkpoint
from fewstep.runs.layout import RunDir
from fewstep.runs.metrics import RowWriter, check_row
from fewstep.training import saved_policy, state_io
from fewstep.training.device.trainer import AnyTrainer
from fewstep.training.evaluation.evaluate import Evaluator
from fewstep.training.evaluation.toy_samples import Probes
from fewstep.training.run import crash
from fewstep.training.run.background import Background
from fewstep.training.run.crash import Diverged
from fewstep.training.run.progress import Reporter
from fewstep.training.run.value_warning import ExplosionWatch
from fewstep.training.signals import Check

SLOW_SECONDS, SLOW_SHARE = 10.0, 0.05
"""Saving that keeps training waiting for more than both is worth a line."""


@dataclass
class Marks:
    """``Trainer.clock`` when each recurring duty was last done, and seconds the run has taken so far."""

    logged: int = 0
    evaluated: int = 0
    saved: int = 0
    wall_seconds: float = 0.0

    @staticmethod
    def now(trainer: AnyTrainer) -> "Marks":
        """Nothing is due: a run that begins, or goes on where none of its own marks were kept."""
        return Marks(trainer.clock, trainer.clock, trainer.clock)


class _Files:
    """The files of a run that grow."""

    def __init__(self, trainer: AnyTrainer, run: RunDir) -> None:
        self.metrics, self.evaluations = RowWriter(run.metrics), RowWriter(run.evaluations)
        self.probes = Probes(trainer.algorithm, trainer.config, trainer.spec, trainer.envs.toy, run.samples)

    def close(self) -> None:
        for part in (self.metrics, self.evaluations, self.probes):
            part.close()


class Recorder:
    """Tells one run's reporter, and writes its rows, evaluations, samples and checkpoints."""

    def __init__(
        self,
        trainer: AnyTrainer,
        run: RunDir | None,
        reporter: Reporter,
        marks: Marks,
        evaluator: Evaluator | None = None,
    ) -> None:
        """``run`` None writes nothing; ``evaluator`` judges in place of the config's environment."""
        config = trainer.config
        self._trainer, self._run, self._reporter, self._marks = trainer, run, reporter, marks
        self._files = None if run is None else _Files(trainer, run)
        self._evaluator = evaluator or Evaluator.of(config, trainer.algorithm)
        self._writing = Background()
        self._written: list[Path] = []
        self._waited, self._told_of_waiting = 0.0, False
        discount = float(getattr(config.algorithm, "discount", 0.99))
        self._explosion = ExplosionWatch(discount, trainer.spec.act_size)
        self._crashed = False
        self._saved = marks.saved
        self._began = time.monotonic() - marks.wall_seconds
        self._interval_began = time.monotonic()

    def is_due(self, *, final: bool) -> bool:
        """Whether ``due`` would do anything now."""
        return self._writing.failed or bool(self._written) or any(self._duties(final))

    def due(self, check: Check, *, final: bool) -> None:
        """Do what has come due since the last time; at the end (``final``) all that was not just done."""
        self._tell()
        if self._writing.failed:
            self._writing.finish()
        self._tell_of_checkpoints()
        log, evaluate, save = self._duties(final)
        if log:
            self._log()
        if evaluate:
            self._evaluate(check)
        if save:
            self.save(wait=final)
            self._tell_of_checkpoints()

    def _duties(self, final: bool) -> tuple[bool, bool, bool]:
        """Whether to log, to evaluate and to save now."""
        clock, training, marks = self._trainer.clock, self._trainer.config.training, self._marks

        def is_due(every: int, last: int) -> bool:
            return (every > 0 and clock // every > last // every) or (final and clock > last)

        return (
            is_due(training.log_every, marks.logged),
            training.eval_every > 0 and is_due(training.eval_every, marks.evaluated),
            self._run is not None and is_due(training.checkpoint_every, marks.saved),
        )

    def leave_out(self, seconds: float) -> None:
        """Time in which another run used this process; it does not count in the rate of training."""
        self._interval_began += seconds

    def _log(self) -> None:
        row, steps = self._trainer.interval(), self._trainer.env_steps
        now = time.monotonic()
        row["wall_seconds"] = round(now - self._began, 3)
        elapsed = max(now - self._interval_began, 1e-9)
        row["wall_env_steps_per_second"] = round((steps - max(0, self._marks.logged)) / elapsed, 2)
        row |= self._trainer.learner.take_times()
        try:
            if self._files is None:
                check_row(row)
            else:
                self._files.metrics.append(row)
        except NonFiniteError as error:
            raise self._diverged(str(error)) from error
        self._interval_began, self._marks.logged = now, self._trainer.clock
        self._reporter.interval(row)
        warning = self._explosion.warning(row, self._trainer.largest_reward)
        if warning is not None:
            self._reporter.note(warning)

    def _diverged(self, message: str) -> NonFiniteError:
        """The error for a state or metric that is not finite; leaves what finds the failing update."""
        self._crashed = True
        if self._run is None:
            return NonFiniteError(message)
        with suppress(FewstepError):
            self._writing.finish()  # the checkpoint to start from
        trainer = self._trainer
        found = crash.Crash(message, trainer.env_steps, trainer.updates, max(0, self._saved))
        path = crash.write(self._run, found)
        return Diverged(f"{message}; `fewstep replay-crash {quote(str(path))}` finds the update")

    def _evaluate(self, check: Check) -> None:
        began, steps = time.monotonic(), self._trainer.env_steps
        policy = self._trainer.policy
        with nullcontext() if self._evaluator.elsewhere else self._trainer.lent() as shared:
            rows = self._evaluator.evaluate(policy, steps, self._trainer.updates, check, shared)
        if self._files is not None:
            for row in rows:
                self._files.evaluations.append(row)
            self._files.probes.write(policy, steps, check)
        self._tell()
        self._marks.evaluated = self._trainer.clock
        for row in rows:
            self._reporter.evaluated(row)
        self._interval_began += time.monotonic() - began  # the interval's rate is that of training alone

    def _tell_of_checkpoints(self) -> None:
        while self._written:
            self._reporter.saved(self._written.pop(0))

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
        if self._run is None:
            return
        began = time.monotonic()
        self._writing.finish()
        self._begin_save(self._run)
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

    def _begin_save(self, run: RunDir) -> None:
        groups, meta = self._trainer.snapshot()
        steps, clock = self._trainer.env_steps, self._trainer.clock
        marks = Marks(
            self._marks.logged, self._marks.evaluated, clock, round(time.monotonic() - self._began, 3)
        )
        meta["marks"] = asdict(marks)
        bad = state_io.first_non_finite(groups["state"])
        if bad is not None:
            raise self._diverged(f"{bad} is not finite at environment step {steps}")
        config = self._trainer.config
        write_policy = saved_policy.prepare(run.policy, saved_policy.of(self._trainer), config.algo)
        write = checkpoint.prepare(run.checkpoints, steps, groups, meta, config.training.keep_checkpoints)

        def both() -> None:
            path = write()
            write_policy()
            self._saved = clock
            self._written.append(path)

        self._marks.saved, self._marks.wall_seconds = clock, marks.wall_seconds
        self._writing.start(both)

    def rescue(self) -> None:
        """Save what was learned since the last checkpoint on disk, if anything sound was, and say how to go
        on with it.

        Raises:
            FewstepError: as ``save``.
        """
        with suppress(FewstepError):  # then it is not on disk
            self._writing.finish()
        if self._run is not None and self._trainer.clock > self._saved and not self._crashed:
            self.save()
            path, how = self._run.path, f"`fewstep resume {quote(str(self._run.path))}`"
            if is_in_python_only(self._trainer.config.env):
                how = f"fewstep.load({str(path)!r}, env=...).learn(STEPS, run={str(path)!r})"
            self._reporter.note(f"saved at {self._trainer.progress}; continue with {how}")

    def close(self) -> None:
        """Finish what is being written, close files and environments."""
        with suppress(FewstepError):
            self._writing.finish()
        self._evaluator.close()
        if self._files is not None:
            self._files.close()
