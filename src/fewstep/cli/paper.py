"""Make a figure or table of the SMFP or MFPO paper from our own runs; interrupted, it goes on."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.cli.common import rooted, tell, whole
from fewstep.cli.experiment import add_known
from fewstep.errors import UsageError
from fewstep.papers.catalogue import SCALES

if TYPE_CHECKING:
    from fewstep.analysis.runs.reading import Run
    from fewstep.experiments.spec import Spec
    from fewstep.papers.catalogue import Item, Scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep paper``."""
    parser.add_argument("paper", metavar="PAPER", help="smfp or mfpo")
    parser.add_argument(
        "item", metavar="ITEM", nargs="?", help="which figure or table; without it they are listed"
    )
    parser.add_argument(
        "--scale",
        choices=SCALES,
        default="small",
        help="tiny: a minute, shows that it works; small: hours on two cores (default); full: the paper's "
        "sizes, steps and seeds",
    )
    parser.add_argument("--out", type=rooted, metavar="DIR", help="default runs/PAPER-ITEM-SCALE")
    parser.add_argument("--jobs", type=whole, metavar="N", help="as of `fewstep experiment`")
    parser.add_argument("--records", type=rooted, metavar="DIR", help="as of `fewstep experiment`")
    add_known(parser)
    parser.add_argument("--dry-run", action="store_true", help="list the runs and start nothing")
    parser.add_argument("--draw", action="store_true", help="draw from the runs that are there, start none")


def run(arguments: argparse.Namespace) -> int:
    """List, or run and draw; 1 if a run failed."""
    from fewstep.papers import catalogue

    if arguments.item is None:
        return _list(arguments.paper)
    from fewstep.experiments import spec
    from fewstep.papers import figure

    item = catalogue.item(arguments.paper, arguments.item)
    name = f"{item.paper}-{item.name}-{arguments.scale}"
    out: Path = arguments.out or rooted("runs") / name
    if item.compute is not None:
        return _compute(item, arguments, out)
    experiment = spec.parse(catalogue.experiment(item, arguments.scale), f"{item.paper} {item.name}")
    status = 0
    if item.draw == "evolution" and arguments.records:
        raise UsageError(f"{item.paper} {item.name} needs its policies, which records do not keep")
    if arguments.draw:
        _refuse(arguments, ("dry_run", "jobs", "known"), "--draw starts no runs")
    else:
        status = _train(item, experiment, arguments, out)
        if arguments.dry_run:
            return status
    runs, left_out = _finished(experiment, out, arguments.records)
    for line in left_out:
        tell(f"left out: {line}")
    for path in figure.write(item, arguments.scale, runs, left_out, out):
        print(path)
    return status


def _finished(experiment: "Spec", out: Path, records: Path | None) -> "tuple[list[Run], list[str]]":
    """The runs, or records of them, that are whole, and a line on each that is not.

    Raises:
        UsageError: a folder holds a run of another configuration.
    """
    from fewstep.algos import registry
    from fewstep.algos.contract import mode_name
    from fewstep.analysis.numbers import listing
    from fewstep.analysis.runs.reading import read_run
    from fewstep.experiments import plan
    from fewstep.experiments.records import evaluated

    runs, left_out = [], []
    for job in plan.expand(experiment, out):
        places = [root / job.path.relative_to(out) for root in (out, records) if root is not None]
        there = [place for place in places if place.is_dir()]
        for place in there:
            plan.refuse_other(job, place)
        best = max(there, key=evaluated, default=None)
        if best is None:
            left_out.append(f"{job.name}, not begun")
            continue
        steps, wanted = evaluated(best), job.config.training.steps
        if steps < wanted:
            left_out.append(f"{job.name}, evaluated at {steps:,} of {wanted:,} steps")
            continue
        run = read_run(best)
        last = {each.actions for each in run.evaluations if each.env_steps >= wanted}
        algorithm, cfg = registry.get(job.config.algo), job.config.algorithm
        asked = {mode_name(algorithm.mode(cfg, mode)) for mode in job.config.training.eval_modes}
        if run.problems or not asked <= last:
            lacking = listing(sorted(asked - last))
            left_out.append(f"{job.name}, {listing(run.problems) or f'its last evaluation has no {lacking}'}")
        else:
            runs.append(run)
    return runs, left_out


def _train(item: "Item", experiment: "Spec", arguments: argparse.Namespace, out: Path) -> int:
    """Run what is not finished; in stages with samples after each where actions along training are drawn."""
    from fewstep.cli.experiment import carry_out
    from fewstep.experiments import plan

    def carried(asked: "Spec") -> int:
        return carry_out(asked, out, arguments.jobs, arguments.records, arguments.known, arguments.dry_run)

    if item.draw != "evolution" or arguments.dry_run:
        return carried(experiment)
    from fewstep.papers import evolution

    obs, status = evolution.states(), 0
    runs = [job.path for job in plan.expand(experiment, out)]
    for steps in evolution.stages(max(entry.steps or 0 for entry in experiment.entries)):
        if all(evolution.sample_file(run, steps).is_file() for run in runs):
            continue
        entries = tuple(replace(entry, steps=steps) for entry in experiment.entries)
        status = carried(replace(experiment, entries=entries))
        if status:
            return status
        for run in runs:
            evolution.keep(run, steps, obs)
    return status


def _compute(item: "Item", arguments: argparse.Namespace, out: Path) -> int:
    from fewstep.papers import figure

    _refuse(
        arguments,
        ("jobs", "records", "known", "draw"),
        f"{item.paper} {item.name} is computed and has no runs",
    )
    if arguments.dry_run:
        print(f"to be computed: {_amounts(item, arguments.scale)}")
        return 0
    for path in figure.compute(item, arguments.scale, out):
        print(path)
    return 0


def _refuse(arguments: argparse.Namespace, options: Sequence[str], why: str) -> None:
    """Raise a UsageError if one of the options is given."""
    values = {name: getattr(arguments, name) for name in options}
    given = [
        name for name, value in values.items() if value is not None and value is not False and value != []
    ]
    if given:
        raise UsageError(f"{why}: leave out --{given[0].replace('_', '-')}")


def _amounts(item: "Item", scale: "Scale") -> str:
    from fewstep.analysis.numbers import count

    return ", ".join(count(amount, name.removesuffix("s")) for name, amount in item.amounts(scale).items())


def _list(paper: str) -> int:
    from fewstep.experiments import spec
    from fewstep.papers import catalogue

    items = catalogue.items(paper)
    print(f"{catalogue.PAPERS[paper]}\n")
    for item in items:
        print(f"{item.name:<16}{item.title}")
        for scale in ("small", "full"):
            if item.compute is not None:
                print(f"{'':<16}{scale}: computed, {_amounts(item, scale)}")
                continue
            tree = catalogue.experiment(item, scale)
            asked = spec.parse(tree, item.name)
            runs = sum(len(entry.envs) * len(entry.seeds) for entry in asked.entries)
            print(f"{'':<16}{scale}: {runs} runs of {tree['steps']:,} steps")
    print(f"\nfewstep paper {paper} ITEM --scale tiny|small|full")
    return 0
