"""The linear layer against the plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.nets.layers import WIDTH, LayerNorm, Linear, with_kernels


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


def test_kernels_are_rounded_and_a_product_adds_up_in_float32() -> None:
    """With 8 significant bits a factor is off by at most 2^-9 of itself, so a product by 2^-8 (and 2^-18)."""
    rng = np.random.default_rng(0)
    layer = Linear(jnp.asarray(rng.normal(size=(300, 101))), jnp.asarray(rng.normal(size=101)))
    x = jnp.asarray(rng.normal(size=(20, 300)))
    rough = with_kernels("bfloat16", (layer, LayerNorm.create(3)))
    assert rough[0].weight.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in (rough[0].bias, *jax.tree.leaves(rough[1]))} == {jnp.dtype("float32")}
    found, exact = jax.vmap(rough[0])(x[:, :100], x[:, 100:]), jax.vmap(layer)(x)
    assert found.dtype == jnp.float32
    bound = 2.0**-8 * 1.002 * (jnp.abs(x) @ jnp.abs(layer.weight)) + 1e-3
    assert (jnp.abs(found - exact) <= bound).all()
    assert not np.array_equal(found, exact)
    # Only the factors are rounded: adding up in bfloat16 would be off by up to 2^-9 of the sum.
    factors = x.astype(jnp.bfloat16).astype(jnp.float32), rough[0].weight.astype(jnp.float32)
    np.testing.assert_allclose(found, factors[0] @ factors[1] + layer.bias, rtol=1e-4, atol=1e-4)


def test_float32_kernels_are_the_network_itself() -> None:
    layer = Linear.create(jax.random.key(0), 5, 4)
    same = with_kernels("float32", layer)
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(layer), strict=True)
    )
