"""A replay buffer on the device: the last ``capacity`` transitions in arrays, written in place under jit.

Transitions are numbered from 0 as they come; number n lies in row n mod capacity.
"""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from numpy.typing import NDArray

from fewstep.types import STORED, Spec, Transition

Count = Int[Array, ""] | int
Fields = Mapping[str, NDArray[np.float32] | NDArray[np.bool_]]


def empty(capacity: int, spec: Spec) -> Transition:
    """Room for ``capacity`` transitions."""
    return Transition(
        obs=jnp.zeros((capacity, spec.obs_size)),
        action=jnp.zeros((capacity, spec.act_size)),
        reward=jnp.zeros(capacity),
        terminated=jnp.zeros(capacity, bool),
        next_obs=jnp.zeros((capacity, spec.obs_size)),
    )


def add(ring: Transition, added: Count, rows: Transition) -> Transition:
    """Write ``rows`` (fields ``[E, ...]``, E at most the capacity) as the transitions from ``added`` on."""
    at = (added + jnp.arange(len(rows.reward))) % len(ring.reward)
    return jax.tree.map(lambda kept, new: kept.at[at].set(new), ring, rows)


def sample(
    ring: Transition, added: Count, key: PRNGKeyArray, shape: tuple[int, ...], first: Count | None = None
) -> Transition:
    """Uniform draws with replacement, of ``shape``, from the last ``min(added, capacity)`` transitions. At
    least one has been added. With their numbers, if that of the ring's first one ever is given."""
    capacity = len(ring.reward)
    at = jax.random.randint(key, shape, 0, jnp.minimum(added, capacity))
    drawn = jax.tree.map(lambda kept: kept[at], ring)
    if first is None:
        return drawn
    newest = added - 1
    return drawn._replace(number=first + newest - (newest - at) % capacity)


def read(fields: Fields, start: int, stop: int) -> dict[str, NDArray[np.float32] | NDArray[np.bool_]]:
    """The transitions numbered ``start`` to ``stop - 1``, in this order, of a ring on the host."""
    return {name: field[np.arange(start, stop) % len(field)] for name, field in fields.items()}


def on_host(ring: Transition) -> Fields:
    """A copy, which stays as it is when the ring's memory is given to the next dispatch."""
    return {name: np.array(getattr(ring, name)) for name in STORED}


def refilled(ring: Transition, pieces: Iterable[tuple[int, Fields]]) -> Transition:
    """The ring with saved transitions: number of the first one and the fields, in turn."""
    fields = {name: np.array(getattr(ring, name)) for name in STORED}
    for start, piece in pieces:
        for name, field in fields.items():
            field[np.arange(start, start + len(piece[name])) % len(field)] = piece[name]
    return Transition(**{name: jnp.array(field) for name, field in fields.items()})
