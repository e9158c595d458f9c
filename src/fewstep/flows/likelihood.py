"""The density that a diffusion policy gives an action, from nothing but its guesses of noise.

With the signal-to-noise ratio g = ab / (1 - ab) and the mean noise of x_t as the guess, every density obeys

    log p(a) = -d/2 log(2 pi e) + 1/2 integral (ab d - E_e |e - guess(x_t)|^2) d log g,

(Kong, Brekelmans and Ver Steeg 2023, arXiv 2302.03792, in terms of noise): a Gaussian of
variance 1 denoises with the error ab d, and whatever is denoised better is denser than it. For one action.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fewstep.flows.diffusion import Noise, clean, noise_of, noised
from fewstep.flows.meanflow import Scalar, Vector

Rule = Literal["trapezoid", "right"]
TYPICAL_VARIANCE = 0.1
"""Of an action, for the control variate: at a tenth of it and ten times it, it still takes noise off."""


def quadrature(alphas_bar: Float[np.ndarray, "T+1"], rule: Rule) -> Float[np.ndarray, "T"]:
    """Weights of the integrand at the steps 1 to T for the integral over log g.

    ``trapezoid``: in log g between the steps; beyond the first and the last the integrand falls like 1 / g
    and like g. ``right``: the integrand at t times ab_{t-1} - ab_t over ab_t (1 - ab_t), the derivative of
    log g (the code of MaxEntDP).
    """
    ab = alphas_bar[1:].astype(np.float64)
    if rule == "right":
        return (alphas_bar[:-1] - ab) / (ab * (1.0 - ab))
    gaps = -np.diff(np.log(ab) - np.log1p(-ab))
    weights = np.ones_like(ab)
    weights[1:-1] = 0.0
    weights[1:] += 0.5 * gaps
    weights[:-1] += 0.5 * gaps
    return weights + (1.0 if len(ab) == 1 else 0.0)


def log_density(
    alphas_bar: Float[np.ndarray, "T+1"],
    guess: Noise,
    a: Vector,
    noise: Float[Array, "samples T act"],
    rule: Rule = "trapezoid",
    clip: bool = True,
) -> Scalar:
    """log p(a), nats, estimated with ``noise`` ~ N(0, I): unbiased in it but for the quadrature.

    Its error is that of the steps: with T of them a density narrower than the first step's noise is taken to
    be about as wide as that. With ``clip`` the guessed action is cut to the box first, as the sampler does.

    Most of a denoising error's noise is that of |e|^2, whose mean is d: the share of it that a Gaussian of
    ``TYPICAL_VARIANCE`` has is taken off as a control variate.
    """
    table = jnp.asarray(alphas_bar)[1:]
    steps = jnp.arange(1, len(alphas_bar))

    def error(t: Array, ab: Scalar, e: Vector) -> Scalar:
        x = noised(ab, a, e)
        guessed = guess(x, t)
        if clip:
            guessed = noise_of(ab, x, jnp.clip(clean(ab, x, guessed), -1.0, 1.0))
        narrow = TYPICAL_VARIANCE * ab / (TYPICAL_VARIANCE * ab + 1.0 - ab)
        return jnp.sum((e - guessed) ** 2) - narrow**2 * (jnp.sum(e**2) - e.shape[0])

    errors = jax.vmap(jax.vmap(error), in_axes=(None, None, 0))(steps, table, noise).mean(axis=0)
    weights = jnp.asarray(quadrature(alphas_bar, rule), jnp.float32)
    d = a.shape[0]
    return -0.5 * d * jnp.log(2.0 * jnp.pi * jnp.e) + 0.5 * weights @ (table * d - errors)
