"""The multilayer perceptron of the MeanFlow line: Dense, LayerNorm, GELU, repeated; a linear head."""

from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.nets.layers import Init, LayerNorm, Linear, gelu


class MLP(eqx.Module):
    """``len(hidden)`` blocks Linear -> LayerNorm -> GELU and a linear head, on one sample."""

    blocks: tuple[tuple[Linear, LayerNorm], ...]
    head: Linear

    @staticmethod
    def create(
        key: PRNGKeyArray,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        init: Init = "xavier_uniform",
        head_init: Init = "xavier_uniform",
    ) -> "MLP":
        """Kernels from ``init``, the head's from ``head_init`` ("zeros": the network starts at exactly 0)."""
        sizes = [inputs, *hidden]
        *keys, head_key = jax.random.split(key, len(sizes))
        blocks = tuple(
            (Linear.create(k, n_in, n_out, init), LayerNorm.create(n_out))
            for k, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
        )
        return MLP(blocks, Linear.create(head_key, sizes[-1], outputs, head_init))

    def __call__(self, *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
        """Evaluate on the concatenation of ``parts`` (see ``Linear`` for why they come apart)."""
        for linear, norm in self.blocks:
            parts = (gelu(norm(linear(*parts))),)
        return self.head(*parts)
