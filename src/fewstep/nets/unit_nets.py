"""The networks of XQC and FlashSAC: batch normalisation, and kernels of unit norm.

Every column of a kernel, the incoming weights of one unit, has L2 norm 1. That is kept by projection: whoever
trains a network replaces it by ``projected()`` after every step of the optimiser, and no gradient goes
through that. Both have the interface of ``RenormMLP``.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.nets.activations import ACTIVATIONS, Activation
from fewstep.nets.layers import Init, Kernel, Linear, RMSNorm
from fewstep.nets.renorm import EVERY, BatchRenorm, RenormConfig, Stats

XQC = RenormConfig(momentum=0.99, epsilon=1e-3, form="plain")
FLASH = RenormConfig(momentum=0.99, epsilon=1e-5, form="plain", unbiased=True)
Layer = TypeVar("Layer", Kernel, Linear)
EXPANSION = 4
"""Inner width of a block of ``FlashNet``, in units of its width."""


def unit_columns(layer: Layer) -> Layer:
    """Every column of the kernel divided by its L2 norm; a column of zeros stays."""
    return replace(layer, weight=layer.weight * _factor(jnp.sum(layer.weight**2, axis=0)))


def on_sphere(norm: BatchRenorm) -> BatchRenorm:
    """(scale, bias), as one vector, to L2 norm sqrt(size)."""
    factor = _factor(jnp.sum(norm.scale**2) + jnp.sum(norm.bias**2), norm.scale.shape[0])
    return BatchRenorm(norm.scale * factor, norm.bias * factor)


def _factor(squares: Array, size: int = 1) -> Array:
    """What brings vectors of these squared L2 norms to ``sqrt(size)``; 1 for vectors of zeros."""
    return jnp.sqrt(size / jnp.where(squares > jnp.finfo(squares.dtype).tiny, squares, size))


class Normed(eqx.Module):
    """A kernel without bias, then batch normalisation."""

    kernel: Kernel
    norm: BatchRenorm

    @staticmethod
    def create(key: PRNGKeyArray, inputs: int, outputs: int, init: Init) -> "Normed":
        """Kernel from the named initialiser, scale 1, bias 0."""
        return Normed(Kernel.create(key, inputs, outputs, init), BatchRenorm.create(outputs))

    def __call__(self, cfg: RenormConfig, stats: Stats, *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
        """Evaluate one sample, given in parts, by the running statistics."""
        return self.norm(cfg, stats, self.kernel(*parts))[0]

    def train(
        self, cfg: RenormConfig, stats: Stats, x: Float[Array, "batch inputs"]
    ) -> tuple[Float[Array, "batch outputs"], Stats]:
        """A batch by its own statistics, and the running statistics that have seen it."""
        y, after = self.norm.train(cfg, stats, x @ self.kernel.weight)
        return y.computed(), after


class XQCNet(eqx.Module):
    """Norm of the input, then ``len(hidden)`` times kernel -> norm -> activation, then a linear head.

    Attributes:
        first: norm of the input.
        layers: the hidden layers.
        head: kernel and bias.
        unit_head: whether the head's kernel is projected, too.
    """

    first: BatchRenorm
    layers: tuple[Normed, ...]
    head: Linear
    activation: Activation = eqx.field(static=True)
    unit_head: bool = eqx.field(static=True)

    @staticmethod
    def create(
        key: PRNGKeyArray,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        activation: Activation = "relu",
        unit_head: bool = True,
    ) -> "XQCNet":
        """Orthogonal kernels (gain sqrt 2), projected."""
        sizes, init = [inputs, *hidden], "orthogonal_sqrt2"
        *keys, head_key = jax.random.split(key, len(sizes))
        layers = tuple(
            Normed.create(k, n_in, n_out, init)
            for k, n_in, n_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
        )
        head = Linear.create(head_key, sizes[-1], outputs, init)
        return XQCNet(BatchRenorm.create(inputs), layers, head, activation, unit_head).projected()

    def empty_stats(self) -> tuple[Stats, ...]:
        """Statistics of a network that has not seen a batch: the input's, then each layer's."""
        norms = (self.first, *(layer.norm for layer in self.layers))
        return tuple(Stats.create(norm.scale.shape[0]) for norm in norms)

    def __call__(self, stats: Sequence[Stats], *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
        """Evaluate one sample by the running statistics (see ``Kernel`` for why it comes in parts)."""
        activate = ACTIVATIONS[self.activation]
        parts = self.first(XQC, stats[0], *parts)
        for layer, seen in zip(self.layers, stats[1:], strict=True):
            parts = (activate(layer(XQC, seen, *parts)),)
        return self.head(*parts)

    def train(
        self, stats: Sequence[Stats], x: Float[Array, "batch inputs"], keep: slice = EVERY
    ) -> tuple[Float[Array, "kept outputs"], tuple[Stats, ...]]:
        """The rows ``keep`` of a batch by the statistics of the whole, and the running statistics that have
        seen it."""
        activate = ACTIVATIONS[self.activation]
        y, after = self.first.train(XQC, stats[0], x)
        x, moved = y.computed(), [after]
        for layer, seen in zip(self.layers, stats[1:], strict=True):
            x, after = layer.train(XQC, seen, x)
            x = activate(x)
            moved.append(after)
        return jax.vmap(self.head)(x[keep]), tuple(moved)

    def projected(self) -> "XQCNet":
        """Columns of all kernels to norm 1."""
        layers = tuple(Normed(unit_columns(layer.kernel), layer.norm) for layer in self.layers)
        return replace(self, layers=layers, head=unit_columns(self.head) if self.unit_head else self.head)


class FlashNet(eqx.Module):
    """Norm of the input, a kernel to ``width``, residual blocks, one RMSNorm, a linear head.

    A block is x + activation(norm(W2 activation(norm(W1 x)))) with ``EXPANSION`` times the width inside.

    Attributes:
        first: norm of the input.
        embed: kernel to ``width``.
        blocks: W1 and W2 of each, with their norms.
        last: the RMSNorm.
        head: kernel and bias.
        unit_head: whether the head's kernel is projected, too.
    """

    first: BatchRenorm
    embed: Kernel
    blocks: tuple[tuple[Normed, Normed], ...]
    last: RMSNorm
    head: Linear
    activation: Activation = eqx.field(static=True)
    unit_head: bool = eqx.field(static=True)

    @staticmethod
    def create(
        key: PRNGKeyArray,
        inputs: int,
        width: int,
        blocks: int,
        outputs: int,
        *,
        activation: Activation = "relu",
        unit_head: bool = True,
    ) -> "FlashNet":
        """Orthogonal kernels, projected; at least one block."""
        embed_key, head_key, *keys = jax.random.split(key, 2 + 2 * blocks)
        init, inner = "orthogonal", EXPANSION * width
        return FlashNet(
            BatchRenorm.create(inputs),
            Kernel.create(embed_key, inputs, width, init),
            tuple(
                (Normed.create(into, width, inner, init), Normed.create(back, inner, width, init))
                for into, back in zip(keys[::2], keys[1::2], strict=True)
            ),
            RMSNorm.create(width),
            Linear.create(head_key, width, outputs, init),
            activation,
            unit_head,
        ).projected()

    def empty_stats(self) -> tuple[Stats, ...]:
        """Statistics of a network that has not seen a batch: the input's, then two for each block."""
        norms = (self.first, *(layer.norm for block in self.blocks for layer in block))
        return tuple(Stats.create(norm.scale.shape[0]) for norm in norms)

    def __call__(self, stats: Sequence[Stats], *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
        """Evaluate one sample, given in parts, by the running statistics.

        All is affine up to the first activation, so under ``vmap`` over actions with the state unmapped the
        state, which comes first, passes both kernels once. The rest takes a short cut through their product.
        """
        activate = ACTIVATIONS[self.activation]
        state, *rest = self.first(FLASH, stats[0], *parts)
        split = state.shape[-1]
        first, others = Kernel(self.embed.weight[:split]), Kernel(self.embed.weight[split:])
        into = self.blocks[0][0].kernel
        alone = first(state)
        x = alone + others(*rest)
        inner = into(alone) + Kernel(others.weight @ into.weight)(*rest)
        for block, ((wide, narrow), at, then) in enumerate(
            zip(self.blocks, stats[1::2], stats[2::2], strict=True)
        ):
            if block:
                inner = wide.kernel(x)
            x = x + activate(narrow(FLASH, then, activate(wide.norm(FLASH, at, inner)[0])))
        return self.head(self.last(x))

    def train(
        self, stats: Sequence[Stats], x: Float[Array, "batch inputs"], keep: slice = EVERY
    ) -> tuple[Float[Array, "kept outputs"], tuple[Stats, ...]]:
        """The rows ``keep`` of a batch by the statistics of the whole, and the running statistics that have
        seen it."""
        activate = ACTIVATIONS[self.activation]
        y, after = self.first.train(FLASH, stats[0], x)
        x, moved = y.computed() @ self.embed.weight, [after]
        for (wide, narrow), at, then in zip(self.blocks, stats[1::2], stats[2::2], strict=True):
            inner, after = wide.train(FLASH, at, x)
            back, afterwards = narrow.train(FLASH, then, activate(inner))
            x = x + activate(back)
            moved += [after, afterwards]
        return jax.vmap(self.head)(self.last(x[keep])), tuple(moved)

    def projected(self) -> "FlashNet":
        """Columns of all kernels to norm 1; the (scale, bias) of each batch norm as one vector, and the scale
        of the RMSNorm, to the root of the number of features."""

        def both(layer: Normed) -> Normed:
            return Normed(unit_columns(layer.kernel), on_sphere(layer.norm))

        scale = self.last.scale
        return replace(
            self,
            first=on_sphere(self.first),
            embed=unit_columns(self.embed),
            blocks=tuple((both(wide), both(narrow)) for wide, narrow in self.blocks),
            last=RMSNorm(scale * _factor(jnp.sum(scale**2), scale.shape[0])),
            head=unit_columns(self.head) if self.unit_head else self.head,
        )
