"""Diffusion: schedules, conversions, samplers and estimates of the noise, against closed forms.

For a Gaussian action a ~ N(m, v) the point x_t is N(sqrt(ab) m, ab v + 1 - ab), its mean noise is known, and
so is what a sampler that guesses it must end with.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fewstep.flows import diffusion

M, V = np.array([0.3, -0.2]), 0.04


def gaussian_noise(ab, x, m=M, v=V):
    """E[e | x] for a ~ N(m, v I)."""
    return jnp.sqrt(1 - ab) * (x - jnp.sqrt(ab) * m) / (ab * v + 1 - ab)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [(s, n) for s in diffusion.SCHEDULES for n in (1, 5, 20, 100, 1000) if (s, n) != ("steep", 1000)],
)
def test_schedules_fall_from_one(schedule, steps):
    abs_ = diffusion.alphas_bar(schedule, steps)
    assert abs_.shape == (steps + 1,)
    assert abs_[0] == 1
    assert np.all(np.diff(abs_) < 0)
    assert abs_[-1] > 0


def test_schedules_at_known_numbers():
    """1000 linear steps leave 4.04e-5, betas of the cosine are at most 0.999, vp is the SDE's integral."""
    assert diffusion.alphas_bar("linear", 1000)[-1] == pytest.approx(4.04e-5, rel=2e-3)
    assert diffusion.alphas_bar("linear", 20)[-1] == pytest.approx(0.817, abs=1e-3)
    cosine = diffusion.alphas_bar("cosine", 20)
    assert cosine[-1] / cosine[-2] == pytest.approx(0.001, rel=1e-4)
    f = np.cos((np.array([0, 10]) / 20 + 0.008) / 1.008 * np.pi / 2) ** 2
    assert cosine[10] == pytest.approx(f[1] / f[0], rel=1e-5)
    for steps in (1, 5, 100):  # exp(-integral from 0 to u of the betas, which are 0.1 + 9.9 u)
        u = np.arange(steps + 1) / steps
        wanted = np.exp(-(0.1 * u + 4.95 * u**2))
        np.testing.assert_allclose(diffusion.alphas_bar("vp", steps), wanted, rtol=1e-5)


def test_conversions_invert_each_other():
    rng = np.random.default_rng(0)
    a, e = rng.normal(size=(2, 3))
    with jax.enable_x64(True):
        for ab in (0.999, 0.5, 1e-3):
            x = diffusion.noised(ab, a, e)
            np.testing.assert_allclose(diffusion.clean(ab, x, e), a, rtol=1e-10)
            np.testing.assert_allclose(diffusion.noise_of(ab, x, a), e, rtol=1e-10)
            np.testing.assert_allclose(diffusion.noise_of_score(ab, diffusion.score_of(ab, e)), e, rtol=1e-12)


