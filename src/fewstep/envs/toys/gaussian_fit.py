"""The best diagonal Gaussians for a density on the box: what a unimodal policy can do at most.

A policy that lives on the box is compared with a Gaussian *truncated* to the box: a product of two normals,
each restricted to [-1, 1] and renormalised, with means inside the box and standard deviations from 0.02 to 20
(the last one is uniform for all purposes).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fewstep.envs.toys.bandit import CENTRES, Floats, boltzmann_density, cell_centres, cell_shares, coarsen

GRID = 400
"""Side of the midpoint grid of all integrals."""
_BINS = 40  # of which GRID is a multiple: cells of the total variation, the same as for samples
_MIN_STD, _MAX_STD = 0.02, 20.0
_TINY = 1e-300  # stands for 0 inside a logarithm


@dataclass(frozen=True)
class TruncatedGaussian:
    """A diagonal Gaussian truncated to the box, and how far it is from the target.

    Attributes:
        mean, std: parameters before truncation, one per action dimension.
        kl: KL(q || target) in nats.
        total_variation: against the target on 40 x 40 cells, without sampling noise.
        mode_shares: probability of being nearest to each bump.
    """

    mean: tuple[float, float]
    std: tuple[float, float]
    kl: float
    total_variation: float
    mode_shares: tuple[float, float, float, float]


@dataclass(frozen=True)
class GaussianFits:
    """Two answers to "which Gaussian?".

    Attributes:
        best: minimises KL(q || target), which is what maximum-entropy RL asks of a Gaussian policy.
        moment_matched: minimises KL(target || q), so its mean and variance on the box are the target's.
    """

    best: TruncatedGaussian
    moment_matched: TruncatedGaussian


@functools.cache
def best_gaussian(alpha: float) -> GaussianFits:
    """Fit truncated diagonal Gaussians to the bandit's target at temperature ``alpha`` (under a second)."""
    return fit(boltzmann_density(alpha, GRID)[2])


def fit(density: Floats) -> GaussianFits:
    """Fit truncated diagonal Gaussians to ``density[GRID, GRID]`` at the cell centres of the box; it need not
    be normalised.

    For a product q both divergences can be lowered exactly one dimension at a time: first over a coarse table
    of all normals, then over finer ones around the last answer. KL(q || target) is lowered from each bump and
    from the uniform density, and the lowest end is kept; the other divergence splits over dimensions and has
    one answer.
    """
    target = density / density.sum()
    log_target = np.log(np.maximum(target, _TINY))
    marginals = (target.sum(1), target.sum(0))

    def reverse(table: Floats, axis: int, other: Floats) -> Floats:
        expected = log_target @ other if axis == 0 else other @ log_target
        return (table * np.log(np.maximum(table, _TINY))).sum(1) - table @ expected

    def forward(table: Floats, axis: int, other: Floats) -> Floats:
        return -np.log(np.maximum(table, _TINY)) @ marginals[axis]

    uniform = np.array([[0.0, _MAX_STD], [0.0, _MAX_STD]])
    starts = [np.array([[x, 0.1], [y, 0.1]]) for x, y in CENTRES] + [uniform]
    fits = [_describe(_descend(reverse, start), target, log_target) for start in starts]
    best = min(fits, key=lambda fit: fit.kl)
    return GaussianFits(best, _describe(_descend(forward, uniform), target, log_target))


def _normals(parameters: Floats) -> Floats:
    """``[K, grid]`` cell probabilities of K truncated normals, ``parameters[K, 2]`` (mean, std)."""
    log_weight = -0.5 * ((cell_centres(GRID) - parameters[:, :1]) / parameters[:, 1:]) ** 2
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True)


def _table(centre: Floats, mean_reach: float, log_reach: float) -> Floats:
    """``[K, 2]`` means and stds on a lattice around ``centre`` (itself included), clipped to their ranges."""
    means = np.clip(centre[0] + mean_reach * np.linspace(-1, 1, 17), -1.0, 1.0)
    stds = np.clip(centre[1] * np.exp(log_reach * np.linspace(-1, 1, 17)), _MIN_STD, _MAX_STD)
    return np.stack(np.meshgrid(means, stds, indexing="ij"), -1).reshape(-1, 2)


def _descend(loss: Callable[[Floats, int, Floats], Floats], start: Floats) -> Floats:
    """``[2, 2]`` (dimension; mean, std) that minimises ``loss(normals[K, grid], axis, other[grid])``."""
    fit = start.copy()
    everything = _table(np.array([0.0, np.sqrt(_MIN_STD * _MAX_STD)]), 1.0, 0.5 * np.log(_MAX_STD / _MIN_STD))
    coarse = _normals(everything)
    for _ in range(20):
        before = fit.copy()
        for axis in (0, 1):
            fit[axis] = everything[np.argmin(loss(coarse, axis, _normals(fit[1 - axis : 2 - axis])[0]))]
        if np.array_equal(before, fit):
            break
    for finer in 0.15 * 0.7 ** np.arange(24):
        for axis in (0, 1):
            near = _table(fit[axis], finer, 2 * finer)
            fit[axis] = near[np.argmin(loss(_normals(near), axis, _normals(fit[1 - axis : 2 - axis])[0]))]
    return fit


def _describe(fit: Floats, target: Floats, log_target: Floats) -> TruncatedGaussian:
    (mx, sx), (my, sy) = fit.tolist()
    x, y = _normals(fit)
    q = np.outer(x, y)
    shares = cell_shares(q).tolist()
    return TruncatedGaussian(
        mean=(mx, my),
        std=(sx, sy),
        kl=float((q * (np.log(np.maximum(q, _TINY)) - log_target)).sum()),
        total_variation=float(0.5 * np.abs(coarsen(q, _BINS) - coarsen(target, _BINS)).sum()),
        mode_shares=(shares[0], shares[1], shares[2], shares[3]),
    )
