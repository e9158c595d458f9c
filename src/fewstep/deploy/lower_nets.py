"""Networks and Gaussians as instructions: what the algorithms' lowerings share.

Constants are combined in float64 and rounded once, so folding costs less accuracy than it saves.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewstep.deploy.builder import Builder, FloatArray, Operand
from fewstep.nets.layers import Linear
from fewstep.nets.mlp import MLP
from fewstep.nets.renorm import RenormMLP, Stats

Wide = NDArray[np.float64]


def wide(value: Any) -> Wide:
    """A jax array as float64."""
    return np.asarray(value, np.float64)


def single(value: Wide) -> FloatArray:
    """Back to what the program computes with."""
    return value.astype(np.float32)


class Affine(NamedTuple):
    """``x @ weight + bias``, in float64."""

    weight: Wide
    bias: Wide

    @staticmethod
    def of(layer: Linear) -> "Affine":
        """A layer's."""
        return Affine(wide(layer.weight), wide(layer.bias))


def folded(net: RenormMLP, stats: Sequence[Stats]) -> list[Affine]:
    """The network's linear maps in evaluation mode, each with the normalisation before it folded in."""
    maps: list[Affine] = []
    for layer, norm, seen in zip((*net.layers, net.head), net.norms, stats, strict=True):
        slope = wide(norm.scale) / np.sqrt(wide(seen.variance) + net.cfg.epsilon)
        shift = wide(norm.bias) - wide(seen.mean) * slope
        weight, bias = Affine.of(layer)
        maps.append(Affine(slope[:, None] * weight, shift @ weight + bias))
    return maps


def rows(layer: Linear, *sizes: int) -> list[Wide]:
    """The layer's weight cut into the blocks ``[size, outputs]`` that its concatenated inputs meet."""
    return np.split(wide(layer.weight), np.cumsum(sizes)[:-1])


def linear(b: Builder, x: Operand, layer: Affine) -> str:
    """``x @ weight + bias``."""
    return b.emit("affine", x, single(layer.weight), single(layer.bias))


def through(b: Builder, activation: str, layers: Sequence[Affine], x: str) -> str:
    """``x`` through linear maps with the activation behind each."""
    for layer in layers:
        x = b.emit(activation, linear(b, x, layer))
    return x


def halves(b: Builder, x: Operand, head: Affine, shift: float = 0.0) -> tuple[str, str]:
    """The head's outputs in two vectors of equal size; ``shift`` is added to the second."""
    (w_first, w_second), (b_first, b_second) = (np.split(head.weight, 2, axis=1), np.split(head.bias, 2))
    first = b.emit("affine", x, single(w_first), single(b_first))
    return first, b.emit("affine", x, single(w_second), single(b_second + shift))


def mlp(b: Builder, net: MLP, x: str) -> str:
    """The whole network, on one input."""
    hidden = after_first(b, net, linear(b, x, Affine.of(net.blocks[0][0])))
    return linear(b, hidden, Affine.of(net.head))


def after_first(b: Builder, net: MLP, sums: str) -> str:
    """The last hidden layer of ``net``, given what its first linear map gives.

    The first map is the caller's, because only the caller knows which of its inputs are constants.
    """
    x = sums
    for i, (layer, norm) in enumerate(net.blocks):
        if i > 0:
            x = linear(b, x, Affine.of(layer))
        if norm is not None:
            x = b.emit("layer_norm", x, single(wide(norm.scale)), single(wide(norm.bias)))
        x = b.emit(net.activation, x)
    return x


def gaussian(b: Builder, mean: str, log_std: str, limits: tuple[float, float], eps: str) -> str:
    """mean + exp(log_std cut to ``limits``) eps."""
    std = b.emit("exp", b.emit("clip", log_std, numbers=limits))
    return b.emit("add", mean, b.emit("mul", std, eps))
