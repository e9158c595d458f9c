"""Run a whole comparison from one file: algorithms x environments x seeds; interrupted, it goes on."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from fewstep.cli.common import rooted, whole

if TYPE_CHECKING:
    from fewstep.experiments.plan import Job
    from fewstep.experiments.spec import Spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep experiment``."""
    parser.add_argument(
        "spec",
        metavar="SPEC.toml",
        type=rooted,
        help="TOML file: envs, seeds, steps, and a [[run]] per algorithm",
    )
    parser.add_argument("--out", type=rooted, metavar="DIR", help="folder of the runs (default runs/SPEC)")
    parser.add_argument(
        "--jobs",
        type=whole,
        metavar="N",
        help="runs side by side (default: [resources] jobs of the file, or as many as the cores allow)",
    )
    parser.add_argument(
        "--records",
        type=rooted,
        metavar="DIR",
        help="keep finished runs, without checkpoints, in DIR, and do not run again what is there",
    )
    add_known(parser)
    parser.add_argument(
        "--on",
        metavar="EXECUTOR",
        help="who runs them: local, ray, slurm, or another package's ([resources] executor of the file)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the runs and start nothing")


def add_known(parser: argparse.ArgumentParser) -> None:
    """``--known``, of ``fewstep experiment`` and ``fewstep paper``."""
    parser.add_argument(
        "--known",
        type=rooted,
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="with --records: folders with runs or records of other experiments; a finished run there of the "
        "same configuration is recorded instead of being made again",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 if every run is finished, 1 if some failed; a signal saves all and leaves with 130 or 143."""
    from fewstep.experiments import spec

    experiment = spec.read(arguments.spec)
    if arguments.on is not None:
        experiment = replace(experiment, resources=replace(experiment.resources, executor=arguments.on))
    out = arguments.out or rooted("runs") / arguments.spec.stem
    known = arguments.known
    status = carry_out(experiment, out, arguments.jobs, arguments.records, known, arguments.dry_run)
    if not arguments.dry_run:
        print("report them with")
        print(f"fewstep report {quote(str(arguments.records or out))}/*/*/seed-* --out report.html")
    return status


def carry_out(
    experiment: "Spec",
    out: Path,
    most_jobs: int | None,
    keep: Path | None,
    known: Sequence[Path] = (),
    dry_run: bool = False,
) -> int:
    """Run all that is not finished yet, or list it; 0 if every run is finished then, 1 if some failed.

    Args:
        experiment: the runs.
        out: their folder.
        most_jobs: runs side by side, None: as the experiment says.
        keep: folder of records, or None.
        known: folders whose finished runs of the same configuration are recorded instead.
        dry_run: list them instead.

    Raises:
        UsageError: something in the experiment cannot be.
    """
    from fewstep.errors import UsageError
    from fewstep.experiments import executors, plan, schedule, status
    from fewstep.experiments.display import Display
    from fewstep.experiments.records import Records
    from fewstep.training.signals import watched

    if most_jobs is not None and most_jobs < 1:
        raise UsageError(f"--jobs must be at least 1, got {most_jobs}")
    if known and keep is None:
        raise UsageError("--known needs --records, the folder in which what is found is kept")
    resources, logs, most = experiment.resources, out / "logs", most_jobs or 0
    engine = executors.get(resources.executor)
    # Before the plan loads jax: an engine may start processes, and nothing forks beside jax's threads.
    executor = None if dry_run else engine(resources, logs, most)
    jobs = plan.expand(experiment, out)
    records = Records(out, keep, known) if keep else None
    recorded = [job for job in jobs if records and records.holds(job)]
    jobs = [job for job in jobs if job not in recorded]
    twins = {job.path: twin for job in jobs if records and (twin := records.twin(job))}
    elsewhere = [job for job in jobs if job.path in twins]
    jobs = [job for job in jobs if job.path not in twins]
    if dry_run:
        for job in recorded:
            print(f"{job.name}: {job.config.training.steps:,} steps (recorded)")
        for job in elsewhere:
            print(f"{job.name}: {job.config.training.steps:,} steps (made in {twins[job.path]})")
        for job in jobs:
            standing = "finished" if status.is_finished(job) else f"{status.progress(job).env_steps:,} steps"
            print(f"{job.name}: {job.config.training.steps:,} steps into {job.path} ({standing})")
        todo = [job for job in jobs if not status.is_finished(job)]
        print(engine.preview(resources, logs, todo, most), end="")
        return 0
    assert executor is not None
    if records:
        records.prepare()
    for job in elsewhere:
        assert records is not None
        records.adopt(job, twins[job.path])
        print(f"{job.name}: recorded from {twins[job.path]}")
    with watched() as check:
        _measure_random(jobs, check)
        with Display(executor.slots) as display:

            def observe(entries: Sequence[schedule.Tracked]) -> None:
                display.show(entries)
                if records:
                    records.take(entries)

            entries = schedule.run(jobs, executor, observe, check)
    failed = [entry for entry in entries if entry.standing is schedule.Standing.FAILED]
    for entry in failed:
        print(f"failed: {entry.job.name}: {entry.message}")
    asked = len(entries) + len(recorded) + len(twins)
    print(f"{asked - len(failed)} of {asked} runs are finished")
    return 1 if failed else 0


def _measure_random(jobs: "Sequence[Job]", check: Callable[[], None]) -> None:
    """The return of random actions on every task that is not on record and has none kept yet."""
    from fewstep.analysis.runs import reading
    from fewstep.analysis.statistics import random_return
    from fewstep.cli.common import tell

    for folder, job in {job.path.parent.parent: job for job in jobs}.items():
        training = job.config.training
        task = random_return.Task(
            job.config.env, training.max_episode_steps, training.eval_max_steps, training.action_repeat
        )
        if not task.on_record and random_return.kept(reading.random_return(folder), task) is None:
            random_return.keep(task, [folder], check, tell, training.env_timeout)
