"""The convolutional encoder of images, and networks behind it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from fewstep.critics.ensemble import CriticConfig, Critics
from fewstep.nets import trunks
from fewstep.nets.encoder import FEATURES, Encoder
from fewstep.nets.trunks import Encoded, TrunkConfig
from fewstep.types import Spec
from tests.algos.common import batch

IMAGE = (21, 16, 3)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 21 * 16 * 3), np.uint8)


@pytest.fixture(scope="module")
def encoder():
    """One whose biases are not zero."""
    made = Encoder.create(jax.random.key(0), IMAGE)
    return jax.tree.map(lambda leaf: leaf + 0.1 * RNG.standard_normal(leaf.shape).astype(np.float32), made)


def test_it_is_three_convolutions_a_dense_layer_a_norm_and_tanh(encoder):
    """Against scipy's correlation, in float64."""
    x = PIXELS[0].reshape(IMAGE) / 255.0
    for layer, stride in zip(encoder.layers, (2, 2, 1), strict=True):
        weight, bias = np.asarray(layer.weight, np.float64), np.asarray(layer.bias, np.float64)
        filtered = [correlate(x, weight[..., k], mode="valid")[::stride, ::stride, 0] for k in range(32)]
        x = np.maximum(np.stack(filtered, axis=-1) + bias, 0.0)
    assert x.shape == (2, 1, 32)
    x = x.ravel() @ np.asarray(encoder.dense.weight, np.float64) + np.asarray(encoder.dense.bias)
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    wanted = np.tanh(x * np.asarray(encoder.norm.scale) + np.asarray(encoder.norm.bias))
    found = encoder(PIXELS[0])
    assert found.shape == (FEATURES,)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_bytes_and_floats_of_the_same_values_are_the_same(encoder):
    np.testing.assert_array_equal(encoder(PIXELS[0]), encoder(PIXELS[0].astype(np.float32)))


@pytest.mark.parametrize("trunk", ["mlp", "crossq", "flash"])
def test_a_network_behind_it_sees_features_and_the_rest(trunk):
    cfg = TrunkConfig(trunk=trunk, hidden=(8,))
    net = cfg.create(jax.random.key(0), PIXELS.shape[1] + 2, 4, image=IMAGE)
    assert isinstance(net, Encoded)
    assert net.head is net.net.head
    stats, rest = trunks.empty_stats(net), RNG.standard_normal((5, 2)).astype(np.float32)
    features = jax.vmap(net.encoder)(PIXELS)
    found = trunks.evaluate(net, stats, PIXELS[0], rest[0])
    np.testing.assert_allclose(
        found, trunks.evaluate(net.net, stats, features[0], rest[0]), rtol=1e-5, atol=1e-6
    )
    rows, behind = np.concatenate([PIXELS, rest], axis=1), jnp.concatenate([features, rest], axis=1)
    (out, after), (wanted, later) = trunks.train(net, stats, rows), trunks.train(net.net, stats, behind)
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)
    for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(later), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    projected = trunks.projected(net)
    assert isinstance(projected, Encoded)
    assert projected.encoder is net.encoder


def test_each_critic_has_an_encoder_that_its_loss_trains():
    """And the target networks follow with theirs."""
    spec, cfg = Spec(PIXELS.shape[1], 2, IMAGE), CriticConfig(hidden=(8,), tau=0.5)
    critics = Critics.create(cfg, spec, *jax.random.split(jax.random.key(0)))
    rows = batch(5, spec=spec)._replace(obs=jnp.asarray(PIXELS), next_obs=jnp.asarray(PIXELS[::-1]))
    after, _ = jax.jit(lambda c: c.fit(cfg, 0.9, jnp.int32(0), rows, rows.action))(critics)
    for old, new, target in zip(critics.online.params, after.online.params, after.target, strict=True):
        leaves = (jax.tree.leaves(net.encoder) for net in (old, new, target))
        for before, now, behind in zip(*leaves, strict=True):
            assert not np.array_equal(before, now)
            np.testing.assert_allclose(behind, 0.5 * (before + now), rtol=1e-5, atol=1e-6)
    one, other = (net.encoder.dense.weight for net in after.online.params)
    assert not np.array_equal(one, other)