def test_the_score_is_the_gradient_of_the_noised_density():
    with jax.enable_x64(True):
        ab, x = 0.6, jnp.array([0.7, 0.1])
        log_p = lambda y: jax.scipy.stats.norm.logpdf(y, jnp.sqrt(ab) * M, jnp.sqrt(ab * V + 1 - ab)).sum()  # noqa: E731
        score = diffusion.score_of(ab, gaussian_noise(ab, x))
        np.testing.assert_allclose(score, jax.grad(log_p)(x), rtol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_one_step_back_keeps_the_marginal_when_the_action_is_known(eta):
    """With the true noise as the guess, x_s must be N(sqrt(ab_s) a, 1 - ab_s): DDIM's defining property."""
    with jax.enable_x64(True):
        ab_t, ab_s, a = 0.3, 0.7, jnp.array([0.4, -0.9])
        e, z = jax.random.normal(jax.random.key(0), (2, 200_000, 2))
        x = diffusion.noised(ab_t, a, e)
        back = diffusion.step_back(ab_t, ab_s, x, diffusion.noise_of(ab_t, x, a), z, eta)
        np.testing.assert_allclose(back.mean(0), jnp.sqrt(ab_s) * a, atol=5e-3)
        np.testing.assert_allclose(back.std(0), jnp.sqrt(1 - ab_s), rtol=1e-2)


def test_ancestral_sampling_is_the_posterior_of_ddpm():
    """Mean and variance of q(x_s | x_t, a) by the product of two Gaussians (Ho et al. 2020, equation 7)."""
    with jax.enable_x64(True):
        ab_t, ab_s, x, a = 0.3, 0.7, jnp.array([0.5]), jnp.array([0.2])
        ratio = ab_t / ab_s
        precision = 1 / (1 - ab_s) + ratio / (1 - ratio)
        mean = (jnp.sqrt(ab_s) * a / (1 - ab_s) + jnp.sqrt(ratio) * x / (1 - ratio)) / precision
        e = diffusion.noise_of(ab_t, x, a)
        np.testing.assert_allclose(diffusion.step_back(ab_t, ab_s, x, e, jnp.zeros(1)), mean, rtol=1e-10)
        one = diffusion.step_back(ab_t, ab_s, x, e, jnp.ones(1)) - mean
        np.testing.assert_allclose(one**2, 1 / precision, rtol=1e-10)


def moments(abs_, guess, eta, count=50_000):
    noise = jax.random.normal(jax.random.key(1), (count, len(abs_) - 1, 2))
    a = jax.jit(jax.vmap(lambda n: diffusion.sample(abs_, guess, n, eta, lambda a: a)))(noise)
    return np.asarray(a.mean(0)), np.asarray(a.std(0))


def exact_moments(abs_, m=M, v=V):
    """Of ancestral sampling with the true mean noise: every step is linear: moments by recursion."""
    mean, variance = np.zeros(2), 1.0
    for ab_t, ab_s in zip(abs_[:0:-1].astype(float), abs_[-2::-1].astype(float), strict=True):
        total = ab_t * v + 1 - ab_t  # E[a | x] = m + sqrt(ab_t) v (x - sqrt(ab_t) m) / total
        beta = 1 - ab_t / ab_s
        on_a, on_x = np.sqrt(ab_s) * beta / (1 - ab_t), np.sqrt(ab_t / ab_s) * (1 - ab_s) / (1 - ab_t)
        slope = on_a * np.sqrt(ab_t) * v / total + on_x
        mean = on_a * (m - ab_t * v * m / total) + slope * mean
        variance = slope**2 * variance + beta * (1 - ab_s) / (1 - ab_t)
    return mean, np.sqrt(variance)


@pytest.mark.parametrize(("schedule", "steps"), [("vp", 5), ("cosine", 20), ("cosine", 200)])
def test_ancestral_sampling_of_a_gaussian_has_the_exact_moments(schedule, steps):
    abs_ = diffusion.alphas_bar(schedule, steps)
    table = jnp.asarray(abs_)
    mean, std = moments(abs_, lambda x, t: gaussian_noise(table[t], x), 1.0)
    exact_mean, exact_std = exact_moments(abs_)
    np.testing.assert_allclose(mean, exact_mean, atol=4e-3)
    np.testing.assert_allclose(std, exact_std, rtol=0.01)
    if steps == 200:  # the lower of the two usual variances: a little narrow for a finite number of steps
        np.testing.assert_allclose(exact_mean, M, atol=1e-3)
        assert 0.95 < exact_std / V**0.5 < 0.97


def test_ddim_of_a_gaussian_reaches_it():
    abs_ = diffusion.alphas_bar("cosine", 200)
    table = jnp.asarray(abs_)
    mean, std = moments(abs_, lambda x, t: gaussian_noise(table[t], x), 0.0)
    np.testing.assert_allclose(mean, M, atol=0.01)
    np.testing.assert_allclose(std, V**0.5, rtol=0.03)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_sample_is_the_chain_written_out_and_in_the_box(eta):
    """Also of noises 0; the guess is wild, so that guessed actions are cut."""
    abs_ = diffusion.alphas_bar("vp", 5)
    noise = np.array(jax.random.normal(jax.random.key(2), (100, 5, 2)))
    noise[0] = 0
    wild = lambda x, t: 3.0 * jnp.sin(7.0 * x + t)  # noqa: E731
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(lambda n: diffusion.sample(abs_.astype(float), wild, n, eta)))(
            noise.astype(float)
        )
    x, cut = noise[:, 0].astype(float), 0
    for t in range(5, 0, -1):
        ab_t, ab_s = abs_[t].astype(float), abs_[t - 1].astype(float)
        guessed = (x - np.sqrt(1 - ab_t) * 3 * np.sin(7 * x + t)) / np.sqrt(ab_t)
        a = np.clip(guessed, -1, 1)
        cut += np.mean(a != guessed)
        e = (x - np.sqrt(ab_t) * a) / np.sqrt(1 - ab_t)
        variance = eta**2 * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
        x = np.sqrt(ab_s) * a + np.sqrt(1 - ab_s - variance) * e
        x += np.sqrt(variance) * noise[:, 6 - t] if t > 1 else 0
    np.testing.assert_allclose(found, x, atol=1e-8)
    assert np.all(np.abs(found) <= 1)
    assert 0 < cut < 5


