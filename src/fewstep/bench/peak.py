"""The peak of the processor or accelerator: the best rate of a float32 matrix product, and of a copy."""

import time

import jax
import jax.numpy as jnp

from fewstep.algos import numerics

SIZES = ((256, 256, 256), (1024, 256, 256), (4096, 256, 256), (512, 2048, 2048))
"""Rows, inputs, outputs: a small batch, one in cache, one that is not, and a wide critic."""
LARGE = (8192, 4096, 4096)
"""What an accelerator needs to reach its peak."""


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
    """The largest rate over ``SIZES``, in operations per second, on the cores this process may use; on an
    accelerator also of ``LARGE``, with the precision that jax takes there by default."""
    sizes = SIZES if jax.default_backend() == "cpu" else (*SIZES, LARGE)
    return max(gemm_rate(*size) for size in sizes)


@numerics.own
def copy_rate(megabytes: int | None = None, seconds: float = 0.2) -> float:
    """Bytes per second that are read and written as an array is copied, the best of as many copies as fit
    into ``seconds``. The array is larger than caches are: 256 MB on a CPU, 2 GB elsewhere."""
    size = megabytes or (256 if jax.default_backend() == "cpu" else 2048)
    array = jnp.zeros(size * 250_000, jnp.float32)
    copy = jax.jit(lambda x: x + 1.0).lower(array).compile()
    copy(array).block_until_ready()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        copy(array).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * array.nbytes / best
