"""Activation functions by name; GELU as one rational function, because it is the dearest of them on a CPU."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Activation = Literal["elu", "gelu", "mish", "relu", "silu", "tanh"]

GELU_END = 5.0
"""Beyond it tanh is within 1e-7 of 1, and below the negative of it GELU is constant to 3e-7."""

# p(x^2) / q(x^2) is tanh(sqrt(2 / pi) (x + 0.044715 x^3)) / (2 x) on [0, GELU_END]: fitted in float64 so that
# the largest error of x^2 p / q, which is GELU's, is least (1.1e-7; tests/equations/test_activations.py).
GELU_P = (0.398940795, 0.0394179587, 0.00384461337, 0.000189704361, 4.88937336e-06)
GELU_Q = (1.0, 0.266283288, 0.0286848194, 0.00157397195, 8.17341663e-05, 4.61552569e-07)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = coefficients[-1] * x + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * x + coefficient
    return value


def _half_tanh(y: Array) -> Array:
    """tanh(sqrt(2 / pi) (y + 0.044715 y^3)) / 2 for |y| <= GELU_END."""
    squared = y * y
    return y * (_polynomial(GELU_P, squared) / _polynomial(GELU_Q, squared))


@jax.custom_jvp
@jax.jit  # here and below: traced once and not at every use
def _rational_gelu(x: Array) -> Array:
    above = jnp.maximum(x, -GELU_END)
    return above * (0.5 + _half_tanh(jnp.minimum(above, GELU_END)))


@jax.jit
def _with_slope(x: Array) -> tuple[Array, Array]:
    """GELU and its slope: with h = tanh(u(x)) / 2 that is 1/2 + h + x (1/2 - 2 h^2) u'(x)."""
    y = jnp.clip(x, -GELU_END, GELU_END)
    h = _half_tanh(y)
    inner = (2.0 / jnp.pi) ** 0.5 * (1.0 + 0.134145 * y * y)
    return jnp.maximum(x, -GELU_END) * (0.5 + h), 0.5 + h + y * (0.5 - 2.0 * h * h) * inner


@_rational_gelu.defjvp
def _rational_gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value, slope = _with_slope(*primals)
    return value, slope * tangents[0]


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """GELU in its tanh approximation, x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (flax's ``gelu``).

    In float32 it is a rational function, equal to ``jax.nn.gelu(x, approximate=True)`` to rounding (2e-7 of
    max(1, \\|x\\|)) at half the time on a CPU: XLA's tanh is a rational function too, and here of a cubic.
    """
    return _rational_gelu(x) if x.dtype == jnp.float32 else jax.nn.gelu(x, approximate=True)


@jax.custom_jvp
def mish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x tanh(log(1 + exp(x))) (Misra 2020, arXiv 1908.08681), with one exponential and a division.

    tanh(log y) = (y^2 - 1) / (y^2 + 1), and beyond 20 it is 1 to rounding.
    """
    e = jnp.exp(jnp.minimum(x, 20.0))
    y = e * (e + 2.0)
    return x * (y / (y + 2.0))


@mish.defjvp
def _mish_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """With t = y / (y + 2) the slope is t + 4 x e (e + 1) / (y + 2)^2: no further division."""
    (x,), (dx,) = primals, tangents
    e = jnp.exp(jnp.minimum(x, 20.0))
    y = e * (e + 2.0)
    inverse = 1.0 / (y + 2.0)
    t = y * inverse
    return x * t, (t + 4.0 * x * (e * (e + 1.0) * inverse) * inverse) * dx


def inverse_softplus(y: Float[Array, "*shape"] | float) -> Float[Array, "*shape"]:
    """The x with log(1 + exp(x)) = y: the raw value of a parameter that is kept positive; y > 0."""
    return y + jnp.log(-jnp.expm1(-jnp.asarray(y, jnp.float32)))


ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": gelu,
    "mish": mish,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}
