"""The bandit's closed forms against independent quadrature, sampling and published reference numbers."""

import numpy as np
import pytest
from scipy import integrate, stats

from fewstep import envs
from fewstep.envs.toys import bandit
from fewstep.envs.toys.gaussian_fit import best_gaussian
from fewstep.errors import UsageError


def test_reward_at_known_points():
    # At a centre: its own height, two neighbours at distance 1, one at sqrt 2.
    near, far = np.exp(-1 / 0.08), np.exp(-2 / 0.08)
    assert bandit.reward([0.5, 0.5]) == pytest.approx(1.0 + (0.9 + 0.6) * near + 0.8 * far, abs=1e-15)
    assert bandit.reward([0.7, 0.5]) == pytest.approx(np.exp(-0.5), abs=1e-3)
    assert bandit.reward(np.zeros((4, 5, 2))).shape == (4, 5)
    assert bandit.reward([0.0, 0.0]) == pytest.approx(3.3 * np.exp(-0.5 / 0.08))


@pytest.mark.parametrize(
    ("alpha", "shares", "reward", "entropy"),
    [(0.2, (0.397, 0.282, 0.205, 0.116), 0.586, 0.35), (0.1, (0.61, 0.26, 0.11, 0.02), 0.825, -1.32)],
)
def test_reference_numbers_of_the_target(alpha, shares, reward, entropy):
    digits = 3 if alpha == 0.2 else 2
    assert tuple(np.round(bandit.target_shares(alpha), digits)) == shares
    assert round(bandit.mean_reward(alpha), 3) == reward
    assert round(bandit.entropy(alpha), 2) == entropy


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0])
def test_quadrature_agrees_with_an_adaptive_one(alpha):
    def weight(y, x):
        return np.exp((bandit.reward([x, y]) - 1) / alpha)

    z = sum(
        integrate.dblquad(weight, a, a + 1, b, b + 1, epsabs=1e-9, epsrel=1e-9)[0]
        for a in (-1, 0)
        for b in (-1, 0)
    )
    xs, ys, density = bandit.boltzmann_density(alpha, 800)
    i, j = 603, 210
    assert density[i, j] == pytest.approx(weight(ys[j], xs[i]) / z, rel=2e-4)
    assert density.sum() * (2 / 800) ** 2 == pytest.approx(1.0, abs=1e-12)
    # H = log Z + (1 - E[r]) / alpha in the shifted form
    assert bandit.entropy(alpha) == pytest.approx(
        np.log(z) + (1 - bandit.mean_reward(alpha)) / alpha, abs=1e-3
    )


def test_high_temperature_is_uniform():
    assert bandit.entropy(1e4) == pytest.approx(np.log(4), abs=1e-6)
    np.testing.assert_allclose(bandit.target_shares(1e4), 0.25, atol=1e-4)


# The total variation of exact samples scatters by 2.3 % at 0.2, more where fewer cells carry the probability.
@pytest.mark.parametrize(("alpha", "scatter"), [(0.02, 0.6), (0.1, 0.15), (0.2, 0.12)])
def test_samples_follow_the_target(alpha, scatter):
    n = 40_000
    samples = bandit.sample_boltzmann(alpha, n, np.random.default_rng(1))
    assert samples.shape == (n, 2)
    assert samples.dtype == np.float32
    shares = bandit.target_shares(alpha)
    assert (
        np.abs(bandit.mode_shares(samples) - shares) < 4 * np.sqrt(shares * (1 - shares) / n) + 1e-3
    ).all()
    assert bandit.reward(samples).mean() == pytest.approx(bandit.mean_reward(alpha), abs=0.006)
    floor = bandit.sampling_floor(alpha, n)
    assert bandit.total_variation(samples, alpha) == pytest.approx(floor, rel=scatter)
    assert len(bandit.sample_boltzmann(alpha, 0, np.random.default_rng(1))) == 0


def test_total_variation_knows_wrong_samples():
    rng = np.random.default_rng(0)
    uniform = rng.uniform(-1, 1, (40_000, 2))
    cells = bandit.cell_probabilities(0.2)
    exact = 0.5 * np.abs(1 / 1600 - cells).sum()
    assert bandit.total_variation(uniform, 0.2) == pytest.approx(exact, abs=0.02)
    assert bandit.total_variation(np.full((10, 2), -0.9), 0.1) > 0.99
    # One mode only: everything the other three hold is missing.
    one = bandit.sample_boltzmann(0.1, 40_000, rng)
    one = one[bandit.nearest_mode(one) == 0]
    assert bandit.total_variation(one, 0.1) == pytest.approx(1 - bandit.target_shares(0.1)[0], abs=0.03)


