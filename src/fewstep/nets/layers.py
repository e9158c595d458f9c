"""Linear maps and normalisation; the initialiser is a named choice, because codes to match differ in it."""

from collections.abc import Callable, Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Init = Literal[
    "xavier_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "orthogonal_sqrt2",
    "orthogonal_hundredth",
    "zeros",
]

INITIALISERS: dict[Init, Callable[..., Array]] = {
    "xavier_uniform": jax.nn.initializers.xavier_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "lecun_uniform": jax.nn.initializers.lecun_uniform(),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "orthogonal_sqrt2": jax.nn.initializers.orthogonal(2.0**0.5),
    "orthogonal_hundredth": jax.nn.initializers.orthogonal(0.01),
    "zeros": jax.nn.initializers.zeros,
}


WIDTH = 16
"""Columns that a CPU's matrix product computes together, the floats of its widest register.

101 columns take longer than 112, and XLA then computes what follows them in slower ways: together 1.4 times
the whole update of MFPO."""


class Kernel(eqx.Module):
    """``concat(parts) @ weight``, computed as a sum over the parts.

    The sum is what makes broadcasting cheap: under ``vmap`` over actions with the state unmapped, the state's
    product is computed once per state and not once per action, with no code in the caller. Wide outputs are
    computed with columns of zeros up to a multiple of ``WIDTH``, which are then dropped. A product takes its
    inputs in the kernel's type and adds up in float32 (see ``frozen``).
    """

    weight: Float[Array, "inputs outputs"]

    @staticmethod
    def create(key: PRNGKeyArray, inputs: int, outputs: int, init: Init) -> "Kernel":
        """From the named initialiser (with the fans of the whole concatenation)."""
        return Kernel(INITIALISERS[init](key, (inputs, outputs), jnp.float32))

    def __call__(self, *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
        """Apply to vectors whose sizes add up to ``inputs``, in this order."""
        return _affine(self.weight, jnp.zeros(self.weight.shape[1]), parts)


class Linear(eqx.Module):
    """``concat(parts) @ weight + bias``, computed as ``Kernel`` does."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, "outputs"]

    @staticmethod
    def create(key: PRNGKeyArray, inputs: int, outputs: int, init: Init = "xavier_uniform") -> "Linear":
        """``Kernel.create``, zero bias."""
        return Linear(Kernel.create(key, inputs, outputs, init).weight, jnp.zeros(outputs))

    def __call__(self, *parts: Float[Array, "_"]) -> Float[Array, "outputs"]:
        """Apply to vectors whose sizes add up to ``inputs``, in this order."""
        return _affine(self.weight, self.bias, parts)


def _affine(
    weight: Float[Array, "inputs outputs"], out: Float[Array, "outputs"], parts: Sequence[Float[Array, "_"]]
) -> Float[Array, "outputs"]:
    """``out + concat(parts) @ weight``."""
    if sum(part.shape[-1] for part in parts) != weight.shape[0]:
        raise ValueError(f"parts {[p.shape for p in parts]} do not add up to {weight.shape[0]} inputs")
    outputs, start = out.shape[0], 0
    if spare := -outputs % WIDTH if outputs > WIDTH else 0:
        weight, out = jnp.pad(weight, ((0, 0), (0, spare))), jnp.pad(out, (0, spare))
    for part in parts:
        rows = weight[start : start + part.shape[-1]]
        out = out + jnp.matmul(part.astype(rows.dtype), rows, preferred_element_type=out.dtype)
        start += part.shape[-1]
    return out[:outputs] if spare else out


class LayerNorm(eqx.Module):
    """Normalise a vector to mean 0 and variance 1 (epsilon 1e-6 inside the root), then scale and shift.

    ``centred`` says that the inputs have mean 0 as they come (see ``frozen``).
    """

    scale: Float[Array, "size"]
    bias: Float[Array, "size"]
    centred: bool = eqx.field(static=True, default=False)

    @staticmethod
    def create(size: int) -> "LayerNorm":
        """Scale 1, bias 0."""
        return LayerNorm(jnp.ones(size), jnp.zeros(size))

    def __call__(self, x: Float[Array, "size"]) -> Float[Array, "size"]:
        """Statistics over the last axis."""
        centred = x if self.centred else x - x.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-6) * self.scale + self.bias


class RMSNorm(eqx.Module):
    """Divide a vector by its root mean square (epsilon 1e-6 inside the root), then scale."""

    scale: Float[Array, "size"]

    @staticmethod
    def create(size: int) -> "RMSNorm":
        """Scale 1."""
        return RMSNorm(jnp.ones(size))

    def __call__(self, x: Float[Array, "*rows size"]) -> Float[Array, "*rows size"]:
        """Over the last axis."""
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * self.scale
