"""Networks of a flow's velocity: the gate at its ends, a block as a decoder layer, gradients over steps."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows import paths
from fewstep.nets import velocity_nets
from fewstep.nets.layers import Linear
from tests.equations.written_out import ACTIVATIONS, affine, layer_norm, low_frequencies, mlp, moved

S, X, T = jnp.array([0.3, -1.0, 0.5]), jnp.array([0.4, -0.7]), jnp.float32(0.75)


def net(kind, hidden=(16, 16), key=0):
    return velocity_nets.create(kind, jax.random.key(key), 3, 2, hidden, "silu")


@pytest.mark.parametrize("kind", ["mlp", "gated", "decoder"])
def test_all_give_a_velocity_of_state_point_and_time(kind):
    made = net(kind)
    assert made.act_size == 2
    v = made(S, X, T)
    assert v.shape == (2,)
    for other in (made(S + 1, X, T), made(S, X + 1, T), made(S, X, T - 0.5)):
        assert np.all(np.asarray(other) != np.asarray(v))


def test_the_gate_is_open_at_first():
    """sigmoid(5) of the way to the candidate, in a step of size 1."""
    made = net("gated")
    h = mlp(made.candidate, X, S, low_frequencies(T))
    gate = 1 / (1 + np.exp(-5))
    np.testing.assert_allclose(X - made(S, X, T), (1 - gate) * X + gate * h, rtol=1e-5, atol=1e-6)


def test_a_closed_gate_leaves_the_point_where_it_is():
    made = net("gated")
    closed = Linear(made.gate.head.weight, jnp.full(2, -50.0))
    shut = velocity_nets.GatedVelocity(velocity_nets.replace(made.gate, head=closed), made.candidate)
    np.testing.assert_allclose(shut(S, X, T), 0, atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_block_is_a_decoder_layer_with_attention_of_four_heads_over_one_token(activation):
    """Multi-head attention written out: its weights are 1, so queries and keys have no part in the result."""
    rng = np.random.default_rng(0)
    heads, size = 4, 8
    both = rng.normal(size=(2, 4, size, size))
    biases = rng.normal(size=(2, size))

    def attention(kernels, bias, token, memory):
        q, k, v, out = kernels
        split = lambda x: x.reshape(1, heads, size // heads).transpose(1, 0, 2)  # noqa: E731
        queries, keys, values = split(token[None] @ q), split(memory[None] @ k), split(memory[None] @ v)
        scores = queries @ keys.transpose(0, 2, 1) / np.sqrt(size // heads)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        return (weights @ values).transpose(1, 0, 2).reshape(size) @ out + bias

    maps = [
        Linear(jnp.asarray(v @ out), jnp.asarray(b)) for (_, _, v, out), b in zip(both, biases, strict=True)
    ]
    block = replace(moved(velocity_nets.Block.create(jax.random.key(1), size)), itself=maps[0], state=maps[1])
    token, memory = rng.normal(size=(2, size))
    normed = layer_norm(block.norm, token)
    x = token + attention(both[0], biases[0], normed, normed)
    x = x + attention(both[1], biases[1], x, memory)
    x = x + affine(block.outer, ACTIVATIONS[activation](affine(block.inner, layer_norm(block.inner_norm, x))))
    found = jax.jit(lambda block, *args: block(*args, activation))(block, token, memory)
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)


def gradient(kind, steps):
    """Mean norm of d end / d start over the flow's steps, of networks with four times their first weights."""

    def one(key):
        made = velocity_nets.create(kind, key, 3, 2, (64,) if kind == "gated" else (64, 64), "silu")
        made = jax.tree.map(lambda x: 4 * x if x.ndim == 2 else x, made)
        end = lambda e: paths.solve(partial(made, S), e, steps, "euler").x  # noqa: E731
        starts = jax.random.normal(jax.random.key(3), (32, 2))
        return jnp.linalg.norm(jax.vmap(jax.jacfwd(end))(starts), axis=(1, 2)).mean()

    return float(jnp.mean(jnp.stack([one(jax.random.key(n)) for n in range(3)])))


def test_gates_and_decoders_keep_gradients_from_growing_over_steps():
    """The claim of SAC-Flow, of networks with large weights: an MLP's grow with the number of steps."""
    assert gradient("mlp", 8) > 20 * gradient("mlp", 2)
    assert gradient("gated", 8) < 2 * gradient("gated", 2)
    assert gradient("decoder", 8) < 2 * gradient("decoder", 2)
