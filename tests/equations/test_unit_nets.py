"""The networks of XQC and FlashSAC against numpy, their projection, and what no gradient can change."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.nets import unit_nets
from fewstep.nets.layers import Linear
from fewstep.nets.renorm import BatchRenorm
from fewstep.nets.unit_nets import FlashNet, XQCNet, on_sphere, unit_columns

OBS, ACT, OUT = 3, 2, 5
ROWS = 1.0 + 2.0 * np.random.default_rng(0).normal(size=(12, OBS + ACT)).astype(np.float32)


def xqc(**more):
    return XQCNet.create(jax.random.key(1), OBS + ACT, (8, 6), OUT, **more)


def flash(**more):
    return FlashNet.create(jax.random.key(1), OBS + ACT, 4, 2, OUT, **more)


def moved(tree, size=0.3):
    """Every number somewhere else, so that no scale is 1 and no bias 0."""
    rng = np.random.default_rng(2)

    def leaf(x):
        return x + size * jnp.asarray(rng.normal(size=x.shape), x.dtype) if x.dtype != jnp.int32 else x

    return jax.tree.map(leaf, tree)


def stats_of(net):
    """Running statistics unlike any batch's; variances stay positive."""
    return moved(net.empty_stats(), 0.1)


NETS = pytest.mark.parametrize("make", [xqc, flash])


# ------------------------------------------------------------------ by hand, float64


def norm(x, layer, stats, epsilon, train, unbiased):
    """One batch norm; gives the rows and the new running statistics (mean, variance)."""
    scale, bias, mean, variance = (
        np.asarray(v, np.float64) for v in (layer.scale, layer.bias, stats.mean, stats.variance)
    )
    after = None
    if train:
        n = len(x)
        after = 0.99 * mean + 0.01 * x.mean(0), 0.99 * variance + 0.01 * x.var(0, ddof=int(unbiased))
        mean, variance = x.mean(0), ((x - x.mean(0)) ** 2).sum(0) / n
    return (x - mean) / np.sqrt(variance + epsilon) * scale + bias, after


def xqc_by_hand(net, stats, x, train):
    x, after = norm(x.astype(np.float64), net.first, stats[0], 1e-3, train, False)
    afters = [after]
    for layer, seen in zip(net.layers, stats[1:], strict=True):
        x, after = norm(x @ np.asarray(layer.kernel.weight, np.float64), layer.norm, seen, 1e-3, train, False)
        x = np.maximum(x, 0.0)
        afters.append(after)
    return x @ np.asarray(net.head.weight, np.float64) + np.asarray(net.head.bias), afters


def flash_by_hand(net, stats, x, train):
    stats = list(stats)

    def normalised(x, layer):
        y, after = norm(x, layer, stats.pop(0), 1e-5, train, True)
        afters.append(after)
        return y

    afters = []
    x = normalised(x.astype(np.float64), net.first) @ np.asarray(net.embed.weight, np.float64)
    for wide, narrow in net.blocks:
        inner = np.maximum(normalised(x @ np.asarray(wide.kernel.weight, np.float64), wide.norm), 0.0)
        back = normalised(inner @ np.asarray(narrow.kernel.weight, np.float64), narrow.norm)
        x = x + np.maximum(back, 0.0)
    x = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6) * np.asarray(net.last.scale, np.float64)
    return x @ np.asarray(net.head.weight, np.float64) + np.asarray(net.head.bias), afters


BY_HAND = {xqc: xqc_by_hand, flash: flash_by_hand}


@NETS
def test_a_batch_is_the_one_written_out_by_hand(make):
    net = moved(make())
    stats = stats_of(net)
    out, after = jax.jit(lambda net, x: net.train(stats, x))(net, ROWS)
    wanted, afters = BY_HAND[make](net, stats, ROWS, train=True)
    np.testing.assert_allclose(out, wanted, rtol=2e-4, atol=2e-4)
    assert len(after) == len(afters) == len(stats)
    for found, (mean, variance) in zip(after, afters, strict=True):
        np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.variance, variance, rtol=1e-4)


