"""The peak of the processor: the best rate of a float32 matrix product of the sizes that updates use."""

import time

import jax
import jax.numpy as jnp

from fewstep.algos import numerics

SIZES = ((256, 256, 256), (1024, 256, 256), (4096, 256, 256), (512, 2048, 2048))
"""Rows, inputs, outputs: a small batch, one in cache, one that is not, and a wide critic."""


@numerics.own
def gemm_rate(rows: int, inputs: int, outputs: int, seconds: float = 0.2) -> float:
    """Operations per second of one float32 product, the best of as many as fit into ``seconds``."""
    k_left, k_right = jax.random.split(jax.random.key(0))
    left, right = jax.random.normal(k_left, (rows, inputs)), jax.random.normal(k_right, (inputs, outputs))
    product = jax.jit(jnp.matmul).lower(left, right).compile()
    product(left, right).block_until_ready()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        product(left, right).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * rows * inputs * outputs / best


def gemm_peak() -> float:
    """The largest rate over ``SIZES``, in operations per second, on the cores this process may use."""
    return max(gemm_rate(*size) for size in SIZES)
