"""Which algorithms there are. Names and titles are known without importing any of them (or jax)."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fewstep import foreign
from fewstep.errors import UsageError, unknown

if TYPE_CHECKING:
    from fewstep.algos.contract import Algorithm


@dataclass(frozen=True)
class Entry:
    """Where an algorithm's record is, and its one-line title for lists."""

    module: str
    title: str


ALGORITHMS = {
    "crossq": Entry(
        "fewstep.algos.crossq",
        "CrossQ: SAC with batch renormalisation, wide critics and no target networks",
    ),
    "mfpo": Entry(
        "fewstep.algos.mfpo",
        "Mean Flow Policy Optimization: a two-step MeanFlow policy under maximum-entropy RL",
    ),
    "ppo": Entry(
        "fewstep.algos.ppo",
        "Proximal Policy Optimization: a Gaussian policy improved on its own rollouts, ratios clipped",
    ),
    "sac": Entry(
        "fewstep.algos.sac",
        "Soft Actor-Critic: a tanh-Gaussian policy under maximum-entropy RL",
    ),
    "smfp": Entry(
        "fewstep.algos.smfp",
        "Stochastic MeanFlow Policies: a one-step policy under entropic mirror descent",
    ),
    "td3": Entry(
        "fewstep.algos.td3",
        "Twin Delayed DDPG: a deterministic tanh policy with smoothed, delayed targets",
    ),
}


def get(name: str) -> "Algorithm":
    """The record of an algorithm.

    Args:
        name: a registered name, or ``module:ATTRIBUTE`` of an ``Algorithm`` record of the user's own.

    Raises:
        UsageError: no such algorithm; the nearest name is suggested.
    """
    if ":" not in name and name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    from fewstep.algos import numerics  # not before: it imports jax

    load = _from_user if ":" in name else _from_here
    return numerics.own(load)(name)


def _from_here(name: str) -> "Algorithm":
    return importlib.import_module(ALGORITHMS[name].module).ALGORITHM


def _from_user(name: str) -> "Algorithm":
    from fewstep.algos import plugin
    from fewstep.algos.contract import Algorithm

    module_name, _, attribute = name.partition(":")
    cannot = f"cannot load algorithm {name!r}"
    module = foreign.load(module_name, cannot)
    record: object = foreign.call(
        lambda error: UsageError(f"{cannot}: {foreign.brief(error)}; {foreign.origin(module_name)}"),
        getattr,
        module,
        attribute,
    )
    if not isinstance(record, Algorithm):
        raise UsageError(f"{name!r} is not a fewstep.algos.contract.Algorithm but a {type(record).__name__}")
    return plugin.adopted(name, record)
