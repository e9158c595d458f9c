"""Write a trained policy as a small artefact that acts without jax."""

import argparse

from fewstep.cli.common import rooted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep export``."""
    parser.add_argument("run", metavar="RUN", type=rooted, help="run directory")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="numpy, onnx or stablehlo (one file each), c (a C99 file and its header) or c-library (a folder "
        "with these, CMakeLists.txt, pkg-config and an example)",
    )
    parser.add_argument(
        "--out",
        type=rooted,
        metavar="PATH",
        help="file, for c-library folder, to write (default: export/policy in the run directory)",
    )
    parser.add_argument(
        "--prefix",
        metavar="NAME",
        help="with --to c or c-library: what every name in the files begins with (default fewstep), so that "
        "several policies can be linked into one program",
    )
    parser.add_argument(
        "--noise",
        choices=("input", "inside", "fixed"),
        default="input",
        help="input: the caller gives the noise (default); inside: the artefact can also draw it; fixed: it "
        "is that of predict(deterministic=True), so one observation gives one action",
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

    formats.get(arguments.to, arguments.prefix)  # a slip should not wait for jax

    from fewstep.deploy.export import pack
    from fewstep.runs.layout import RunDir
    from fewstep.training import acting, saved_policy
    from fewstep.training.run.resume import read_config

    directory = RunDir.open(arguments.run)
    config, _ = read_config(directory)
    saved = saved_policy.load(directory.policy, config.env)
    fixed = acting.deterministic_key(config.seed) if arguments.noise == "fixed" else None
    exported = pack(
        saved.algorithm,
        saved.cfg,
        saved.policy,
        saved.info,
        env_steps=saved.env_steps,
        updates=saved.updates,
        actions=arguments.actions,
        noise=arguments.noise,
        fixed=fixed,
    )
    out = arguments.out or directory.path / "export" / "policy"
    for path in formats.write(exported, arguments.to, out, arguments.prefix):
        print(path)
    return 0
