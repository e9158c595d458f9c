"""Print the BibTeX entry of an algorithm's paper."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``fewstep cite``."""
    parser.add_argument("algo", metavar="ALGO", help="algorithm (`fewstep algos`)")


def run(arguments: argparse.Namespace) -> int:
    """Print the citation."""
    from fewstep.algos import registry

    print(registry.get(arguments.algo).citation.strip())
    return 0
