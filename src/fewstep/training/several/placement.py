"""Which device holds which seeds: one mesh axis ``seeds`` over the devices that jax sees."""

from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fewstep.algos import numerics

T = TypeVar("T")
AXIS = "seeds"
EVERY = PartitionSpec()
"""What is the same for all seeds: a copy on every device."""
SPLIT = PartitionSpec(AXIS)
"""What has a leading axis of seeds: equal parts of it on each device."""


def devices_for(seeds: int, visible: int) -> int:
    """The largest divisor of ``seeds`` that is at most ``visible``: every device holds equally many."""
    return next(count for count in range(min(seeds, visible), 0, -1) if seeds % count == 0)


@numerics.own
def mesh_for(seeds: int) -> Mesh | None:
    """The mesh of this number of seeds; None if one device holds all of them."""
    visible = jax.local_devices()
    count = devices_for(seeds, len(visible))
    return None if count == 1 else Mesh(np.array(visible[:count]), (AXIS,))


def described(seeds: int) -> str | None:
    """Which devices this number of seeds is on, as a line for the log; None where jax sees only one."""
    visible = len(jax.local_devices())
    if visible == 1:
        return None
    count = devices_for(seeds, visible)
    return f"{seeds} seeds on {count} of {visible} devices, {seeds // count} on each"


@numerics.own
def spread(tree: T, mesh: Mesh | None, specs: Any = SPLIT) -> T:
    """``tree`` on the devices of the mesh, its leaves by ``specs`` (one for all, or a tree of them)."""
    if mesh is None:
        return tree
    if isinstance(specs, PartitionSpec):
        return jax.device_put(tree, NamedSharding(mesh, specs))
    return jax.device_put(tree, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))


@numerics.own
def gathered(tree: T, mesh: Mesh | None) -> T:
    """What ``spread`` gave, or was computed from it, on the first device alone."""
    return tree if mesh is None else jax.device_put(tree, mesh.devices.flat[0])
