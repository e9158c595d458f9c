"""SMFP's network: (state, point, times) -> (g, rho): an action-like mean and what log sigma is made from."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.nets import own
from fewstep.nets.activations import gelu
from fewstep.nets.encoder import Encoder, encoded_size
from fewstep.nets.layers import Linear
from fewstep.nets.mlp import MLP
from fewstep.nets.own import OwnNet
from fewstep.nets.time_features import LOW_FREQUENCIES, TimeEmbedding, low_frequency_features
from fewstep.types import Spec

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Sigma = Literal["network", "parameter"]


def _rms_norm(x: Float[Array, "width"]) -> Float[Array, "width"]:
    return x * lax.rsqrt(jnp.mean(x * x) + 1e-6)


class Block(eqx.Module):
    """A DiT block for a single token, adaLN-zero: the identity at the start.

    Attention of one token to itself is the linear map output(value(x)), so that is what stands here.
    """

    modulation: Linear
    value: Linear
    output: Linear
    inner: Linear
    outer: Linear

    @staticmethod
    def create(key: PRNGKeyArray, width: int) -> "Block":
        """Zero modulation, the usual factor of 4 inside the perceptron."""
        k_value, k_output, k_inner, k_outer, k_zero = jax.random.split(key, 5)
        return Block(
            Linear.create(k_zero, width, 6 * width, "zeros"),
            Linear.create(k_value, width, width),
            Linear.create(k_output, width, width),
            Linear.create(k_inner, width, 4 * width),
            Linear.create(k_outer, 4 * width, width),
        )

    def __call__(self, x: Float[Array, "width"], times: Float[Array, "width"]) -> Float[Array, "width"]:
        """The token after the block, conditioned on the embedded times."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = jnp.split(self.modulation(jax.nn.silu(times)), 6)
        x = x + gate_a * self.output(self.value(_rms_norm(x) * (1.0 + scale_a) + shift_a))
        return x + gate_m * self.outer(gelu(self.inner(_rms_norm(x) * (1.0 + scale_m) + shift_m)))


class DiT(eqx.Module):
    """One token made of (state, point) through blocks that see the times; a linear head."""

    embed_b: TimeEmbedding
    embed_t: TimeEmbedding
    token: Linear
    blocks: tuple[Block, ...]
    head: Linear

    @staticmethod
    def create(key: PRNGKeyArray, inputs: int, width: int, depth: int, outputs: int) -> "DiT":
        """Fresh parameters for ``depth`` blocks."""
        k_b, k_t, k_token, k_head, *keys = jax.random.split(key, depth + 4)
        return DiT(
            TimeEmbedding.create(k_b, size=width),
            TimeEmbedding.create(k_t, size=width),
            Linear.create(k_token, inputs, width),
            tuple(Block.create(k, width) for k in keys),
            Linear.create(k_head, width, outputs, "lecun_uniform"),
        )

    def __call__(self, s: Obs, x: Vector, b: Scalar, t: Scalar) -> Float[Array, "outputs"]:
        """Evaluate one token."""
        times = self.embed_b(b) + self.embed_t(t)
        token = self.token(x, s)
        for block in self.blocks:
            token = block(token, times)
        return self.head(_rms_norm(token))


class TimedMLP(eqx.Module):
    """An MLP (SiLU, no normalisation), or layers of the user's, on the point, the state and low-frequency
    features of both times."""

    body: MLP | OwnNet

    @property
    def head(self) -> Linear:
        """The last layer."""
        return self.body.head

    def __call__(self, s: Obs, x: Vector, b: Scalar, t: Scalar) -> Float[Array, "outputs"]:
        """Evaluate one point."""
        return self.body(x, s, low_frequency_features(b), low_frequency_features(t))


class PolicyNet(eqx.Module):
    """Both outputs from one trunk, so that an action costs one evaluation; images go through the encoder."""

    trunk: TimedMLP | DiT
    sigma: Sigma = eqx.field(static=True)
    encoder: Encoder | None = None

    @staticmethod
    def create(
        key: PRNGKeyArray,
        spec: Spec,
        backbone: Literal["mlp", "dit"],
        hidden: tuple[int, ...],
        head_scale: float,
        sigma: Sigma = "network",
        network: str | None = None,
    ) -> "PolicyNet":
        """Fresh parameters; the head's weights are multiplied by ``head_scale``, its bias is zero."""
        encoder, key = Encoder.before(key, spec.image)
        inputs = encoded_size(spec.obs_size, spec.image) + spec.act_size
        outputs = 2 * spec.act_size
        if network is None and backbone == "dit":
            trunk = DiT.create(key, inputs, hidden[0], len(hidden), outputs)
            where = lambda net: net.trunk.head.weight  # noqa: E731
        else:
            sizes, init = (inputs + 4 * len(LOW_FREQUENCIES), hidden, outputs), "lecun_uniform"
            if network is None:
                body = MLP.create(key, *sizes, init=init, head_init=init, activation="silu", norm=False)
            else:
                body = own.create(network, key, *sizes, head_init=init, activation="silu")
            trunk = TimedMLP(body)
            where = lambda net: net.trunk.body.head.weight  # noqa: E731
        made = PolicyNet(trunk, sigma, encoder)
        return eqx.tree_at(where, made, replace_fn=lambda weight: head_scale * weight)

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.trunk.head.bias.shape[0] // 2

    def __call__(self, s: Obs, x: Vector, b: Scalar, t: Scalar) -> tuple[Vector, Vector]:
        """``(g, rho)`` at the point ``x`` of time ``t``, for the interval [b, t].

        With ``sigma`` parameter, rho is the bias of its half of the head alone: the same everywhere.
        """
        s = s if self.encoder is None else self.encoder(s)
        g, rho = jnp.split(self.trunk(s, x, b, t), 2)
        return g, rho if self.sigma == "network" else self.trunk.head.bias[self.act_size :]
