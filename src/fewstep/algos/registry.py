"""Which algorithms there are. Names are known without importing any of them (or jax)."""

import functools
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fewstep import foreign
from fewstep.errors import UsageError, unknown

if TYPE_CHECKING:
    from fewstep.algos.contract import Algorithm


@dataclass(frozen=True)
class Entry:
    """Where an algorithm's record is.

    Attributes:
        record: ``module:ATTRIBUTE``.
        model: name of its class in ``fewstep`` (``fewstep.SAC``).
    """

    record: str
    model: str


BUILT_IN = {
    "crossq": Entry("fewstep.algos.crossq:ALGORITHM", "CrossQ"),
    "dacer": Entry("fewstep.algos.dacer:ALGORITHM", "DACER"),
    "dime": Entry("fewstep.algos.dime:ALGORITHM", "DIME"),
    "dipo": Entry("fewstep.algos.dipo:ALGORITHM", "DIPO"),
    "dpmd": Entry("fewstep.algos.dpmd:ALGORITHM", "DPMD"),
    "flac": Entry("fewstep.algos.flac:ALGORITHM", "FLAC"),
    "flag": Entry("fewstep.algos.flag:ALGORITHM", "FLAG"),
    "flame": Entry("fewstep.algos.flame:ALGORITHM", "FLAME"),
    "flowrl": Entry("fewstep.algos.flowrl:ALGORITHM", "FlowRL"),
    "fpmd": Entry("fewstep.algos.fpmd:ALGORITHM", "FPMD"),
    "maxentdp": Entry("fewstep.algos.maxentdp:ALGORITHM", "MaxEntDP"),
    "mdpo": Entry("fewstep.algos.mdpo:ALGORITHM", "MDPO"),
    "meanflowql": Entry("fewstep.algos.meanflowql:ALGORITHM", "MeanFlowQL"),
    "mfpo": Entry("fewstep.algos.mfpo:ALGORITHM", "MFPO"),
    "mpo": Entry("fewstep.algos.mpo:ALGORITHM", "MPO"),
    "ppo": Entry("fewstep.algos.ppo:ALGORITHM", "PPO"),
    "qsm": Entry("fewstep.algos.qsm:ALGORITHM", "QSM"),
    "qvpo": Entry("fewstep.algos.qvpo:ALGORITHM", "QVPO"),
    "sac": Entry("fewstep.algos.sac:ALGORITHM", "SAC"),
    "sacflow": Entry("fewstep.algos.sacflow:ALGORITHM", "SACFlow"),
    "sdac": Entry("fewstep.algos.sdac:ALGORITHM", "SDAC"),
    "smfp": Entry("fewstep.algos.smfp:ALGORITHM", "SMFP"),
    "som": Entry("fewstep.algos.som:ALGORITHM", "SOM"),
    "td3": Entry("fewstep.algos.td3:ALGORITHM", "TD3"),
}
"""The one place where an algorithm of this package is registered."""
GROUP = "fewstep.algorithms"
"""Entry-point group by which other packages add algorithms: ``name = "module:ATTRIBUTE"``."""


@functools.cache
def entries() -> dict[str, Entry]:
    """Every algorithm that has a name, in alphabetical order: built in, or of an installed package."""
    from importlib.metadata import (
        entry_points,  # not before: it takes longer than all else of `import fewstep`
    )

    found = {point.name: Entry(point.value, point.name) for point in entry_points(group=GROUP)}
    return dict(sorted((found | BUILT_IN).items()))


def get(name: str) -> "Algorithm":
    """The record of an algorithm.

    Args:
        name: a registered name, or ``module:ATTRIBUTE`` of an ``Algorithm`` record of the user's own.

    Raises:
        UsageError: no such algorithm; the nearest name is suggested.
    """
    if ":" not in name and name not in entries():
        raise unknown("algorithm", name, entries())
    from fewstep.algos import normalised, numerics  # not before: they import jax

    record = name if ":" in name else entries()[name].record
    built_in = any(record == entry.record for entry in BUILT_IN.values())
    return normalised.on_request(numerics.own(_from_here if built_in else _from_user)(record))


def _from_here(name: str) -> "Algorithm":
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


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