@NETS
@pytest.mark.parametrize("keep", [slice(None, 5), slice(5, None)])
def test_rows_that_are_kept_are_those_of_the_whole_batch(make, keep):
    net = moved(make())
    stats = stats_of(net)
    out, after = jax.jit(lambda net, x: net.train(stats, x, keep))(net, ROWS)
    wanted, afters = BY_HAND[make](net, stats, ROWS, train=True)
    np.testing.assert_allclose(out, wanted[keep], rtol=2e-4, atol=2e-4)
    for found, (mean, variance) in zip(after, afters, strict=True):
        np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.variance, variance, rtol=1e-4)


@NETS
def test_a_sample_is_evaluated_by_the_running_statistics_in_whatever_parts_it_comes(make):
    net = moved(make())
    stats = stats_of(net)
    wanted, _ = BY_HAND[make](net, stats, ROWS, train=False)
    for split in ((), (OBS,), (1, OBS)):
        out = jax.vmap(lambda row, split=split: net(stats, *jnp.split(row, split)))(ROWS)
        np.testing.assert_allclose(out, wanted, rtol=2e-4, atol=2e-4)


@NETS
def test_a_batch_is_not_normalised_by_the_running_statistics(make):
    net = moved(make())
    one, other = (net.train(s, jnp.asarray(ROWS))[0] for s in (stats_of(net), net.empty_stats()))
    np.testing.assert_array_equal(one, other)


