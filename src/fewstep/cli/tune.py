"""Search good settings from one file: trials suggested and pruned by Optuna; interrupted, it goes on."""

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.cli.common import rooted, tell, whole
from fewstep.errors import UsageError

if TYPE_CHECKING:
    from fewstep.experiments.schedule import Executor
    from fewstep.tuning.spec import Search


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep tune``."""
    parser.add_argument(
        "spec",
        metavar="SPEC.toml",
        type=rooted,
        help="TOML file: algo, env, seeds, steps, trials, and what to [search]",
    )
    parser.add_argument("--out", type=rooted, metavar="DIR", help="folder of the runs (default runs/SPEC)")
    parser.add_argument("--jobs", type=whole, metavar="N", help="as of `fewstep experiment`")
    parser.add_argument("--dry-run", action="store_true", help="say what is searched and start nothing")


def run(arguments: argparse.Namespace) -> int:
    """0 if every trial is over and none failed, else 1; a signal saves all and leaves with 130 or 143."""
    from fewstep.experiments import executors
    from fewstep.tuning import spec

    if importlib.util.find_spec("optuna") is None:
        raise UsageError("fewstep tune needs Optuna: pip install 'fewstep[tune]'")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, got {arguments.jobs}")
    search = spec.read(arguments.spec)
    out: Path = arguments.out or rooted("runs") / arguments.spec.stem
    engine, most = executors.get(search.resources.executor), arguments.jobs or 0
    if arguments.dry_run:
        engine.preview(search.resources, out / "logs", [], most)  # whether there are such resources
        _describe(search, out)
        return 0
    return _carry_out(search, out, engine(search.resources, out / "logs", most))


def _describe(search: "Search", out: Path) -> None:
    for name, domain in search.space.items():
        print(f"{name}: {domain}")
    seeds = len(search.entry.seeds)
    most = search.trials * seeds * search.steps
    print(f"{search.trials:,} trials of {seeds} x {search.steps:,} steps into {out}: {most:,} steps at most")
    if search.rungs:
        rungs = " and ".join(f"{rung:,}" for rung in search.rungs)
        print(f"at {rungs} steps about one trial in {search.reduction} goes on")


def _carry_out(search: "Search", out: Path, executor: "Executor") -> int:
    from optuna.trial import FrozenTrial, TrialState

    from fewstep.experiments.display import Display
    from fewstep.runs.layout import RunDir
    from fewstep.training.signals import watched
    from fewstep.tuning import report, study
    from fewstep.tuning.runs import Runs, label

    def observe(trial: FrozenTrial) -> None:
        words = trial.user_attrs.get(study.FAILURE) or f"{trial.value:.6g} at {trial.last_step:,} steps"
        tell(f"{label(trial.number)}: {trial.state.name.lower()}, {words}")

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another --out") from error
    with RunDir(out).locked():
        file = study.open_file(search, out)
        with watched() as check, Display(executor.slots) as display:
            study.run(search, file, Runs(search, out, executor, display.show, check).scores, observe)
        paths = report.write(search, file, out)
    trials = file.get_trials()
    failed = sum(trial.state is TrialState.FAIL for trial in trials)
    print(f"{len(trials) - failed} of {len(trials)} trials were scored")
    for path in paths:
        print(path)
    return 1 if failed else 0
