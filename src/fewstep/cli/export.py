"""Write a trained policy as a small artefact that acts without jax."""

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep export``."""
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
    parser.add_argument(
        "--to", required=True, metavar="FORMAT", help="numpy (one file) or c (a C99 file and its header)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="file to write (default: export/policy in the run directory)"
    )
    parser.add_argument(
        "--noise",
        choices=("input", "inside"),
        default="input",
        help="input: the caller gives the noise (default); inside: the artefact can also draw it",
    )
    parser.add_argument(
        "--mode",
        choices=("sample", "mode"),
        default="sample",
        help="sample: one draw of the policy per action (default); mode: the noise-free action",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export the run's newest saved policy and print the files written."""
    from fewstep import __version__
    from fewstep.deploy import formats
    from fewstep.errors import UsageError

    formats.get(arguments.to)  # a slip should not wait for jax
    if arguments.mode == "mode" and arguments.noise == "inside":
        raise UsageError("--noise inside has no meaning with --mode mode, which needs no noise")

    from fewstep.deploy.description import Box, Description, Exported
    from fewstep.deploy.lower import lower
    from fewstep.runs.layout import RunDir
    from fewstep.training import policy_io
    from fewstep.training.interface import Interface

    directory = RunDir.open(arguments.run)
    saved = policy_io.load(directory.policy)
    space: Any = Interface(saved.env).action_space
    box = Box(tuple(space.low.ravel().tolist()), tuple(space.high.ravel().tolist()), space.shape)
    noise_free = arguments.mode == "mode"
    program = lower(saved.algorithm, saved.cfg, saved.policy, saved.spec, box, noise_free)
    description = Description(
        saved.algorithm.name,
        saved.env,
        saved.env_steps,
        saved.updates,
        arguments.mode,
        arguments.noise,
        box.shape,
        __version__,
    )
    out = arguments.out or directory.path / "export" / "policy"
    for path in formats.write(Exported(program, description), arguments.to, out):
        print(path)
    return 0
