"""Samplers of the time pairs (r, t) that a MeanFlow regression is trained on."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Times = Float[Array, "rows"]


@dataclass(frozen=True)
class TimeRows:
    """How many rows of a batch get which kind of time pair; they stand in this order.

    ``equal`` rows have r = t (the target is the velocity itself), of which the last ``equal_grid`` lie on the
    sampler's grid; ``apart`` rows have r < t, of which the last ``apart_grid`` are exact pairs of the
    sampler's grid.
    """

    equal: int
    equal_grid: int
    apart: int
    apart_grid: int

    @staticmethod
    def split(rows: int, equal_share: float, grid_share: float) -> "TimeRows":
        """Floor of the shares, by position and not by coin flips: rows of a batch are exchangeable."""
        equal = int(equal_share * rows)
        apart = rows - equal
        return TimeRows(equal, int(grid_share * equal), apart, int(grid_share * apart))


def logit_normal_pair(key: PRNGKeyArray, rows: int, mean: float, std: float) -> tuple[Times, Times]:
    """Per row the smaller and the larger of two draws of sigmoid(N(mean, std^2)), as (r, t)."""
    draws = jax.nn.sigmoid(mean + std * jax.random.normal(key, (2, rows)))
    return draws.min(0), draws.max(0)


def sample_times(
    key: PRNGKeyArray, rows: TimeRows, *, mean: float, std: float, clamp: float, steps: int
) -> tuple[Times, Times]:
    """Draw (r, t) for every row.

    The pair is sorted *before* r := t is imposed on the first ``rows.equal`` rows, so in all rows t is
    distributed as the larger of two logit-normals (the official MeanFlow construction). That distribution
    practically never reaches t = 1 or the long intervals that the ``steps``-step sampler asks for; the grid
    rows put them into the training set (a departure, see the docs).

    Args:
        rows: the layout of the batch.
        mean, std: of the normal below the sigmoid.
        clamp: drawn times are kept in [clamp, 1 - clamp]; grid times are exact and include t = 1.
        steps: T of the sampler whose grid is meant.

    Returns:
        ``(r, t)``, each ``[rows]``, 0 <= r <= t <= 1.
    """
    k_pair, k_grid = jax.random.split(key)
    count = rows.equal + rows.apart
    r, t = logit_normal_pair(k_pair, count, mean, std)
    r, t = jnp.clip(r, clamp, 1.0 - clamp), jnp.clip(t, clamp, 1.0 - clamp)
    row = jnp.arange(count)
    end = jax.random.randint(k_grid, (count,), 1, steps + 1)
    on_grid = ((row >= rows.equal - rows.equal_grid) & (row < rows.equal)) | (row >= count - rows.apart_grid)
    t = jnp.where(on_grid, end / steps, t)
    r = jnp.where(on_grid, (end - 1) / steps, r)
    return jnp.where(row < rows.equal, t, r), t
