"""Measure this machine: updates against their floor, acting, training steps, environments."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewstep.cli.common import rooted, whole

if TYPE_CHECKING:
    from fewstep.config import RunConfig

ENVS = ("HalfCheetah-v4", "Hopper-v4", "Walker2d-v4", "Ant-v4", "Humanoid-v4")
PAPER_SIZES = {"smfp": "mujoco", "mfpo": "authors"}
"""Presets with the sizes of the paper, where that is not ``default``."""
RUNTIMES = ("predict", "onnxruntime", "c -O3 native")
Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep bench``."""
    parser.add_argument(
        "what",
        metavar="MEASURE",
        choices=tuple(MEASURES),
        help="update: ms per update and the floor; act: microseconds per action; train: steps per "
        "second and where a step's time goes; envs: environment steps per second",
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="algorithms, or with envs environments (default: all, some)"
    )
    parser.add_argument(
        "--env", metavar="ENV", help="whose sizes, or which to train on (default HalfCheetah-v4)"
    )
    parser.add_argument("--preset", metavar="NAME", help="see `fewstep presets ALGO` (default small)")
    parser.add_argument(
        "--set",
        dest="sets",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings (`fewstep settings ALGO`)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="with act: every algorithm at the sizes of its paper, single samples and as it is evaluated",
    )
    parser.add_argument("--repeats", type=whole, default=20, metavar="N", help="timings of each row")
    parser.add_argument("--json", type=rooted, metavar="FILE", help="also write rows and machine there")


def run(arguments: argparse.Namespace) -> int:
    """Print a table as it fills, and the machine it was measured on."""
    from fewstep.errors import UsageError

    if arguments.repeats < 1:
        raise UsageError(f"--repeats must be at least 1, got {arguments.repeats}")
    if arguments.all and arguments.what != "act":
        raise UsageError("--all belongs to `fewstep bench act`")
    if arguments.all and arguments.preset:
        raise UsageError("--all measures every algorithm at the sizes of its paper; leave --preset out")
    if arguments.what == "envs" and (arguments.env or arguments.preset or arguments.sets):
        raise UsageError("bench envs takes names of environments; leave --env, --preset and --set out")
    arguments.env, arguments.preset = arguments.env or "HalfCheetah-v4", arguments.preset or "small"
    if arguments.json:
        _write(arguments.json, "")  # before the time that a measurement takes
    machine = _machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    rows: list[Row] = []
    MEASURES[arguments.what](arguments, lambda row: _show(rows, row))
    if arguments.json:
        content = {"what": arguments.what, "machine": machine, "rows": rows}
        _write(arguments.json, json.dumps(content, indent=1) + "\n")
    return 0


def _write(path: Path, text: str) -> None:
    from fewstep.errors import FewstepError

    try:
        with path.open("a" if not text else "w") as file:
            file.write(text)
    except OSError as error:
        raise FewstepError(f"cannot write {path}: {error.strerror}") from error


def _show(rows: list[Row], row: Row) -> None:
    """One line, under a head whenever the columns change."""
    width = max(10, *(len(name) for name in list(row)[1:]))
    if not rows or list(rows[-1]) != list(row):
        print(f"{next(iter(row)):24}" + "".join(f"{name:>{width + 1}}" for name in list(row)[1:]))
    rows.append(row)
    label, *values = row.values()
    print(f"{label:24}" + "".join(f"{value:>{width + 1}}" for value in values), flush=True)


def _machine() -> Row:
    from fewstep.bench.machine import cores, processor
    from fewstep.runs.provenance import versions

    return {"processor": processor(), "cores": cores(), **versions(("fewstep", "jax", "numpy", "mujoco"))}


def _configs(arguments: argparse.Namespace, replay_only: bool) -> "Sequence[RunConfig]":
    from fewstep.algos import registry
    from fewstep.config import resolve

    every = [n for n in registry.entries() if not replay_only or registry.get(n).rollout is None]
    return [
        resolve(
            name,
            registry.get(name).config,
            arguments.env,
            preset=arguments.preset,
            sets=arguments.sets,
        )
        for name in arguments.names or every
    ]


