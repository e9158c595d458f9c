"""How a network sees a flow time."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.nets.activations import gelu
from fewstep.nets.layers import Linear


class TimeEmbedding(eqx.Module):
    """Learnable Fourier features of a scalar time, then Linear -> GELU -> Linear (MFPO's embedder).

    features = [cos(2 pi t w), sin(2 pi t w)] with ``w`` learnable, initially N(0, 0.2^2): low frequencies on
    purpose, because the MeanFlow target contains the derivative in ``t``.
    """

    frequencies: Float[Array, "half"]
    inner: Linear
    outer: Linear

    @staticmethod
    def create(key: PRNGKeyArray, features: int = 128, size: int = 64) -> "TimeEmbedding":
        """``features`` (even) Fourier features embedded into ``size`` numbers."""
        k_freq, k_inner, k_outer = jax.random.split(key, 3)
        return TimeEmbedding(
            0.2 * jax.random.normal(k_freq, (features // 2,)),
            Linear.create(k_inner, features, size),
            Linear.create(k_outer, size, size),
        )

    def __call__(self, t: Float[Array, ""]) -> Float[Array, "size"]:
        """Embed one time."""
        phase = 2.0 * jnp.pi * t * self.frequencies
        return self.outer(gelu(self.inner(jnp.cos(phase), jnp.sin(phase))))


LOW_FREQUENCIES = (0.5, 1.0, 2.0, 4.0)
"""Of ``low_frequency_features``, in units of pi per unit of time."""


def low_frequency_features(t: Float[Array, ""]) -> Float[Array, "8"]:
    """cos and sin of t times {0.5, 1, 2, 4} pi: a flow time for networks without a learnt embedding.

    No higher frequency on purpose: the MeanFlow target contains the derivative in ``t``, which multiplies
    each feature by its frequency.
    """
    phase = jnp.pi * t * jnp.asarray(LOW_FREQUENCIES)
    return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)])
