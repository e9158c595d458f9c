"""Diffusion policies: the noising path, what a guess of the noise says about it, and the samplers.

    x_t = sqrt(ab_t) a + sqrt(1 - ab_t) e,     e ~ N(0, I),     ab_0 = 1 > ab_1 > ... > ab_T near 0.

``x_0`` is the action, ``x_T`` nearly the noise, and ``ab`` ("alpha bar") the share of the action's variance
that is left. ``Noise`` guesses e from (x_t, t): a network with its state filled in; t counts 1 to T.
Everything is for one sample; where a function takes ``ab`` alone it is that of one time.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from fewstep.flows.bounds import clip
from fewstep.flows.meanflow import Scalar, Vector
from fewstep.flows.velocity import share_below, truncated_mean, truncated_normal

Noise = Callable[[Vector, Int[Array, ""]], Vector]
ToBox = Callable[[Vector], Vector]
"""Brings an action into [-1, 1]: a function of ``flows.bounds``."""
Schedule = Literal["cosine", "linear", "steep", "vp"]
SCHEDULES: tuple[Schedule, ...] = ("cosine", "linear", "steep", "vp")
LARGEST_BETA = 0.999
"""Of one step of the cosine schedule, whose last would be 1 (Nichol and Dhariwal 2021)."""


def alphas_bar(schedule: Schedule, steps: int) -> Float[np.ndarray, "T+1"]:
    """ab_0 = 1, ab_1, ..., ab_T as float32.

    ``cosine``: Nichol and Dhariwal 2021 (arXiv 2102.09672), equation 17, offset 0.008. ``linear``: betas
    evenly spaced from 1e-4 to 0.02 (Ho et al. 2020, arXiv 2006.11239), for hundreds of steps: 20 of them
    leave 81 % of the action's variance in x_T. ``steep``: betas evenly spaced from 8e-5 to 0.8, for about 20
    steps (the code of SDAC and DPMD). ``vp``: the variance preserving SDE with beta from 0.1 to 10,
    cut into steps (Xiao et al. 2022, arXiv 2112.07804), for any number of them.
    """
    i = np.arange(steps + 1)
    if schedule == "cosine":
        f = np.cos((i / steps + 0.008) / 1.008 * np.pi / 2.0) ** 2
        betas = np.minimum(1.0 - f[1:] / f[:-1], LARGEST_BETA)
    elif schedule == "linear":
        betas = np.linspace(1e-4, 0.02, steps)
    elif schedule == "steep":
        betas = 0.8 * np.linspace(1e-4, 0.999, steps)
    else:
        betas = 1.0 - np.exp(-0.1 / steps - 0.5 * (10.0 - 0.1) * (2 * i[1:] - 1) / steps**2)
    return np.cumprod([1.0, *(1.0 - betas)]).astype(np.float32)


def noised(ab: Scalar, a: Vector, e: Vector) -> Vector:
    """x of the action ``a`` and the noise ``e``."""
    return jnp.sqrt(ab) * a + jnp.sqrt(1.0 - ab) * e


def clean(ab: Scalar, x: Vector, e: Vector) -> Vector:
    """The action that the noise ``e`` has made ``x`` of."""
    return (x - jnp.sqrt(1.0 - ab) * e) / jnp.sqrt(ab)


def noise_of(ab: Scalar, x: Vector, a: Vector) -> Vector:
    """The noise that has made ``x`` of the action ``a``; ab < 1."""
    return (x - jnp.sqrt(ab) * a) / jnp.sqrt(1.0 - ab)


def score_of(ab: Scalar, e: Vector) -> Vector:
    """grad_x log p_t(x) where ``e`` is the mean noise of x (Tweedie's formula); ab < 1."""
    return -e / jnp.sqrt(1.0 - ab)


def noise_of_score(ab: Scalar, score: Vector) -> Vector:
    """The mean noise of a point with this score: the inverse of ``score_of``."""
    return -jnp.sqrt(1.0 - ab) * score


def step_back(
    ab_t: Scalar, ab_s: Scalar, x: Vector, e: Vector, z: Vector, eta: float = 1.0, bound: ToBox = clip
) -> Vector:
    """From x_t to x_s, s < t, with the guess ``e`` of the noise and a fresh noise ``z`` ~ N(0, I).

    Song et al. 2021 (arXiv 2010.02502), equation 12, of which ``eta`` = 1 is ancestral sampling (DDPM: the
    Gaussian q(x_s | x_t, a) with the guessed action) and 0 the deterministic DDIM. ``bound`` brings the
    guessed action into the box first, and the noise with it.
    """
    a = bound(clean(ab_t, x, e))
    e = noise_of(ab_t, x, a)
    variance = eta**2 * (1.0 - ab_s) / (1.0 - ab_t) * (1.0 - ab_t / ab_s)
    left = jnp.maximum(1.0 - ab_s - variance, 0.0)
    return jnp.sqrt(ab_s) * a + jnp.sqrt(left) * e + jnp.sqrt(variance) * z


def sample(
    abs_: Float[np.ndarray, "T+1"],
    guess: Noise,
    noise: Float[Array, "T act"],
    eta: float = 1.0,
    bound: ToBox = clip,
) -> Vector:
    """An action from x_T = ``noise[0]``, with ``noise[1:]`` on the way; the last step adds none.

    Of noises 0 it is the deterministic chain from x_T = 0. The action lies where ``bound`` leads.
    """
    steps = len(abs_) - 1
    times = jnp.arange(steps, 0, -1)
    table = jnp.asarray(abs_)
    fresh = jnp.concatenate([noise[1:], jnp.zeros_like(noise[:1])])

    def back(x: Vector, now: tuple[Array, Array, Array, Vector]) -> tuple[Vector, None]:
        t, ab_t, ab_s, z = now
        return step_back(ab_t, ab_s, x, guess(x, t), z, eta, bound), None

    x, _ = lax.scan(back, noise[0], (times, table[times], table[times - 1], fresh))
    return x


def proposals(ab: Scalar, x: Vector, z: Float[Array, "K act"]) -> Float[Array, "K act"]:
    """Actions that x may have been made of: (x + sqrt(1 - ab) z) / sqrt(ab), z ~ N(0, I).

    That is p(a | x) for a target that is flat everywhere; the noise of such an action is ``-z``.
    """
    return clean(ab, x, -z)


def noise_bounds(ab: Scalar, x: Vector) -> tuple[Vector, Vector]:
    """The image of the box [-1, 1]: the lowest and highest ``z`` whose ``proposals`` lie in it; ab < 1."""
    return (-jnp.sqrt(ab) - x) / jnp.sqrt(1.0 - ab), (jnp.sqrt(ab) - x) / jnp.sqrt(1.0 - ab)


def noise_in_box(ab: Scalar, x: Vector, uniform: Float[Array, "K act"]) -> Float[Array, "K act"]:
    """``z`` whose ``proposals`` lie in [-1, 1]: a standard normal truncated to the image of the box; ab < 1.

    Their distribution is p(a | x) for a target that is flat in the box and 0 outside. ``uniform`` are the
    numbers from (0, 1) it is made of.
    """
    return truncated_normal(uniform, *noise_bounds(ab, x))


def noise_by_weights(log_target: Float[Array, "K"], z: Float[Array, "K act"]) -> Vector:
    """The mean noise of x for the target exp(log_target) at the ``proposals`` of ``z``: -sum_k w_k z_k.

    Self-normalised importance sampling without a gradient of the target: Q-weighted noise estimation
    (MaxEntDP, arXiv 2502.11612), reverse sampling score matching (SDAC, arXiv 2502.00361).
    """
    return -jax.nn.softmax(log_target) @ z


def noise_by_weighted_gradients(
    ab: Scalar, log_target: Float[Array, "K"], gradients: Float[Array, "K act"]
) -> Vector:
    """The same mean from the target's gradients at the proposals (iDEM, Akhound-Sadegh et al. 2024, arXiv
    2402.06121): -sqrt((1 - ab) / ab) sum_k w_k grad log target.

    Both are right in the limit of many proposals (integration by parts turns one into the other); this one
    has no error at all where the gradient is constant.
    """
    return -jnp.sqrt((1.0 - ab) / ab) * (jax.nn.softmax(log_target) @ gradients)


def moved_in_box(
    ab: Scalar, x: Vector, uniform: Float[Array, "K act"], z: Float[Array, "K act"]
) -> Float[Array, "K act"]:
    """da/dx of the ``proposals`` of ``z = noise_in_box(ab, x, uniform)``, elementwise: 0 to 1 / sqrt(ab).

    The share f of the truncated normal's mass below z does not change with x, so with z from low to high
    dz/dx = -((1 - f) phi(low) + f phi(high)) / (phi(z) sqrt(1 - ab)), phi the normal density.
    """
    low, high = noise_bounds(ab, x)
    below = share_below(uniform, low, high)
    logs = jnp.log(jnp.stack([1.0 - below, below])) + 0.5 * (z**2 - jnp.stack([low**2, high**2])[:, None])
    return jnp.maximum(1.0 - jnp.exp(logs).sum(0), 0.0) / jnp.sqrt(ab)


def score_in_box(
    ab: Scalar,
    x: Vector,
    uniform: Float[Array, "K act"],
    z: Float[Array, "K act"],
    log_target: Float[Array, "K"],
    gradients: Float[Array, "K act"],
) -> Vector:
    """grad_x log p_t(x) for a target that is 0 outside of the box, from its gradients inside (iDEM in a box).

    p_t(x) is the mass of N(x, 1 - ab) in the image of the box times the mean of the target over the proposals
    of ``z = noise_in_box(ab, x, uniform)``. The gradient of the first is known, that of the second goes
    through the proposals:

        E[z] / sqrt(1 - ab) + sum_k w_k da_k/dx grad log target(a_k),     w = softmax_k(log target(a_k)).
    """
    flat = truncated_mean(*noise_bounds(ab, x)) / jnp.sqrt(1.0 - ab)
    return flat + jax.nn.softmax(log_target) @ (moved_in_box(ab, x, uniform, z) * gradients)


def noise_by_gradient(ab: Scalar, gradient: Vector) -> Vector:
    """The noise whose score is the target's own gradient at x (QSM, arXiv 2312.11752): right as ab goes to 1.

    The noised target is smoother than the target; at larger noise this forgets the smoothing.
    """
    return noise_of_score(ab, gradient)
