"""Layers and networks in numpy: what those of ``nets`` are compared with, and parameters worth comparing."""

import jax
import jax.numpy as jnp
import numpy as np


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "gelu": gelu,
    "mish": lambda x: x * np.tanh(np.log(1 + np.exp(x))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * sigmoid(x),
}


def moved(net, size=0.3):
    """Every parameter somewhere else: no scale is 1, no bias and no kernel 0."""
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + size * jnp.asarray(rng.normal(size=x.shape), x.dtype), net)


def evaluated(net, *args):
    return jax.jit(lambda net, *args: net(*args))(net, *map(jnp.asarray, args))


def affine(layer, *parts):
    return np.concatenate(parts) @ np.asarray(layer.weight, np.float64) + np.asarray(layer.bias, np.float64)


def layer_norm(layer, x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * np.asarray(layer.scale) + np.asarray(layer.bias)


def mlp(net, *parts):
    x, activation = np.concatenate(parts), ACTIVATIONS[net.activation]
    for linear, norm in net.blocks:
        x = affine(linear, x)
        x = activation(x if norm is None else layer_norm(norm, x))
    return affine(net.head, x)


def low_frequencies(t):
    phases = np.pi * t * np.array([0.5, 1, 2, 4])
    return np.concatenate([np.cos(phases), np.sin(phases)])


def time_embedding(net, t):
    phases = 2 * np.pi * t * np.asarray(net.frequencies, np.float64)
    return affine(net.outer, gelu(affine(net.inner, np.cos(phases), np.sin(phases))))


def decoder_block(block, token, memory, activation):
    token = token + affine(block.itself, layer_norm(block.norm, token))
    token = token + affine(block.state, memory)
    inner = affine(block.inner, layer_norm(block.inner_norm, token))
    return token + affine(block.outer, ACTIVATIONS[activation](inner))
