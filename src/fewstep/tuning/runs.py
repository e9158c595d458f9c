"""The runs of a search's trials: one per seed, extended from rung to rung, and what they score."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from fewstep.algos import registry
from fewstep.analysis.runs.reading import read_run
from fewstep.analysis.runs.summary import results
from fewstep.config import RunConfig, resolve
from fewstep.config.settings import Flat
from fewstep.errors import FewstepError, UsageError
from fewstep.experiments import plan, schedule, spec
from fewstep.experiments.plan import Job
from fewstep.experiments.schedule import Executor, Observer, Standing
from fewstep.tuning.spec import Search


def label(number: int) -> str:
    """Folder of a trial's runs, below that of the environment."""
    return f"trial-{number:04d}"


class Runs:
    """Runs trials below a folder.

    Args:
        search: what is searched.
        root: folder of the runs.
        executor: who runs them.
        observe: told how they stand.
        check: raises what stops the search, such as a signal.
    """

    def __init__(
        self, search: Search, root: Path, executor: Executor, observe: Observer, check: Callable[[], None]
    ) -> None:
        self._search, self._root = search, root
        self._executor, self._observe, self._check = executor, observe, check

    def scores(self, trials: Mapping[int, Flat], steps: int) -> dict[int, float | str]:
        """The mean score over seeds of every trial at so many steps, or why it failed.

        What is there already is not run again: a run of fewer steps is extended, and of one of more steps
        only the evaluations up to ``steps`` count.

        Raises:
            UsageError: a run's folder holds something else.
        """
        found: dict[int, float | str] = {}
        jobs: dict[int, list[Job]] = {}
        for number, chosen in trials.items():
            refusal = self._refusal(chosen)
            if refusal is None:
                jobs[number] = self._jobs(number, chosen, steps)
            else:
                found[number] = refusal
        todo = [job for seed in zip(*jobs.values(), strict=True) for job in seed]  # first seeds first
        entries = schedule.run(todo, self._executor, self._observe, self._check) if todo else []
        failures = {
            entry.job.entry.label: f"{entry.job.name}: {entry.message}"
            for entry in reversed(entries)
            if entry.standing is Standing.FAILED
        }
        for number, own in jobs.items():
            failure = failures.get(label(number))
            found[number] = failure or sum(score(job) for job in own) / len(own)
        return found

    def _refusal(self, chosen: Flat) -> str | None:
        """Why the settings cannot be together: each may be what it is, and their combination not."""
        entry, base = self._search.entry, self._search.base
        settings = dict(entry.settings) | chosen
        try:
            resolve(
                entry.algo, registry.get(entry.algo).config, base.env, preset=entry.preset, overrides=settings
            )
        except UsageError as error:
            return str(error)
        return None

    def _jobs(self, number: int, chosen: Flat, steps: int) -> list[Job]:
        search = self._search
        entry = replace(
            search.entry,
            source=label(number),
            label=label(number),
            settings=dict(search.entry.settings) | chosen,
            steps=search.steps,
        )
        # Planned with all steps, so that a run that is beyond this rung is known as ours.
        jobs = plan.expand(spec.Spec((entry,), search.resources), self._root)
        return [replace(job, config=_until(job, steps)) for job in jobs]


def _until(job: Job, steps: int) -> RunConfig:
    return replace(job.config, training=replace(job.config.training, steps=steps))


def score(job: Job) -> float:
    """A run's score: the mean return of its last evaluations (``LAST`` at most) up to the job's steps, in
    the first of ``training.eval_modes``, as the report's tables have it."""
    training = job.config.training
    run = read_run(job.path)
    # With several environments side by side, the step that completes a rung may go past it.
    until = tuple(each for each in run.evaluations if each.env_steps < training.steps + training.envs)
    if not until:
        raise FewstepError(f"{job.path} has no evaluation up to step {training.steps:,}; move it away")
    first = until[0].actions
    return next(found.last for found in results(replace(run, evaluations=until)) if found.actions == first)
