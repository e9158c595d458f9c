"""The mean noise of the Boltzmann policy (MaxEntDP, SDAC): estimators against numerical integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.algos.shared.boltzmann_noise import BoltzmannNoiseConfig
from fewstep.algos.shared.diffusion_policy import Noised

GRID = np.linspace(-1, 1, 4001)
ALPHA = 0.2


def two_peaks(s, a):
    return 0.8 * jnp.exp(-((a[0] - 0.6) ** 2) / 0.02) + 0.5 * jnp.exp(-((a[0] + 0.4) ** 2) / 0.05)


def mean_noise(ab, x, q=two_peaks):
    """E[e | x] for a proportional to exp(q / alpha) in the box, by a Riemann sum."""
    values = np.asarray(jax.vmap(lambda a: q(None, a[None]))(jnp.asarray(GRID)))
    e = (x - np.sqrt(ab) * GRID) / np.sqrt(1 - ab)
    log = values / ALPHA - 0.5 * e**2
    weight = np.exp(log - log.max())
    return (weight * e).sum() / weight.sum()


def estimates(ab, x, q=two_peaks, rows=200, **settings):
    """Means and spread over rows of the estimate."""
    cfg = BoltzmannNoiseConfig(**{"candidates": 500} | settings)
    of = lambda value: jnp.full(rows, value, jnp.float32)  # noqa: E731
    at = Noised(of(1).astype(jnp.int32), of(0)[:, None], of(x)[:, None], of(ab))
    run = jax.jit(lambda key: cfg.targets(q, jnp.float32(ALPHA), jnp.zeros((rows, 1)), at, key))
    target, ess = run(jax.random.key(0))
    return float(target.mean()), float(target.std()), float(ess)


@pytest.mark.parametrize(("ab", "x"), [(0.9, 0.7), (0.5, 0.1), (0.5, -1.0), (0.02, 0.3), (1e-5, -1.2)])
def test_truncated_candidates_give_the_mean_noise_of_the_boltzmann_policy(ab, x):
    mean, spread, ess = estimates(ab, x)
    assert mean == pytest.approx(mean_noise(ab, x), abs=max(4 * spread / np.sqrt(200), 2e-3) + 0.01)
    assert 1 < ess <= 500


@pytest.mark.parametrize(("ab", "x"), [(0.98, 0.6), (0.9, 0.1)])
def test_gradients_give_the_same_where_the_box_is_far(ab, x):
    mean, _, _ = estimates(ab, x, estimator="idem", proposals="clipped", candidates=4000)
    assert mean == pytest.approx(mean_noise(ab, x), abs=0.05)


def test_clipped_candidates_are_wrong_at_a_face_of_the_box():
    """A flat Q: the mean noise at x = 1, ab = 0.5 is that of a truncated normal, not 0."""
    flat = lambda s, a: 0.0 * a[0]  # noqa: E731
    exact = mean_noise(0.5, 1.0, flat)
    truncated, clipped = (estimates(0.5, 1.0, flat, proposals=p)[0] for p in ("truncated", "clipped"))
    assert exact > 0.8
    assert truncated == pytest.approx(exact, abs=0.01)
    assert clipped == pytest.approx(0, abs=0.02)


def test_the_gradient_at_the_noised_action_is_right_for_little_noise_alone():
    linear = lambda s, a: 0.3 * a[0]  # noqa: E731
    for ab, close in ((0.9999, True), (0.3, False)):
        target, spread, _ = estimates(ab, 0.0, linear, estimator="qsm")
        assert spread < 1e-6
        assert target == pytest.approx(-np.sqrt(1 - ab) * 0.3 / ALPHA, rel=1e-3)
        assert (abs(target - mean_noise(ab, 0.0, linear)) < 1e-3) == close


def test_the_effective_sample_size_is_all_of_a_flat_critic_and_one_of_a_sharp_one():
    flat = lambda s, a: 0.0 * a[0]  # noqa: E731
    assert estimates(0.5, 0.0, flat, candidates=20)[2] == pytest.approx(20, rel=1e-4)
    sharp = lambda s, a: 1e5 * a[0]  # noqa: E731
    assert estimates(0.5, 0.0, sharp, candidates=20)[2] == pytest.approx(1, abs=0.05)
