"""GELU as a rational function against the formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.nets.activations import GELU_END, GELU_P, GELU_Q, gelu, mish


def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and derivative."""
    tanh = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * x * (1 + tanh), 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * inner


X = np.concatenate([np.linspace(-30, 30, 600_001), [-GELU_END, 0.0, GELU_END]]).astype(np.float32)


def test_value_and_slope_are_the_formulas_to_float32_rounding() -> None:
    value, slope = formula(X.astype(np.float64))
    scale = np.maximum(1.0, np.abs(X))
    assert np.max(np.abs(jax.jit(gelu)(X) - value) / scale) < 3e-7
    forward = jax.vmap(lambda x: jax.jvp(gelu, (x,), (jnp.ones(()),))[1])(X)
    for found in (jax.vmap(jax.grad(gelu))(X), forward):
        assert np.max(np.abs(found - slope)) < 6e-6


def test_it_is_no_worse_than_jax_beside_it() -> None:
    value, _ = formula(X.astype(np.float64))
    ours, theirs = (np.max(np.abs(f(X) - value) / np.maximum(1.0, np.abs(X))) for f in (gelu, jax.nn.gelu))
    assert ours < 1.5 * theirs


def test_the_fit_itself_is_good_to_one_in_ten_million() -> None:
    """In float64, so that rounding is not part of it."""
    x = np.linspace(0, GELU_END, 100_001)
    t = x * x
    fitted = x * (0.5 + x * np.polyval(GELU_P[::-1], t) / np.polyval(GELU_Q[::-1], t))
    assert np.max(np.abs(fitted - formula(x)[0])) < 1.2e-7


@pytest.mark.parametrize(("x", "expected"), [(np.inf, np.inf), (1e30, 1e30), (-1e30, 0.0), (-np.inf, 0.0)])
def test_far_out_it_is_the_identity_or_nothing(x: float, expected: float) -> None:
    assert gelu(jnp.float32(x)) == pytest.approx(expected, rel=6e-7, abs=6e-7)
    assert jax.grad(gelu)(jnp.float32(x)) == pytest.approx(float(x > 0), abs=6e-6)


def test_in_float64_it_is_the_formula() -> None:
    x = np.linspace(-8, 8, 1001)
    with jax.enable_x64(True):
        np.testing.assert_allclose(gelu(jnp.asarray(x)), formula(x)[0], rtol=1e-12, atol=1e-14)


def test_not_a_number_stays_one() -> None:
    assert np.isnan(gelu(jnp.float32(np.nan)))
    assert np.isnan(jax.grad(gelu)(jnp.float32(np.nan)))


def test_mish_is_its_definition_in_value_and_slope():
    x = jnp.linspace(-30.0, 60.0, 9001)
    with jax.enable_x64(True):
        exact = lambda y: y * jnp.tanh(jnp.logaddexp(y, 0.0))  # noqa: E731
        wide = jnp.asarray(np.asarray(x), jnp.float64)
        values, slopes = np.asarray(exact(wide)), np.asarray(jax.vmap(jax.grad(exact))(wide))
    np.testing.assert_allclose(mish(x), values, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(mish))(x), slopes, atol=1e-5
    )  # rounding: x times that of y / (y + 2)
