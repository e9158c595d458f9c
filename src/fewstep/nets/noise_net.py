"""The network of diffusion policies: a guess of the noise in a noised action."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.nets.activations import ACTIVATIONS, Activation
from fewstep.nets.layers import Linear
from fewstep.nets.mlp import MLP


def sinusoid(t: Int[Array, ""], size: int) -> Float[Array, "size"]:
    """sin and cos of t at ``size / 2`` frequencies from 1 down to 1e-4 (Vaswani et al. 2017)."""
    w = 1e4 ** -(jnp.arange(size // 2) / max(size // 2 - 1, 1))
    return jnp.concatenate([jnp.sin(t * w), jnp.cos(t * w)])


class NoiseNet(eqx.Module):
    """An MLP on (point x, state s, embedded step t); the step's features pass two layers of their own.

    The network of Diffusion-QL (Wang et al. 2023, arXiv 2208.06193), which DIPO, QVPO and DACER use, without
    normalisation.
    """

    inner: Linear
    outer: Linear
    body: MLP

    @staticmethod
    def create(
        key: PRNGKeyArray,
        obs_size: int,
        act_size: int,
        hidden: Sequence[int],
        activation: Activation = "mish",
        time_features: int = 32,
    ) -> "NoiseNet":
        """``time_features`` (even) sinusoids of the step, embedded into as many numbers."""
        k_inner, k_outer, k_body = jax.random.split(key, 3)
        body = MLP.create(
            k_body,
            act_size + obs_size + time_features,
            hidden,
            act_size,
            init="lecun_uniform",
            head_init="lecun_uniform",
            activation=activation,
            norm=False,
        )
        return NoiseNet(
            Linear.create(k_inner, time_features, 2 * time_features, "lecun_uniform"),
            Linear.create(k_outer, 2 * time_features, time_features, "lecun_uniform"),
            body,
        )

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.body.head.bias.shape[0]

    def __call__(
        self, s: Float[Array, "obs"], x: Float[Array, "act"], t: Int[Array, ""]
    ) -> Float[Array, "act"]:
        """The guess at the point ``x`` of step ``t``."""
        features = sinusoid(t, self.inner.weight.shape[0])
        step = self.outer(ACTIVATIONS[self.body.activation](self.inner(features)))
        return self.body(x, s, step)
