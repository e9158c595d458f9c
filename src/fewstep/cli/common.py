"""Arguments and steps that several commands share."""

import argparse
from pathlib import Path

from fewstep import presets
from fewstep.config import RunConfig


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """ALGO ENV and everything that decides their configuration."""
    parser.add_argument(
        "algo", metavar="ALGO", help="algorithm (`fewstep algos`), or MODULE:ATTRIBUTE of your own"
    )
    parser.add_argument(
        "env", metavar="ENV", help="environment (`fewstep envs`), or MODULE:Id-v0 of your own"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="environment steps in total (training.steps)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="run seed (default 0)")
    parser.add_argument(
        "--preset", default=presets.DEFAULT, metavar="NAME", help="see `fewstep presets ALGO`"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file of settings, laid over the preset"
    )
    parser.add_argument(
        "--set",
        dest="sets",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="single settings, such as critic.atoms=51 training.envs=4 (`fewstep config ALGO ENV` lists all)",
    )


def resolved(arguments: argparse.Namespace) -> RunConfig:
    """The configuration that the arguments describe."""
    from fewstep.algos import registry
    from fewstep.config import resolve

    algorithm = registry.get(arguments.algo)
    overrides = {} if arguments.steps is None else {"training.steps": arguments.steps}
    return resolve(
        arguments.algo,
        algorithm.config,
        arguments.env,
        seed=arguments.seed,
        preset=arguments.preset,
        file=arguments.config,
        sets=arguments.sets,
        overrides=overrides,
    )
