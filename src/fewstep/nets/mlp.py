"""The multilayer perceptron: Dense, LayerNorm, GELU, repeated (the MeanFlow line's); a linear head."""

from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.nets.activations import ACTIVATIONS, Activation
from fewstep.nets.layers import Init, LayerNorm, Linear


class MLP(eqx.Module):
    """``len(hidden)`` blocks Linear -> LayerNorm -> activation and a linear head, on one sample."""

    blocks: tuple[tuple[Linear, LayerNorm | None], ...]
    head: Linear
    activation: Activation = eqx.field(static=True, default="gelu")

    @staticmethod
    def create(
        key: PRNGKeyArray,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        init: Init = "xavier_uniform",
        head_init: Init = "xavier_uniform",
        activation: Activation = "gelu",
        norm: bool = True,
    ) -> "MLP":
        """Kernels from ``init``, the head's from ``head_init`` ("zeros": the network starts at exactly 0).

        Without ``norm`` the blocks are Linear -> activation.
        """
        sizes = [inputs, *hidden]
        *keys, head_key = jax.random.split(key, len(sizes))
        blocks = tuple(
            (Linear.create(k, n_in, n_out, init), LayerNorm.create(n_out) if norm else None)
            for k, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
        )
        return MLP(blocks, Linear.create(head_key, sizes[-1], outputs, head_init), activation)

    def __call__(self, *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
        """Evaluate on the concatenation of ``parts`` (see ``Linear`` for why they come apart)."""
        activate = ACTIVATIONS[self.activation]
        for linear, norm in self.blocks:
            hidden = linear(*parts)
            parts = (activate(hidden if norm is None else norm(hidden)),)
        return self.head(*parts)
