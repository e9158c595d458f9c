"""Recorded runs of several seeds in one process: each kept as a run of its own, all advanced as a cohort."""

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fewstep import foreign
from fewstep.algos.contract import Algorithm
from fewstep.config import RunConfig
from fewstep.errors import FewstepError, UsageError
from fewstep.runs.layout import RunDir
from fewstep.training.run import loop
from fewstep.training.run.progress import Reporter, RunReporter, Screen
from fewstep.training.run.recorder import Marks, Recorder
from fewstep.training.several import placement
from fewstep.training.several.cohort import Cohort
from fewstep.training.signals import Check, Interrupted
from fewstep.training.trainer import Trainer


@dataclass
class Member:
    """One seed's run."""

    trainer: Trainer
    run: RunDir
    reporter: Reporter
    marks: Marks


@dataclass(frozen=True)
class Failure:
    """Why one seed's run went no further."""

    seed: int
    run: Path
    error: Exception


def start(
    configs: Sequence[RunConfig], algorithm: Algorithm, paths: Sequence[Path], quiet: bool, check: Check
) -> list[Failure]:
    """Train new runs, ``configs`` equal but for the seed, each into its path; gives those that failed.

    Raises:
        UsageError: an environment, a setting or a directory is not usable; nothing has been written then.
        Interrupted: a signal came; all are saved.
    """
    refuse_alone(configs[0])
    for path in paths:
        RunDir.refuse_existing(path)
    with ExitStack() as stack:
        trainers: list[Trainer] = []
        for config in configs:
            try:
                trainer = loop.build(config, algorithm)
                assert isinstance(trainer, Trainer)  # others have been refused
                trainers.append(trainer)
            except FewstepError as error:
                if trainers:
                    raise type(error)(
                        f"{error} (for seed {config.seed}: side by side every seed has its own environments; "
                        "where that cannot be, train one after another)"
                    ) from error
                raise
            stack.callback(trainers[-1].close)
        steps = configs[0].training.steps
        runs = [loop.create(trainer, path) for trainer, path in zip(trainers, paths, strict=True)]
        reporters = stack.enter_context(reporting(runs, [c.seed for c in configs], steps, quiet))
        members = [
            Member(trainer, run, reporter, Marks.now(trainer))
            for trainer, run, reporter in zip(trainers, runs, reporters, strict=True)
        ]
        loop.note_what_is_ahead(trainers[0], reporters[0])
        return train(members, check)


def refuse_alone(config: RunConfig) -> None:
    """Raise a UsageError if the config asks for what only a run of its own can do."""
    if config.training.device_env is not None:
        raise UsageError("training.device_env is for one run per process: train the seeds one after another")
    if config.overlap:
        raise UsageError(
            "replay.overlap is for one run per process: several seeds take turns on the device as it is"
        )


@contextmanager
def reporting(
    runs: Sequence[RunDir], seeds: Sequence[int], steps: int, quiet: bool
) -> Generator[list[RunReporter]]:
    """Hold every run for writing and report all of them on one screen, each line with its seed."""
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.locked())
        screen = stack.enter_context(Screen(steps, quiet))
        yield [
            stack.enter_context(RunReporter(run.log, steps, screen, f"seed {seed}: "))
            for run, seed in zip(runs, seeds, strict=True)
        ]


def train(members: Sequence[Member], check: Check) -> list[Failure]:
    """Go on with all to the configured number of environment steps, then evaluate and save each once more.

    Runs that have taken fewer steps than others catch up first. A run whose environment fails, whose numbers
    stop being finite or that cannot be written is saved as a single run would be and left; the others go on
    without it.

    Returns:
        The runs that failed.

    Raises:
        Interrupted: a signal came; all are saved.
        FewstepError: the runs cannot go on together; all are saved.
    """
    with foreign.heard_by(members[0].reporter.note):
        return _Session(members, check).run()


class _Session:
    """The cohort, those that wait to join it, and the recorders of those in it."""

    def __init__(self, members: Sequence[Member], check: Check) -> None:
        self._waiting = sorted(members, key=lambda member: member.trainer.clock)
        self._total = members[0].trainer.config.training.steps
        self._check = check
        self._cohort = Cohort([])
        self._members: dict[Trainer, Member] = {}
        self._recorders: dict[Trainer, Recorder] = {}
        self._failures: list[Failure] = []
        self._placed = 0

    def run(self) -> list[Failure]:
        try:
            self._go()
        except BaseException as error:
            self._cohort.part()
            self._rescue(list(self._recorders), error)  # those that were left have been: nothing new there
            raise
        finally:
            for recorder in self._recorders.values():
                recorder.close()
        return self._failures

    def _go(self) -> None:
        while True:
            self._check()
            self._let_join()
            if not self._cohort.trainers:
                return
            self._tell_placement()
            final = self._cohort.env_steps >= self._total
            self._do_duties(final)
            if final:
                return
            if self._cohort.trainers:
                for trainer, error in self._cohort.advance().items():
                    self._give_up(trainer, error)
                for trainer in self._cohort.trainers[:1]:  # all are equally far
                    self._members[trainer].reporter.step(self._cohort.env_steps, self._cohort.updates)

    def _tell_placement(self) -> None:
        """Say in every log which devices the seeds are on, at first and when their number has changed."""
        seeds = len(self._cohort.trainers)
        if seeds == self._placed:
            return
        self._placed = seeds
        line = placement.described(seeds)
        if line is not None:
            for trainer in self._cohort.trainers:
                self._tell(trainer, line)

    def _let_join(self) -> None:
        """Those that wait at the cohort's step; at the next step of any, where there is no cohort."""
        while self._waiting:
            trainer = self._waiting[0].trainer
            if self._cohort.trainers and trainer.clock > self._cohort.trainers[0].clock:
                return
            self._cohort.add(trainer)
            member = self._waiting.pop(0)
            self._members[trainer] = member
            self._recorders[trainer] = Recorder(trainer, member.run, member.reporter, member.marks)

    def _do_duties(self, final: bool) -> None:
        recorders = {trainer: self._recorders[trainer] for trainer in self._cohort.trainers}
        if not any(recorder.is_due(final=final) for recorder in recorders.values()):
            return
        self._cohort.part()
        for trainer, recorder in recorders.items():
            began = time.monotonic()
            try:
                recorder.due(self._check, final=final)
            except Interrupted:
                raise
            except (FewstepError, OSError) as error:
                self._cohort.drop(trainer)
                self._give_up(trainer, error)
            for other in recorders.values():
                if other is not recorder:
                    other.leave_out(time.monotonic() - began)

    def _give_up(self, trainer: Trainer, error: Exception) -> None:
        member = self._members[trainer]
        self._failures.append(Failure(trainer.config.seed, member.run.path, error))
        self._tell(trainer, f"failed, the other seeds go on: {error}")
        self._rescue([trainer], error)

    def _rescue(self, trainers: Sequence[Trainer], error: BaseException) -> None:
        """Save each, whatever becomes of the others; an interrupted user hears of the first that failed."""
        lost: Exception | None = None
        for trainer in trainers:
            try:
                self._recorders[trainer].rescue()
            except Exception as second:
                self._tell(trainer, str(second))
                lost = lost or second
        if lost is not None and isinstance(error, Interrupted):
            raise lost from error

    def _tell(self, trainer: Trainer, text: str) -> None:
        with suppress(OSError):  # a log on a full disk must not keep the others from being saved
            self._members[trainer].reporter.note(text)