def test_estimates_of_the_noise_for_a_linear_target():
    """log p(a) = b a: p(a | x) moves by ((1 - ab) / ab) b, so the mean noise is -sqrt((1 - ab) / ab) b."""
    ab, x, b = 0.5, jnp.array([0.2, -0.1]), jnp.array([0.6, -0.3])
    exact = -np.sqrt((1 - ab) / ab) * b
    z = jax.random.normal(jax.random.key(3), (400_000, 2))
    actions = diffusion.proposals(ab, x, z)
    np.testing.assert_allclose(diffusion.noise_of(ab, x, actions[:5]), -z[:5], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(diffusion.noise_by_weights(actions @ b, z), exact, atol=5e-3)
    gradients = jnp.broadcast_to(b, actions.shape)
    few = diffusion.noise_by_weighted_gradients(ab, (actions @ b)[:2], gradients[:2])
    np.testing.assert_allclose(few, exact, rtol=1e-5)


def test_estimates_of_the_noise_for_a_gaussian_target():
    """Both importance-sampled estimates find E[e | x]."""
    log_p = lambda a: jax.scipy.stats.norm.logpdf(a, M, V**0.5).sum(-1)  # noqa: E731
    z = jax.random.normal(jax.random.key(4), (400_000, 2))
    x = jnp.array([0.25, -0.1])
    for ab in (0.9, 0.98):
        exact = gaussian_noise(ab, x)
        actions = diffusion.proposals(ab, x, z)
        np.testing.assert_allclose(diffusion.noise_by_weights(log_p(actions), z), exact, atol=6e-3)
        slopes = jax.vmap(jax.grad(log_p))(actions)
        by_slopes = diffusion.noise_by_weighted_gradients(ab, log_p(actions), slopes)
        np.testing.assert_allclose(by_slopes, exact, atol=6e-3)


def test_the_gradient_at_the_noised_action_is_right_for_little_noise_only():
    """For a Gaussian the score of x_t is that of the action divided by (ab v + 1 - ab) / v."""
    log_p = lambda a: jax.scipy.stats.norm.logpdf(a, M, V**0.5).sum()  # noqa: E731
    away = jnp.array([0.05, 0.1])
    for ab, times in ((0.9999, 1.0024), (0.9, 3.4)):
        at_x = diffusion.noise_by_gradient(ab, jax.grad(log_p)(M + away))
        np.testing.assert_allclose(at_x / gaussian_noise(ab, jnp.sqrt(ab) * M + away), times, rtol=1e-3)


def test_candidates_in_the_box_have_the_posterior_of_a_flat_target():
    """p(a | x) for a target that is uniform in the box, against the truncated Gaussian's moments."""
    from scipy import stats

    for ab, x in ((0.5, np.array([0.6, -1.4])), (0.99, np.array([0.97, -0.2])), (1e-3, np.array([2.0, 0.0]))):
        uniform = jax.random.uniform(jax.random.key(0), (400_000, 2), minval=1e-7)
        z = diffusion.noise_in_box(jnp.float32(ab), jnp.asarray(x), uniform)
        a = np.asarray(diffusion.proposals(jnp.float32(ab), jnp.asarray(x), z))
        assert np.all(np.abs(a) <= 1 + 1e-4)
        mean, std = x / np.sqrt(ab), np.sqrt((1 - ab) / ab)
        exact = stats.truncnorm((-1 - mean) / std, (1 - mean) / std, mean, std)
        np.testing.assert_allclose(a.mean(0), exact.mean(), atol=4e-3)
        np.testing.assert_allclose(a.std(0), exact.std(), atol=4e-3)


def test_the_steep_schedule_at_known_numbers():
    betas = 0.8 * np.linspace(1e-4, 0.999, 20)
    np.testing.assert_allclose(diffusion.alphas_bar("steep", 20)[1:], np.cumprod(1 - betas), rtol=1e-5)
    assert diffusion.alphas_bar("steep", 20)[-1] < 1e-4
