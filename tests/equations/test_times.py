import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows.times import TimeRows, sample_times, uniform_pairs

AUTHORS = {"mean": -0.4, "std": 1.0, "clamp": 1e-3, "steps": 2}


def draw(grid_share=0.0, batch=256, count=400, equal_share=0.75, **changes):
    rows = TimeRows.split(batch, equal_share, grid_share)
    keys = jax.random.split(jax.random.key(1), count)
    r, t = jax.jit(jax.vmap(lambda k: sample_times(k, rows, **(AUTHORS | changes))))(keys)
    return np.asarray(r), np.asarray(t)


def test_statistics_of_the_authors_sampler():
    """As measured on the authors' code, for t and, on the rows apart, for h = t - r."""
    r, t = draw()
    assert abs(t.mean() - 0.535) < 0.003
    quantiles = np.quantile(t, [0.05, 0.25, 0.5, 0.75, 0.95])
    np.testing.assert_allclose(quantiles, [0.24, 0.40, 0.54, 0.67, 0.82], atol=0.01)
    h = (t - r)[:, 192:]
    assert abs(h.mean() - 0.23) < 0.005
    assert abs(np.median(h) - 0.20) < 0.01
    assert abs(np.quantile(h, 0.95) - 0.56) < 0.01
    assert abs((h >= 0.5).mean() - 0.08) < 0.01
    assert abs((t > 0.95).mean() - 8e-4) < 3e-4


def test_the_first_three_quarters_have_equal_times():
    r, t = draw()
    assert np.array_equal(r[:, :192], t[:, :192])
    assert (r[:, 192:] < t[:, 192:]).all()


def test_grid_rows_fill_the_samplers_intervals_and_only_those_rows_change():
    plain_r, plain_t = draw()
    r, t = draw(grid_share=0.25)
    apart_r, apart_t = r[:, -16:].ravel(), t[:, -16:].ravel()
    for start in (0.0, 0.5):
        inside = apart_t[apart_r == start]
        assert abs(len(inside) / apart_t.size - 0.5) < 0.03
        np.testing.assert_allclose(
            np.quantile(inside, [0, 0.25, 0.5, 0.75, 1]),
            start + np.array([0, 0.125, 0.25, 0.375, 0.5]),
            atol=0.012,
        )
        assert inside.min() > start
    assert set(np.unique(apart_r)) == {0.0, 0.5}
    equal = t[:, 192 - 48 : 192]
    np.testing.assert_allclose(
        np.quantile(equal, [0, 0.25, 0.5, 0.75, 1]), [0, 0.25, 0.5, 0.75, 1], atol=0.012
    )
    assert np.array_equal(r[:, :192], t[:, :192])
    assert np.array_equal(t[:, : 192 - 48], plain_t[:, : 192 - 48])
    assert np.array_equal(r[:, 192:-16], plain_r[:, 192:-16])


@pytest.mark.parametrize(("equal_share", "grid_share"), [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)])
def test_the_shares_may_be_extreme(equal_share, grid_share):
    r, t = draw(grid_share, 7, 3, equal_share)
    assert ((r >= 0) & (r <= t) & (t <= 1)).all()


def test_drawn_times_respect_the_clamp():
    r, t = draw(mean=-12.0, clamp=0.01)
    assert r.min() == t.min() == np.float32(0.01)
    r, t = draw(mean=12.0, clamp=0.01)
    assert r.max() == t.max() == np.float32(0.99)


def test_row_counts_are_floors():
    assert TimeRows.split(256, 0.75, 0.25) == TimeRows(192, 48, 64, 16)
    assert TimeRows.split(10, 0.75, 0.5) == TimeRows(7, 3, 3, 1)
    assert jnp.all(
        jnp.array([TimeRows.split(n, 0.75, 0.0).equal for n in range(5)]) == jnp.array([0, 0, 1, 2, 3])
    )


@pytest.mark.parametrize("equal", [0, 3000, 10_000])
def test_uniform_pairs_are_one_draw_or_two_in_order(equal):
    r, t = map(np.asarray, uniform_pairs(jax.random.key(0), 10_000, equal))
    np.testing.assert_array_equal(r[:equal], t[:equal])
    assert (r[equal:] < t[equal:]).all()
    quantiles = np.array([0.1, 0.5, 0.9])
    if equal:
        np.testing.assert_allclose(np.quantile(t[:equal], quantiles), quantiles, atol=0.03)
    if equal < 10_000:  # the smaller and the larger of two draws
        np.testing.assert_allclose(np.quantile(t[equal:], quantiles), np.sqrt(quantiles), atol=0.03)
        np.testing.assert_allclose(np.quantile(1 - r[equal:], quantiles), np.sqrt(quantiles), atol=0.03)


@pytest.mark.parametrize("steps", [1, 4])
def test_grid_rows_of_uniform_pairs_begin_where_the_samplers_intervals_do(steps):
    r, t = map(np.asarray, uniform_pairs(jax.random.key(0), 10_000, 2000, 5000, steps))
    plain = list(map(np.asarray, uniform_pairs(jax.random.key(0), 10_000, 2000)))
    np.testing.assert_array_equal([r[:5000], t[:5000]], [plain[0][:5000], plain[1][:5000]])
    np.testing.assert_array_equal(r[5000:], np.floor(t[5000:] * steps) / steps)
    np.testing.assert_allclose(np.quantile(t[5000:], [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)
    assert np.all(r <= t)
