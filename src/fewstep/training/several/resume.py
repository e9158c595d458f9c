"""Going on with several seeds in one process."""

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack

from fewstep.config import RunConfig
from fewstep.errors import UsageError
from fewstep.runs.files import write_text
from fewstep.runs.layout import RunDir
from fewstep.training.run.resume import read_config, refuse_fewer, reopen, resumed, with_steps
from fewstep.training.several import together
from fewstep.training.several.together import Failure, Member
from fewstep.training.signals import Check
from fewstep.training.trainer import Trainer


def resume_together(
    runs: Sequence[RunDir], steps: int | None, quiet: bool, check: Check, experience: bool = True
) -> list[Failure]:
    """``resume`` for runs of equal configs but the seed, side by side (``training.several.together``).

    Those with fewer steps than others catch up first. Gives the runs that failed.

    Raises:
        UsageError: they differ in more than the seed, one is named twice, or has more than ``steps``.
        FewstepError: checkpoints are damaged or do not fit the config.
    """
    read = [read_config(run) for run in runs]
    algorithm = read[0][1]
    configs = [config for config, _ in read]
    if steps is not None:
        configs = [with_steps(config, steps) for config in configs]
    _refuse_unlike(runs, configs)
    together.refuse_alone(configs[0])
    total = configs[0].training.steps
    with ExitStack() as stack:
        seeds = [config.seed for config in configs]
        reporters = stack.enter_context(together.reporting(runs, seeds, total, quiet))
        members: list[Member] = []
        for run, config, reporter in zip(runs, configs, reporters, strict=True):
            trainer, marks = reopen(run, config, algorithm, reporter, experience)
            stack.callback(trainer.close)
            assert isinstance(trainer, Trainer)  # others have been refused
            members.append(Member(trainer, run, reporter, marks))
        if steps is not None:
            for member in members:
                refuse_fewer(member.run, member.trainer, steps)
            for member in members:
                write_text(member.run.config, member.trainer.config.to_toml())
        for member in members:
            member.reporter.note(resumed(member.trainer))
        return together.train(members, check)


def _refuse_unlike(runs: Sequence[RunDir], configs: Sequence[RunConfig]) -> None:
    first = configs[0]
    for index, (run, config) in enumerate(zip(runs, configs, strict=True)):
        if dataclasses.replace(config, seed=first.seed) != first:
            raise UsageError(
                f"{run.path} and {runs[0].path} differ in more than the seed; resume them one by one"
            )
        for other, earlier in zip(runs[:index], configs[:index], strict=True):
            if earlier.seed == config.seed:
                raise UsageError(f"{other.path} and {run.path} have the same seed {config.seed}")
