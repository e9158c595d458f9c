"""Which trial gets which settings and how many steps: Optuna's sampler and pruner on the scores of our runs.

The study in the file holds trials that are over, each written in one transaction. Those of the batch at work
live in memory and are made anew if the search is interrupted: the suggestions of a batch follow from the
trials before it and the sampler's seed, and its runs are there as far as they got. So a search that is killed
at any instant and started again ends like one that was not.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from fewstep.config.settings import Flat
from fewstep.errors import UsageError
from fewstep.tuning.space import Choices, Domain
from fewstep.tuning.spec import Search

NAME = "tune"
FILE = "study.db"
IDENTITY = "search"
FAILURE = "failure"
"""Attributes: of the study, what decides its trials; of a failed trial, why."""

Scores = Callable[[Mapping[int, Flat], int], Mapping[int, float | str]]
"""``(trial -> settings, environment steps) -> trial -> score``, or why the trial failed."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_file(search: Search, folder: Path) -> optuna.Study:
    """The study of the search in a folder; a new one if there is none.

    SQLite, not Optuna's journal: a process killed as it writes leaves a line in the journal that no later
    start can read, and in a database a transaction that is rolled back.

    Raises:
        UsageError: the folder holds the study of another search, or a file that is none.
    """
    path = folder / FILE
    if not path.exists():
        new = folder / f".{FILE}.tmp"
        new.unlink(missing_ok=True)
        _load(new).set_user_attr(IDENTITY, json.dumps(search.identity))
        os.replace(new, path)
    try:
        study = _load(path)
        there = json.loads(study.user_attrs[IDENTITY])
    except Exception as error:  # SQLAlchemy's errors, an attribute that is not there, no JSON
        raise UsageError(f"{path} is not the study of a search; choose another --out") from error
    other = [key for key, value in search.identity.items() if there.get(key) != value]
    if other:
        raise UsageError(
            f"{folder} holds a search with another {', '.join(other)}; choose another --out, or move it away "
            "(only trials and resources may change)"
        )
    return study


def _load(path: Path) -> optuna.Study:
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    return optuna.create_study(storage=storage, study_name=NAME, direction="maximize", load_if_exists=True)


def run(search: Search, study: optuna.Study, scores: Scores, observe: Callable[[FrozenTrial], None]) -> None:
    """Run all trials that are not over yet.

    Args:
        search: what is searched.
        study: holds the trials that are over, and gets the others.
        scores: runs the trials that go on, to so many steps.
        observe: told of every trial that is over.
    """
    for first in range(0, search.trials, search.batch):
        over = study.get_trials()
        end = min(first + search.batch, search.trials)
        if len(over) < end:
            for trial in batch(search, over[:first], range(first, end), scores)[len(over) - first :]:
                study.add_trial(trial)
                observe(trial)


def batch(
    search: Search, before: Sequence[FrozenTrial], numbers: Sequence[int], scores: Scores
) -> list[FrozenTrial]:
    """Suggest the trials ``numbers`` from those before them, run them from rung to rung and prune the worse.

    A trial's suggestion depends on the trials before its batch, and on those of its batch with lower numbers
    only by their settings; whether it is pruned at a rung, on the scores of all these there.
    """
    study = optuna.create_study(direction="maximize", pruner=_pruner(search))
    study.add_trials(before)
    distributions = {name: distribution(domain) for name, domain in search.space.items()}
    going: dict[int, optuna.Trial] = {}
    for number in numbers:
        study.sampler = optuna.samplers.TPESampler(seed=sampler_seed(search, number))
        going[number] = study.ask(distributions)
    for steps in (*search.rungs, search.steps):
        found = scores({number: settings_of(search, trial.params) for number, trial in going.items()}, steps)
        for number, trial in list(going.items()):
            score = found[number]
            if isinstance(score, str):
                trial.set_user_attr(FAILURE, score)
                study.tell(trial, state=TrialState.FAIL)
            else:
                trial.report(score, steps)
                if steps == search.steps:
                    study.tell(trial, score)
                elif trial.should_prune():
                    study.tell(trial, state=TrialState.PRUNED)  # its value: the last that was reported
                else:
                    continue
            del going[number]
    return study.get_trials()[len(before) :]


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    if not search.rungs:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=search.rungs[0], reduction_factor=search.reduction
    )


def sampler_seed(search: Search, number: int) -> int:
    """The seed of a trial's sampler: a random stream of its own, wherever the search was interrupted."""
    return int(np.random.SeedSequence([search.sampler_seed, number]).generate_state(1)[0])


def distribution(domain: Domain) -> BaseDistribution:
    """A setting's domain in Optuna's words; choices are texts, since its storage knows no lists."""
    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.texts)
    if domain.whole:
        step = 1 if domain.step is None else int(domain.step)
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=step)
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def settings_of(search: Search, params: Mapping[str, Any]) -> Flat:
    """The settings that a trial's parameters stand for."""
    found: Flat = {}
    for name, domain in search.space.items():
        value = params[name]
        found[name] = domain.values[domain.texts.index(value)] if isinstance(domain, Choices) else value
    return found
