"""Write a trained policy as a small artefact that acts without jax."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep export``."""
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="numpy, onnx or stablehlo (one file each), or c (a C99 file and its header)",
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
        "--actions",
        default="sample",
        metavar="HOW",
        help="sample: one draw of the policy per action (default); mode: the noise-free action; native: as "
        "the paper evaluates; best-of-N: the best of N draws by the critics, which are then inside",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export the run's newest saved policy and print the files written."""
    from fewstep.deploy.formats import registry as formats

    formats.get(arguments.to)  # a slip should not wait for jax

    from fewstep.deploy.export import pack
    from fewstep.runs.layout import RunDir
    from fewstep.training import policy_io

    directory = RunDir.open(arguments.run)
    saved = policy_io.load(directory.policy)
    exported = pack(
        saved.algorithm,
        saved.cfg,
        saved.policy,
        saved.info,
        env_steps=saved.env_steps,
        updates=saved.updates,
        actions=arguments.actions,
        noise=arguments.noise,
    )
    out = arguments.out or directory.path / "export" / "policy"
    for path in formats.write(exported, arguments.to, out):
        print(path)
    return 0
