"""Factories of networks as a user may write them, sound and faulty."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def make(key, inputs, hidden, activation):
    """A network of Equinox's as it is."""
    return eqx.nn.MLP(inputs, 5, hidden[0], len(hidden), activation, activation, key=key)


class Sorted(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        return jnp.sort(self.weight @ x)


def sorts(key, inputs, hidden, activation):
    """A network with an operation that only StableHLO holds."""
    return Sorted(jax.random.normal(key, (hidden[0], inputs)))


class Net(eqx.Module):
    weight: object
    function: object = eqx.field(static=True)

    def __call__(self, x):
        return self.function(self.weight, x)


def _net(function):
    return lambda key, inputs, hidden, activation: Net(jax.random.normal(key, (4, inputs)), function)


no_function = 3
number = _net(lambda w, x: (w @ x).sum())
matrix = _net(lambda w, x: (w @ x)[None])
pair = _net(lambda w, x: (w @ x, x))
halves = _net(lambda w, x: (w @ x).astype(jnp.bfloat16))
infinite = _net(lambda w, x: w @ x / 0.0)
steep = _net(lambda w, x: jnp.sqrt(jnp.abs(w @ x) * 0.0))
branches = _net(lambda w, x: x if x[0] > 0 else -x)
_counted = itertools.count()


def raises(key, inputs, hidden, activation):
    raise KeyError("no such layer")


nameless = functools.partial(raises)


def uncallable(key, inputs, hidden, activation):
    return {"weight": jax.random.normal(key, (inputs,))}


def closure(key, inputs, hidden, activation):
    weight = jax.random.normal(key, (4, inputs))
    return lambda x: weight @ x


def wide(key, inputs, hidden, activation):
    return Net(np.ones((4, inputs)), lambda w, x: w @ x)


def unhashable(key, inputs, hidden, activation):
    return eqx.tree_at(lambda net: net.activation, make(key, inputs, hidden, activation), Unhashable())


class Unhashable:
    __hash__ = None

    def __call__(self, x):
        return x


def fresh(key, inputs, hidden, activation):
    return Net(next(_counted) + jax.random.normal(key, (4, inputs)), jnp.matmul)


def lambdas(key, inputs, hidden, activation):
    return eqx.nn.MLP(inputs, 5, 4, 1, lambda x: x, key=key)
