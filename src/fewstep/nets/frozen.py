"""Networks prepared for many rows and no gradient."""

from dataclasses import replace
from typing import Literal, TypeVar

import jax

from fewstep.nets.layers import Kernel, LayerNorm, Linear
from fewstep.nets.mlp import MLP

Precision = Literal["float32", "bfloat16"]
Nets = TypeVar("Nets")


def frozen(nets: Nets, precision: Precision = "float32") -> Nets:
    """The same network(s) for what nobody differentiates, with less work per row.

    The mean that a LayerNorm takes off every row is taken off the kernel and the bias before it, once: to
    rounding the same function, a third of the normalisation cheaper. It pays where a kernel meets many more
    rows than it has.

    Kernels are rounded to ``precision``. With bfloat16 ones the inputs of a matrix product are rounded too
    (to 8 significant bits); it adds up in float32, and all between two products (bias, normalisation,
    activation) stays float32.
    """

    def centred(node: object) -> object:
        if not isinstance(node, MLP):
            return node
        blocks = tuple(
            (linear, norm) if norm is None else _centre(linear, norm) for linear, norm in node.blocks
        )
        return MLP(blocks, node.head, node.activation)

    def rounded(node: object) -> object:
        if not isinstance(node, Linear | Kernel):
            return node
        return replace(node, weight=node.weight.astype(precision))

    nets = jax.tree.map(centred, nets, is_leaf=lambda node: isinstance(node, MLP))
    return jax.tree.map(rounded, nets, is_leaf=lambda node: isinstance(node, Linear | Kernel))


def _centre(linear: Linear, norm: LayerNorm) -> tuple[Linear, LayerNorm]:
    kernel = linear.weight - linear.weight.mean(-1, keepdims=True)
    return Linear(kernel, linear.bias - linear.bias.mean()), LayerNorm(norm.scale, norm.bias, centred=True)
