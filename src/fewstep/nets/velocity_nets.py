"""Networks of flow policies: the velocity (state s, point x, time t) -> dx/dt, time 1 being the noise.

SAC-Flow (arXiv 2509.25756) reads the steps of a flow as the layers of a recurrent network, and takes from
those what keeps gradients from growing over steps: a gate, or a residual decoder.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.nets.activations import ACTIVATIONS, Activation
from fewstep.nets.layers import LayerNorm, Linear
from fewstep.nets.mlp import MLP
from fewstep.nets.time_features import LOW_FREQUENCIES, low_frequency_features

Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Time = Float[Array, ""]
VelocityKind = Literal["mlp", "gated", "decoder"]

OPEN_GATE = 5.0
"""Bias of the gate: sigmoid(5) = 0.993, so that the first velocity is x - candidate."""
TIMES = 2 * len(LOW_FREQUENCIES)


class PlainVelocity(eqx.Module):
    """An MLP on (x, s, t)."""

    body: MLP

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.body.head.bias.shape[0]

    def __call__(self, s: Obs, x: Vector, t: Time) -> Vector:
        """dx/dt."""
        return self.body(x, s, t[None])


class GatedVelocity(eqx.Module):
    """z (x - h): a step of size h towards the action moves x by the share z of the way to a candidate h.

    With z in (0, 1) the step x - dt z (x - h) is that of a gated recurrent unit, a mean of x and h.
    """

    gate: MLP
    candidate: MLP

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.candidate.head.bias.shape[0]

    def __call__(self, s: Obs, x: Vector, t: Time) -> Vector:
        """dx/dt."""
        times = low_frequency_features(t)
        return jax.nn.sigmoid(self.gate(x, s, times)) * (x - self.candidate(x, s, times))


class Block(eqx.Module):
    """A pre-normalised residual layer of a decoder with one token and a memory of one token.

    Attention over one token has the weight 1, whatever its queries and keys are, so both the attention to
    itself and that to the state are linear maps of what is attended to.
    """

    norm: LayerNorm
    itself: Linear
    state: Linear
    inner_norm: LayerNorm
    inner: Linear
    outer: Linear

    @staticmethod
    def create(key: PRNGKeyArray, size: int) -> "Block":
        """A feed-forward part of four times the width."""
        k_itself, k_state, k_inner, k_outer = jax.random.split(key, 4)
        return Block(
            LayerNorm.create(size),
            Linear.create(k_itself, size, size),
            Linear.create(k_state, size, size),
            LayerNorm.create(size),
            Linear.create(k_inner, size, 4 * size),
            Linear.create(k_outer, 4 * size, size),
        )

    def __call__(
        self, token: Float[Array, "size"], memory: Float[Array, "size"], activation: Activation
    ) -> Float[Array, "size"]:
        """The token after the layer."""
        token = token + self.itself(self.norm(token))
        token = token + self.state(memory)
        return token + self.outer(ACTIVATIONS[activation](self.inner(self.inner_norm(token))))


class DecoderVelocity(eqx.Module):
    """A decoder whose one token is the point with its time, and whose memory is the embedded state."""

    point: Linear
    memory: MLP
    blocks: tuple[Block, ...]
    norm: LayerNorm
    head: Linear
    activation: Activation = eqx.field(static=True)

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.head.bias.shape[0]

    def __call__(self, s: Obs, x: Vector, t: Time) -> Vector:
        """dx/dt."""
        token, memory = self.point(x, low_frequency_features(t)), self.memory(s)
        for block in self.blocks:
            token = block(token, memory, self.activation)
        return self.head(self.norm(token))


VelocityNet = PlainVelocity | GatedVelocity | DecoderVelocity


def create(
    kind: VelocityKind,
    key: PRNGKeyArray,
    obs_size: int,
    act_size: int,
    hidden: Sequence[int],
    activation: Activation,
    norm: bool = False,
) -> VelocityNet:
    """A fresh network.

    Args:
        kind: ``mlp``, ``gated`` or ``decoder``.
        key: of its initial kernels.
        obs_size, act_size: sizes.
        hidden: sizes of the hidden layers; of ``decoder`` one equal width for each block.
        activation: between them.
        norm: LayerNorm in the hidden layers of ``mlp`` and ``gated``.
    """
    if kind == "mlp":
        inputs = act_size + obs_size + 1
        return PlainVelocity(MLP.create(key, inputs, hidden, act_size, activation=activation, norm=norm))
    inputs = act_size + obs_size + TIMES
    if kind == "gated":
        k_gate, k_candidate = jax.random.split(key)
        candidate = MLP.create(k_candidate, inputs, hidden, act_size, activation=activation, norm=norm)
        gate = MLP.create(
            k_gate, inputs, hidden, act_size, head_init="zeros", activation=activation, norm=norm
        )
        open_head = Linear(gate.head.weight, jnp.full(act_size, OPEN_GATE))
        return GatedVelocity(replace(gate, head=open_head), candidate)
    size = hidden[0]
    k_point, k_memory, k_head, *k_blocks = jax.random.split(key, 3 + len(hidden))
    return DecoderVelocity(
        Linear.create(k_point, act_size + TIMES, size),
        MLP.create(k_memory, obs_size, (size,), size, activation=activation, norm=False),
        tuple(Block.create(k, size) for k in k_blocks),
        LayerNorm.create(size),
        Linear.create(k_head, size, act_size),
        activation,
    )
