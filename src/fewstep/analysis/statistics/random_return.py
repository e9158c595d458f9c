"""The return of random actions on tasks that are not on record: measured once and kept beside the runs.

The file is ``random_return.json``, in the folder of an experiment's task (``OUT/ENV``) or in a run's own.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewstep import envs
from fewstep.analysis.runs.reading import Run
from fewstep.analysis.statistics.normalised_scores import MUJOCO, RANDOM, Random
from fewstep.envs.registry import packages_of, packages_used
from fewstep.errors import FewstepError, UsageError
from fewstep.runs import provenance
from fewstep.runs.files import write_text
from fewstep.runs.layout import RANDOM_RETURN
from fewstep.suites import suite_of

EPISODES, STEPS = 20, 5_000
"""Both are reached, unless it takes ``MOST_STEPS``."""
MOST_STEPS = 50_000
"""No episode begins after so many steps, once there are two."""


@dataclass(frozen=True)
class Task:
    """What the return of random actions depends on.

    Attributes:
        env: environment id.
        max_episode_steps, eval_max_steps, action_repeat: the settings of training of that name.
    """

    env: str
    max_episode_steps: int | None = None
    eval_max_steps: int | None = None
    action_repeat: int = 1

    @property
    def on_record(self) -> bool:
        """Whether fewstep brings the number along, or the suite says what 0 is."""
        if self.max_episode_steps is not None:
            return False
        suite = suite_of(self.env)
        return (suite is not None and suite.ends is not None) or (
            self.env in RANDOM and self.action_repeat == 1
        )


@dataclass(frozen=True)
class Zero:
    """The return that a comparison takes as 0.

    Attributes:
        random: mean, standard error and number of episodes.
        simulator: what it was measured under, empty where it depends on nothing.
        note: how it was measured, empty for a task on record.
    """

    random: Random
    simulator: str = ""
    note: str = ""


def measure(
    vector: envs.VectorEnv, longest: int, check: Callable[[], None] = lambda: None
) -> tuple[list[float], int, int]:
    """Play whole episodes with actions uniform over the box, reset seeds 0, 1, 2, ...

    Args:
        vector: one environment.
        longest: steps after which an episode is cut.
        check: called at every step.

    Returns:
        The undiscounted returns, how many of the episodes were cut, and the steps taken.
    """
    rng = np.random.default_rng(0)
    returns: list[float] = []
    steps = cut = 0
    while (len(returns) < EPISODES or steps < STEPS) and (len(returns) < 2 or steps < MOST_STEPS):
        vector.reset([len(returns)])
        total, length, running = 0.0, 0, True
        while running and length < longest:
            check()
            result = vector.step(rng.uniform(-1, 1, (1, vector.spec.act_size)).astype(np.float32))
            total += float(result.reward[0])
            length += 1
            running = not (result.terminated[0] or result.truncated[0])
        returns.append(total)
        cut += running
        steps += length
    return returns, cut, steps


def keep(
    task: Task,
    folders: Sequence[Path],
    check: Callable[[], None],
    tell: Callable[[str], None],
    timeout: float = 60.0,
) -> None:
    """Measure a task and write the file into every folder; tells what it does, also if it cannot be done.

    The environment lives in a process of its own meanwhile: whatever it does, nothing else suffers.
    """
    tell(f"{task.env}: measuring the return of random actions, for the scores of the report")
    try:
        watch = envs.Supervision(timeout)
        vector = envs.make(
            task.env, max_episode_steps=task.max_episode_steps, action_repeat=task.action_repeat, watch=watch
        )
        try:
            returns, cut, steps = measure(vector, vector.longest_episode(task.eval_max_steps), check)
        finally:
            vector.close()
    except FewstepError as error:
        tell(f"{task.env}: no return of random actions, so no scores: {error}")
        return
    record = {
        "env": task.env,
        "max_episode_steps": task.max_episode_steps,
        "eval_max_steps": task.eval_max_steps,
        "action_repeat": task.action_repeat,
        "returns": returns,
        "cut": cut,
        "steps": steps,
        "simulator": provenance.simulator_words(provenance.versions(packages_used(task.env))),
    }
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RANDOM_RETURN, json.dumps(record) + "\n")
    tell(f"{task.env}: random actions give {np.mean(returns):,.4g} on average ({len(returns)} episodes)")


def complete(runs: Sequence[Run], check: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Measure every task of the runs that has no return of random actions, and keep it in their folders."""
    missing: dict[Task, list[Path]] = {}
    for run in runs:
        if not task_of(run).on_record and kept(run.random, task_of(run)) is None:
            missing.setdefault(task_of(run), []).append(run.path)
    for task, folders in missing.items():
        keep(task, folders, check, tell)


def task_of(run: Run) -> Task:
    """The task of a run, by its configuration."""
    names = ("max_episode_steps", "eval_max_steps")
    limit, longest = (int(n) if np.isfinite(n := run.setting("training", name)) else None for name in names)
    return Task(run.env, limit, longest, run.action_repeat)


def ends(runs: Sequence[Run]) -> tuple[float, float] | None:
    """The returns that the task's suite calls 0 and 1; None if it says nothing of that, or another time limit
    than its own was set."""
    task = task_of(runs[0])
    suite = suite_of(task.env)
    return suite.ends if suite and all(task_of(run).max_episode_steps is None for run in runs) else None


def zero(runs: Sequence[Run]) -> Zero:
    """The return of random actions on the task that all of ``runs`` share.

    Raises:
        UsageError: their time limits differ, or no number is on record or kept beside them.
    """
    tasks = list(dict.fromkeys(task_of(run) for run in runs))
    env = tasks[0].env
    if len({task.max_episode_steps for task in tasks}) > 1:
        raise UsageError(f"{env} cannot be normalised: its time limit is not the same in all runs")
    if len({task.action_repeat for task in tasks}) > 1:
        raise UsageError(f"{env} cannot be normalised: its action repeat is not the same in all runs")
    if tasks[0].on_record:
        return Zero(RANDOM[env], MUJOCO if packages_of(env) else "")
    for run in runs:
        found = [kept(run.random, task) for task in tasks]
        if found[0] is not None and None not in found:
            return found[0]
    raise UsageError(
        f"{env} cannot be normalised: no random return is on record for it (fewstep report --measure-random "
        "plays random actions)"
    )


def kept(record: dict[str, Any], task: Task) -> Zero | None:
    """What the file of a run says about a task; None if it is about another one, or damaged."""
    returns, cut = record.get("returns"), record.get("cut")
    asked = (task.env, task.max_episode_steps, task.action_repeat)
    if tuple(map(record.get, ("env", "max_episode_steps", "action_repeat"))) != asked:
        return None
    if not isinstance(returns, list) or len(returns) < 2 or not isinstance(cut, int):
        return None
    if cut and record.get("eval_max_steps") != task.eval_max_steps:
        return None
    if not all(isinstance(value, int | float) and np.isfinite(value) for value in returns):
        return None
    values = np.array(returns, float)
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    note = (
        f"Random actions on {task.env} were measured for these runs: {len(values)} episodes, reset seeds 0 "
        f"to {len(values) - 1}" + (f", {cut} of them cut as in evaluation." if cut else ".")
    )
    return Zero(Random(float(values.mean()), error, len(values)), str(record.get("simulator") or ""), note)