@NETS
def test_the_gradient_of_a_batchs_loss_is_that_of_finite_differences(make):
    """In float64, through the batch's statistics, in every kind of parameter."""
    with jax.enable_x64(True):
        net = jax.tree.map(lambda x: x.astype(jnp.float64), moved(make(activation="tanh")))
        stats = jax.tree.map(
            lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, net.empty_stats()
        )
        rows, rng = jnp.asarray(ROWS, jnp.float64), np.random.default_rng(4)

        @jax.jit
        def loss(net):
            return jnp.sum(jnp.sin(net.train(stats, rows)[0]))

        slopes = jax.grad(loss)(net)
        leaves, tree = jax.tree.flatten(net)
        for place, slope in enumerate(jax.tree.leaves(slopes)):
            way = rng.normal(size=slope.shape)
            ahead, behind = (
                loss(
                    jax.tree.unflatten(tree, [*leaves[:place], leaves[place] + h * way, *leaves[place + 1 :]])
                )
                for h in (1e-6, -1e-6)
            )
            np.testing.assert_allclose(jnp.sum(slope * way), (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------------ unit norms


def kernels(net):
    """All that a batch norm follows: not FlashSAC's embedding, which the skip connection reads, too."""
    layers = net.layers if isinstance(net, XQCNet) else [layer for block in net.blocks for layer in block]
    return [layer.kernel.weight for layer in layers]


def norms(net):
    return [net.first, *(layer.norm for block in net.blocks for layer in block)]


def check_units(net, head=True):
    """Columns of norm 1; norms of FlashSAC on their spheres."""
    columns = kernels(net) + [net.head.weight] * head
    if isinstance(net, FlashNet):
        columns.append(net.embed.weight)
        for each in norms(net):
            size = each.scale.shape[0]
            np.testing.assert_allclose(jnp.sum(each.scale**2) + jnp.sum(each.bias**2), size, rtol=1e-5)
        np.testing.assert_allclose(jnp.sum(net.last.scale**2), net.last.scale.shape[0], rtol=1e-5)
    for weight in columns:
        np.testing.assert_allclose(jnp.linalg.norm(weight, axis=0), 1.0, rtol=1e-6)


@NETS
def test_a_projection_brings_norms_back_keeps_directions_and_is_one(make):
    net = make()
    check_units(net)
    away = moved(net)
    back = away.projected()
    check_units(back)
    for found, given in zip(kernels(back), kernels(away), strict=True):
        np.testing.assert_allclose(found * jnp.linalg.norm(given, axis=0), given, rtol=1e-5)
    for one, two in zip(jax.tree.leaves(back), jax.tree.leaves(back.projected()), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)
    np.testing.assert_array_equal(back.head.bias, away.head.bias)


def test_the_norms_of_xqc_are_free():
    away = moved(xqc())
    for one, two in zip(
        [away.first, *away.layers], [away.projected().first, *away.projected().layers], strict=True
    ):
        one, two = (each if isinstance(each, BatchRenorm) else each.norm for each in (one, two))
        np.testing.assert_array_equal(one.scale, two.scale)
        np.testing.assert_array_equal(one.bias, two.bias)


def test_zeros_stay_zeros():
    weight = jnp.ones((4, 3)).at[:, 1].set(0.0)
    np.testing.assert_allclose(unit_columns(Linear(weight, jnp.ones(3))).weight, weight / 2.0)
    nothing = BatchRenorm(jnp.zeros(4), jnp.zeros(4))
    np.testing.assert_array_equal(on_sphere(nothing).scale, 0.0)


@NETS
def test_a_head_that_is_not_projected_keeps_its_kernel(make):
    away = moved(make(unit_head=False))
    np.testing.assert_array_equal(away.projected().head.weight, away.head.weight)
    check_units(away.projected(), head=False)


@NETS
def test_the_length_of_a_column_before_a_batch_norm_changes_nothing(make, monkeypatch):
    """So a gradient is at right angles to it: what a step adds to the length, the projection takes off.

    Only epsilon does not grow with the column, so here it is next to nothing.
    """
    for name in ("XQC", "FLASH"):
        monkeypatch.setattr(unit_nets, name, replace(getattr(unit_nets, name), epsilon=1e-12))

    @jax.jit
    @jax.grad
    def slopes_of(net):
        return jnp.sum(jnp.sin(net.train(net.empty_stats(), jnp.asarray(ROWS))[0]))

    net = moved(make()).projected()
    for weight, slope in zip(kernels(net), kernels(slopes_of(net)), strict=True):
        along = jnp.abs(jnp.sum(weight * slope, axis=0))
        assert float(along.max()) < 1e-5 * float(jnp.linalg.norm(slope, axis=0).max())


# ------------------------------------------------------------------ sizes and costs


def test_parameters_at_the_published_sizes():
    """HalfCheetah: two critics of 1.71 and 2.17 million."""
    xqc = jax.eval_shape(lambda key: XQCNet.create(key, 23, (512,) * 4, 101), jax.random.key(0))
    flash = jax.eval_shape(lambda key: FlashNet.create(key, 23, 256, 2, 101), jax.random.key(0))
    counts = [2 * sum(leaf.size for leaf in jax.tree.leaves(net)) for net in (xqc, flash)]
    assert counts == [
        2 * (2 * 23 + 23 * 512 + 3 * 512**2 + 8 * 512 + 512 * 101 + 101),
        2 * (2 * 23 + 23 * 256 + 16 * 256**2 + 2 * 2 * (4 * 256 + 256) + 256 + 256 * 101 + 101),
    ]
    assert [round(count / 1e6, 2) for count in counts] == [1.71, 2.17]


def products(function, *args):
    """Multiply-adds of all matrix products."""
    count = 0
    for step in jax.make_jaxpr(function)(*args).jaxpr.eqns:
        if step.primitive.name == "dot_general":
            (contracted, _), _ = step.params["dimension_numbers"]
            shared = int(np.prod([step.invars[0].aval.shape[axis] for axis in contracted]))
            count += shared * int(np.prod(step.outvars[0].aval.shape))
    return count


@pytest.mark.parametrize("candidates", [1, 7])
def test_the_state_is_seen_once_for_all_its_actions(candidates):
    """XQC's first kernel; both of FlashSAC's before its first activation."""
    state, actions = jnp.ones(OBS), jnp.ones((candidates, ACT))

    def cost(net):
        stats = net.empty_stats()
        return products(lambda s, a: jax.vmap(lambda a: net(stats, s, a))(a), state, actions)

    behind = 8 * 6 + 6 * OUT
    assert cost(xqc()) == OBS * 8 + candidates * (ACT * 8 + behind)
    inner, short_cut = 4 * 16, ACT * 4 * 16
    row = ACT * (4 + 16) + 3 * inner + 4 * OUT
    assert cost(flash()) == OBS * 4 + inner + short_cut + candidates * row
