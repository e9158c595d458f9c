"""Samplers of the time pairs (r, t) that a MeanFlow regression is trained on."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Times = Float[Array, "rows"]


@dataclass(frozen=True)
class TimeRows:
    """How many rows of a batch get which kind of time pair; they stand in this order.

    ``equal`` rows have r = t (the target is the velocity itself), of which the last ``equal_grid`` have t
    uniform on (0, 1]; ``apart`` rows have r < t, of which in the last ``apart_grid`` r is the start of one of
    the sampler's intervals and t uniform in it.
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


def uniform_pairs(
    key: PRNGKeyArray, rows: int, equal: int, grid: int = 0, steps: int = 1
) -> tuple[Times, Times]:
    """``(r, t)``, draws of U(0, 1): one, r = t, in the first ``equal`` rows, in the others two in order.

    But in the last ``grid`` rows r is the start of that of the sampler's ``steps`` intervals that t lies in.
    """
    first, second = jax.random.uniform(key, (2, rows))
    second = jnp.where(jnp.arange(rows) < equal, first, second)
    second = jnp.where(jnp.arange(rows) >= rows - grid, jnp.floor(first * steps) / steps, second)
    return jnp.minimum(first, second), jnp.maximum(first, second)


def sample_times(
    key: PRNGKeyArray, rows: TimeRows, *, mean: float, std: float, clamp: float, steps: int
) -> tuple[Times, Times]:
    """Draw (r, t) for every row.

    The pair is sorted *before* r := t is imposed on the first ``rows.equal`` rows, so in all rows t is
    distributed as the larger of two logit-normals (the official MeanFlow construction). That distribution all
    but never visits t below 0.15 or above 0.9, nor r = 0, and the T-step sampler needs just these: its step
    from t_i to r_i integrates the identity d/dt[(t - r) u] = v from t = r_i up to t_i. The grid rows put that
    into the training set: r is the start of one of the sampler's intervals, t uniform in the interval (a
    departure from the authors that the two-step policy's width depends on, see docs/algorithms/mfpo.md).

    Args:
        rows: the layout of the batch.
        mean, std: of the normal below the sigmoid.
        clamp: times of the other rows are kept in [clamp, 1 - clamp].
        steps: T of the sampler whose intervals [(i - 1) / T, i / T] are meant.

    Returns:
        ``(r, t)``, each ``[rows]``, 0 <= r <= t <= 1.
    """
    k_pair, k_grid, k_inside = jax.random.split(key, 3)
    count = rows.equal + rows.apart
    r, t = logit_normal_pair(k_pair, count, mean, std)
    r, t = jnp.clip(r, clamp, 1.0 - clamp), jnp.clip(t, clamp, 1.0 - clamp)
    row = jnp.arange(count)
    on_grid = ((row >= rows.equal - rows.equal_grid) & (row < rows.equal)) | (row >= count - rows.apart_grid)
    start = jax.random.randint(k_grid, (count,), 0, steps) / steps
    inside = start + (1.0 - jax.random.uniform(k_inside, (count,))) / steps
    t = jnp.where(on_grid, inside, t)
    r = jnp.where(on_grid, start, r)
    return jnp.where(row < rows.equal, t, r), t
