"""The entropy of samples, without a density: what the bounds that policies are trained with are judged by."""

import numpy as np
from scipy.spatial import KDTree
from scipy.special import digamma, gammaln

NEIGHBOUR = 4
"""Which neighbour the distance is taken to: few neighbours bias little and vary more."""


def nearest_neighbour_entropy(points: np.ndarray, k: int = NEIGHBOUR) -> float:
    """Kozachenko and Leonenko's (1987) estimate of the differential entropy, in nats.

    Args:
        points: ``[N, d]`` samples of a density. Cut off at -1 or 1 a coordinate has none: rows with such a
            coordinate are left out, so the estimate is of the actions inside the box.
        k: from 1 to N - 1.

    Returns:
        ``psi(N) - psi(k) + log V_d + d mean log r_k``, with ``r_k`` the distance to the k-th neighbour and
        ``V_d`` the volume of the unit ball; NaN with k points or fewer. Points that coincide with k others
        have no density: the answer is then minus infinity.
    """
    inside = points[(np.abs(points) < 1.0).all(axis=1)].astype(np.float64)
    count, size = inside.shape
    if count <= k:
        return float("nan")
    distance = KDTree(inside).query(inside, k + 1)[0][:, k]
    ball = 0.5 * size * np.log(np.pi) - gammaln(0.5 * size + 1.0)
    with np.errstate(divide="ignore"):
        return float(digamma(count) - digamma(k) + ball + size * np.log(distance).mean())
