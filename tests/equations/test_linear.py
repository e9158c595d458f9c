"""The linear layer against the plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.nets.layers import WIDTH, Linear


@pytest.mark.parametrize("outputs", [1, WIDTH - 1, WIDTH, WIDTH + 1, 101, 2 * WIDTH])
def test_a_layer_and_its_gradients_are_those_of_the_concatenation(outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    layer = Linear(jnp.asarray(rng.normal(size=(7, outputs))), jnp.asarray(rng.normal(size=outputs)))
    x, y = jnp.asarray(rng.normal(size=(5, 4))), jnp.asarray(rng.normal(size=(5, 3)))
    factors = jnp.asarray(rng.normal(size=(5, outputs)))

    def parted(layer: Linear, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(factors * jnp.tanh(jax.vmap(layer)(x, y)))

    def plain(layer: Linear, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(factors * jnp.tanh(jnp.concatenate([x, y], 1) @ layer.weight + layer.bias))

    assert jax.vmap(layer)(x, y).shape == (5, outputs)
    found = jax.value_and_grad(parted, argnums=(0, 1, 2))(layer, x, y)
    expected = jax.value_and_grad(plain, argnums=(0, 1, 2))(layer, x, y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)