def _update(arguments: argparse.Namespace, show: Callable[[Row], None]) -> None:
    from fewstep import envs
    from fewstep.algos import registry
    from fewstep.bench import peak, updates

    configs = _configs(arguments, replay_only=True)
    made = envs.make(arguments.env)
    made.close()
    for config in configs:
        algorithm = registry.get(config.algo)
        updates.require_replay(algorithm)
        data = updates.batch(made.spec, config.algorithm.replay.batch_size, algorithm.numbered)
        case = updates.Case(algorithm, config.algorithm, made.spec, data)
        found = updates.update_times(case, arguments.repeats, peak.gemm_peak())
        columns = ("min_ms", "median_ms", "floor_ms", "ratio", "temporaries_mb", "compile_seconds")
        show({"update": f"{config.algo} {arguments.preset}", **{c: found.get(c, "-") for c in columns}})


def _act(arguments: argparse.Namespace, show: Callable[[Row], None]) -> None:
    from fewstep.api import Model
    from fewstep.bench import acting
    from fewstep.errors import UsageError

    if arguments.sets:
        raise UsageError("bench act times a preset as it is; leave --set out")
    if arguments.all:
        _every_act(arguments, show)
        return
    for config in _configs(arguments, replay_only=False):
        model = Model(config.algo, arguments.env, preset=arguments.preset)
        found = acting.measure(model, "sample", chunks=50 * arguments.repeats, calls=2)
        model.close()
        # The fastest chunk: one that something else disturbed tells of that.
        show({"us per action": config.algo} | {name: round(min(times), 1) for name, times in found.items()})


def _every_act(arguments: argparse.Namespace, show: Callable[[Row], None]) -> None:
    """The inference table of the papers: evaluations of the network per action, and microseconds."""
    from fewstep.algos import registry
    from fewstep.api import Model
    from fewstep.bench import acting

    for name in arguments.names or registry.BUILT_IN:
        model = Model(name, arguments.env, preset=PAPER_SIZES.get(name, "default"))
        cfg = model.config.algorithm
        actor = getattr(cfg, "actor", None)
        steps = getattr(actor, "steps", 1) * (2 if getattr(actor, "solver", "") == "midpoint" else 1)
        candidates = registry.get(name).native(cfg).candidates
        for actions, draws in (("sample", 1), ("native", candidates)):
            found = acting.measure(model, actions, 10 * arguments.repeats, 1, RUNTIMES)
            row = {"us per action": f"{name} {actions}", "evaluations": draws * steps}
            show(row | {runtime: round(min(times), 1) for runtime, times in found.items()})
        model.close()


def _train(arguments: argparse.Namespace, show: Callable[[Row], None]) -> None:
    from fewstep.algos import registry
    from fewstep.bench import training

    for config in _configs(arguments, replay_only=True):
        found = training.measure(config, registry.get(config.algo), steps=20 * arguments.repeats)
        row = {"train": f"{config.algo} {arguments.preset}", "steps/s": round(found.steps_per_second, 1)}
        for name in ("act_ms", "environment_ms", "batch_ms", "outside_ms", "update_ms"):
            row[name] = round(getattr(found, name), 3)
        show(row | {"start_s": round(found.start_seconds, 1)})


def _envs(arguments: argparse.Namespace, show: Callable[[Row], None]) -> None:
    from fewstep.bench import stepping

    for env in arguments.names or ENVS:
        found = stepping.measure(env)
        show(
            {
                "steps per second": env,
                "gymnasium": round(found.gymnasium),
                "fewstep": round(found.one),
                f"fewstep x{found.count}": round(found.several),
            }
        )


MEASURES: dict[str, Callable[[argparse.Namespace, Callable[[Row], None]], None]] = {
    "update": _update,
    "act": _act,
    "train": _train,
    "envs": _envs,
}
"""What can be measured: ``(arguments, show)``, where ``show`` takes each row as it is known."""
