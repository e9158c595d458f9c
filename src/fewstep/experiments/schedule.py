"""Which run goes when. Who runs it is behind ``Executor``, so that another engine can take over."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fewstep.errors import FewstepError
from fewstep.experiments.plan import Job
from fewstep.experiments.status import is_finished
from fewstep.runs.layout import RunDir

PAUSE = 0.5
"""Seconds between two looks at the running jobs."""


class Standing(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    """Another process is writing this run: one left over from an interrupted experiment, or another's."""
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


class Running(Protocol):
    """A run that has been started."""

    def exit_status(self) -> int | None:
        """None while it runs."""
        ...

    def stop(self) -> None:
        """Ask it to save and leave."""
        ...

    def last_words(self) -> str:
        """The last line it printed, for a message."""
        ...


class Executor(Protocol):
    """Who runs jobs."""

    @property
    def slots(self) -> int:
        """How many may run at once."""
        ...

    def has_room(self, running: int) -> bool:
        """Whether another job may start now, beside ``running`` ones."""
        ...

    def start(self, job: Job) -> Running:
        """Start a job, or go on with it if it has begun."""
        ...


@dataclass
class Tracked:
    """A job with its standing; ``message`` says why it failed."""

    job: Job
    standing: Standing
    message: str = ""


Observer = Callable[[Sequence[Tracked]], None]


def run(
    jobs: Sequence[Job],
    executor: Executor,
    observe: Observer,
    check: Callable[[], None],
    sleep: Callable[[float], None] = time.sleep,
) -> list[Tracked]:
    """Run all jobs that are not finished; a failure stops nothing but itself.

    Args:
        jobs: in the order they shall start.
        executor: who runs them.
        observe: told of all entries after every look.
        check: called at every look; what it raises (a signal) stops the running jobs, waits until they have
            saved, and is raised again.
        sleep: how to pass the time between two looks.

    Returns:
        One entry per job: finished or failed.
    """
    entries = [Tracked(job, Standing.FINISHED if is_finished(job) else Standing.WAITING) for job in jobs]
    active: dict[int, Running] = {}
    try:
        while True:
            check()
            _collect(entries, active)
            _start(entries, active, executor)
            observe(entries)
            if all(entry.standing in (Standing.FINISHED, Standing.FAILED) for entry in entries):
                return entries
            sleep(PAUSE)
    except BaseException:
        for running in active.values():
            running.stop()
        while active:
            _collect(entries, active, stopping=True)
            with suppress(Exception):  # what is raised already counts, and the runs are waited for
                observe(entries)
            sleep(PAUSE)
        raise


def _collect(entries: Sequence[Tracked], active: dict[int, Running], stopping: bool = False) -> None:
    for index, running in list(active.items()):
        status = running.exit_status()
        if status is None:
            continue
        del active[index]
        entry = entries[index]
        if is_finished(entry.job):
            entry.standing = Standing.FINISHED
        elif stopping:
            entry.standing = Standing.STOPPED
        elif _is_being_written(entry):  # another process was quicker to begin it
            entry.standing = Standing.ELSEWHERE
        else:
            entry.standing = Standing.FAILED
            entry.message = running.last_words() or f"exit status {status}"


def _is_being_written(entry: Tracked) -> bool:
    run = RunDir(entry.job.path)
    return run.config.exists() and run.is_locked()


def _start(entries: Sequence[Tracked], active: dict[int, Running], executor: Executor) -> None:
    for index, entry in enumerate(entries):
        if entry.standing not in (Standing.WAITING, Standing.ELSEWHERE):
            continue
        try:
            _start_one(index, entry, active, executor)
        except (OSError, FewstepError) as error:  # no more processes, no more disk, a link in its directory
            entry.standing, entry.message = Standing.FAILED, str(error)


def _start_one(index: int, entry: Tracked, active: dict[int, Running], executor: Executor) -> None:
    if _is_being_written(entry):
        entry.standing = Standing.ELSEWHERE
        return
    if entry.standing is Standing.ELSEWHERE:
        # The process that had it is gone: done, or to be gone on with.
        entry.standing = Standing.FINISHED if is_finished(entry.job) else Standing.WAITING
        if entry.standing is Standing.FINISHED:
            return
    if len(active) < executor.slots and executor.has_room(len(active)):
        active[index] = executor.start(entry.job)
        entry.standing = Standing.RUNNING