def test_edges_of_the_box_belong_to_the_outer_cells():
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    cells = bandit.cell_probabilities(0.2, 2)
    expected = 0.5 * np.abs(0.25 - cells).sum()
    assert bandit.total_variation(corners, 0.2, bins=2) == pytest.approx(expected)


def test_shares_of_samples():
    actions = np.array([[0.5, 0.5], [0.4, 0.6], [-0.5, -0.4], [0.9, -0.9]])
    assert bandit.mode_shares(actions).tolist() == [0.5, 0.0, 0.25, 0.25]
    assert bandit.near_share(actions, 0.2) == 0.75
    assert bandit.near_share(actions, 0.05) == 0.25


@pytest.mark.parametrize(
    "call",
    [
        lambda: bandit.total_variation([[1.5, 0.0]], 0.2),
        lambda: bandit.total_variation([[np.nan, 0.0]], 0.2),
        lambda: bandit.mode_shares(np.zeros((0, 2))),
        lambda: bandit.near_share(np.zeros(3)),
        lambda: bandit.boltzmann_density(0.0),
        lambda: bandit.entropy(np.nan),
    ],
)
def test_meaningless_requests_are_refused(call):
    with pytest.raises(UsageError):
        call()


def test_best_gaussian_against_scipy():
    """KL of the found fit, recomputed with scipy's truncated normal, and no nearby Gaussian is better."""
    alpha = 0.1
    best = best_gaussian(alpha).best
    xs, ys, density = bandit.boltzmann_density(alpha, 400)

    def kl(mean, std):
        q = np.outer(
            *(
                stats.truncnorm.pdf(axis, (-1 - m) / s, (1 - m) / s, loc=m, scale=s)
                for axis, m, s in zip((xs, ys), mean, std, strict=True)
            )
        )
        return float((q * (np.log(np.maximum(q, 1e-300)) - np.log(density))).sum() * (2 / 400) ** 2)

    assert kl(best.mean, best.std) == pytest.approx(best.kl, abs=1e-3)
    assert best.kl < kl((-0.5, 0.5), best.std) < kl((-0.5, -0.5), best.std)
    for scale in (0.9, 1.1):
        assert kl(best.mean, np.array(best.std) * scale) > best.kl
        assert kl(np.array(best.mean) * scale, best.std) > best.kl
    # Near the top of a bump p is Gaussian with variance alpha w^2 / h.
    assert best.std[0] == pytest.approx(np.sqrt(alpha) * bandit.WIDTH, rel=0.15)


def test_the_gaussian_the_boltzmann_test_is_compared_with():
    cold, warm = best_gaussian(0.1).best, best_gaussian(0.2)
    np.testing.assert_allclose(cold.mean, (0.5, 0.5), atol=1e-3)  # one mode, the highest
    assert cold.mode_shares[0] > 0.999
    assert cold.total_variation == pytest.approx(0.392, abs=2e-3)
    assert warm.best.total_variation == pytest.approx(0.547, abs=2e-3)  # smeared over all four
    assert min(warm.best.mode_shares) > 0.2
    assert warm.best.kl == pytest.approx(0.8393, abs=1e-3)
    assert warm.moment_matched.kl > warm.best.kl


def test_moment_matched_has_the_targets_moments():
    alpha = 0.2
    fit = best_gaussian(alpha).moment_matched
    xs, _, density = bandit.boltzmann_density(alpha, 400)
    for axis, m, s in zip((1, 0), fit.mean, fit.std, strict=True):
        marginal = density.sum(axis) * (2 / 400) ** 2
        q = stats.truncnorm((-1 - m) / s, (1 - m) / s, loc=m, scale=s)
        mean = marginal @ xs
        assert q.mean() == pytest.approx(mean, abs=1e-3)
        assert q.var() == pytest.approx(marginal @ xs**2 - mean**2, abs=1e-3)


def test_the_environment():
    vector = envs.make("toy/bandit", 2)
    assert vector.reset([0, 1]).tolist() == [[1.0], [1.0]]
    actions = np.array([[0.5, 0.5], [-0.2, 0.1]], np.float32)
    result = vector.step(actions)
    np.testing.assert_allclose(result.reward, bandit.reward(actions), rtol=1e-6)
    assert result.terminated.all()
    assert not result.truncated.any()
    toy = vector.toy
    assert toy is not None
    assert (toy.name, toy.goal_count, toy.probe_obs.tolist()) == ("bandit", 0, [1.0])
    assert toy.position(vector) is None
    assert toy.goal_of(np.zeros((3, 2))) is None
