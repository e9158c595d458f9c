"""Networks prepared for many rows against the networks themselves."""

import jax
import jax.numpy as jnp
import numpy as np

from fewstep.nets.frozen import frozen
from fewstep.nets.layers import LayerNorm, Linear
from fewstep.nets.mlp import MLP
from fewstep.nets.unit_nets import FlashNet


def test_means_taken_off_the_kernels_leave_the_function() -> None:
    """Also where the mean over a layer's outputs is many times their spread, scale and shift not 1 and 0."""
    keys = iter(jax.random.split(jax.random.key(0), 20))
    net = MLP.create(next(keys), 9, (64, 101), 5)
    blocks = tuple(
        (
            Linear(linear.weight + 3.0 * jax.random.normal(next(keys)), linear.bias + 7.0),
            LayerNorm(
                jax.random.normal(next(keys), norm.scale.shape),
                jax.random.normal(next(keys), norm.bias.shape),
            ),
        )
        for linear, norm in net.blocks
        if norm is not None
    )
    net = MLP(blocks, net.head, net.activation)
    x = jax.random.normal(next(keys), (50, 9))
    ready = frozen((net, jnp.arange(3.0)))
    np.testing.assert_allclose(jax.vmap(ready[0])(x), jax.vmap(net)(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ready[1], [0.0, 1.0, 2.0])
    for linear, norm in ready[0].blocks:
        assert norm is not None
        assert norm.centred
        np.testing.assert_allclose(
            jax.vmap(linear)(jax.random.normal(next(keys), (3, linear.weight.shape[0]))).mean(-1),
            0.0,
            atol=1e-4,
        )


def test_without_normalisation_nothing_changes() -> None:
    net = MLP.create(jax.random.key(0), 4, (8,), 2, norm=False)
    same = frozen(net)
    jax.tree.map(np.testing.assert_array_equal, same, net)


def test_kernels_are_rounded_and_a_product_adds_up_in_float32() -> None:
    """With 8 significant bits a factor is off by at most 2^-9 of itself, so a product by 2^-8 (and 2^-18)."""
    rng = np.random.default_rng(0)
    layer = Linear(jnp.asarray(rng.normal(size=(300, 101))), jnp.asarray(rng.normal(size=101)))
    x = jnp.asarray(rng.normal(size=(20, 300)))
    rough = frozen((layer, LayerNorm.create(3)), "bfloat16")
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


def test_the_kernels_of_batch_normalised_networks_are_rounded_too() -> None:
    net = FlashNet.create(jax.random.key(0), 5, 16, 2, 3)
    coarse, stats, row = frozen(net, "bfloat16"), net.empty_stats(), jnp.linspace(-1.0, 1.0, 5)
    kernels = [coarse.embed, coarse.head, *(layer.kernel for block in coarse.blocks for layer in block)]
    assert {kernel.weight.dtype.name for kernel in kernels} == {"bfloat16"}
    assert coarse.blocks[0][0].norm.scale.dtype == jnp.float32
    out = coarse(stats, row[:3], row[3:])
    assert out.dtype == jnp.float32
    error = np.abs(out - net(stats, row[:3], row[3:])).max()
    assert 1e-6 < error < 0.05
