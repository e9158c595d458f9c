"""``toy/bandit``: one step, a 2-D action, four bumps of reward, and everything about its Boltzmann density.

The reward of an action a in [-1, 1]^2 is ``r(a) = sum_k h_k exp(-|a - c_k|^2 / (2 w^2))`` with w = 0.2,
heights h = 1.0, 0.9, 0.8, 0.6 and centres c = (0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5), in this
order. The best maximum-entropy policy at temperature alpha is the Boltzmann density ``p(a) = exp(r(a) /
alpha) / Z`` on the box.

Integrals are midpoint sums on a 800 x 800 grid, exact to about 1e-5 for alpha >= 0.02.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewstep.errors import UsageError

Floats = NDArray[np.float64]

WIDTH = 0.2
HEIGHTS = np.array([1.0, 0.9, 0.8, 0.6])
CENTRES = np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
OBSERVATION = np.ones(1, np.float32)
for _constant in (HEIGHTS, CENTRES, OBSERVATION):
    _constant.flags.writeable = False

_QUADRATURE = 800


class BanditEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Episodes of one step that always end by termination; the observation is the constant 1."""

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; there is nothing random in it."""
        super().reset(seed=seed)
        return OBSERVATION.copy(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Pay the reward of ``action`` and end."""
        return OBSERVATION.copy(), float(reward(action)), True, False, {}


def reward(actions: ArrayLike) -> Floats:
    """``[...]`` reward of ``actions[..., 2]``, between 0 and 1.00001."""
    a = np.asarray(actions, np.float64)
    squared = ((a[..., None, :] - CENTRES) ** 2).sum(-1)
    return (HEIGHTS * np.exp(-squared / (2 * WIDTH**2))).sum(-1)


def nearest_mode(actions: ArrayLike) -> NDArray[np.int64]:
    """``[...]`` index of the bump centre nearest to each of ``actions[..., 2]``."""
    a = np.asarray(actions, np.float64)
    return ((a[..., None, :] - CENTRES) ** 2).sum(-1).argmin(-1)


def mode_shares(actions: ArrayLike) -> Floats:
    """``[4]`` share of ``actions[..., 2]`` nearest to each bump; the shares sum to 1."""
    modes = nearest_mode(_some(actions)).ravel()
    return np.bincount(modes, minlength=len(CENTRES)) / modes.size


def near_share(actions: ArrayLike, radius: float = WIDTH) -> float:
    """Share of ``actions[..., 2]`` that lie within ``radius`` of any bump centre."""
    squared = ((_some(actions)[..., None, :] - CENTRES) ** 2).sum(-1)
    return float((squared.min(-1) <= radius**2).mean())


def boltzmann_density(alpha: float, grid: int = 200) -> tuple[Floats, Floats, Floats]:
    """The target at ``alpha``: ``xs[grid]``, ``ys[grid]`` (cell centres) and ``density[grid, grid]``.

    ``density[i, j]`` belongs to the action ``(xs[i], ys[j])``; the sum times the cell area ``(2 / grid)**2``
    is 1.
    """
    if not (np.isfinite(alpha) and alpha > 0):
        raise UsageError(f"the temperature alpha must be positive, got {alpha}")
    axis = cell_centres(grid)
    bump = np.exp(-((axis[:, None] - CENTRES.T[:, None, :]) ** 2) / (2 * WIDTH**2))  # [2, grid, 4]
    rewards = np.einsum("ik,jk,k->ij", bump[0], bump[1], HEIGHTS)
    density = np.exp((rewards - rewards.max()) / alpha)
    return axis, axis.copy(), density / (density.sum() * (2 / grid) ** 2)


def target_shares(alpha: float) -> Floats:
    """``[4]`` probability under the target that an action is nearest to each bump."""
    return cell_shares(boltzmann_density(alpha, _QUADRATURE)[2] * (2 / _QUADRATURE) ** 2)


def cell_shares(p: Floats) -> Floats:
    """``[4]`` probability of being nearest to each bump, of ``p[grid, grid]`` over an even grid of even side:
    every bump has a quadrant of the box to itself."""
    quadrants = coarsen(p, 2)
    return np.array([quadrants[int(x > 0), int(y > 0)] for x, y in CENTRES])


def mean_reward(alpha: float) -> float:
    """Expected reward under the target."""
    xs, ys, density = boltzmann_density(alpha, _QUADRATURE)
    rewards = reward(np.stack(np.meshgrid(xs, ys, indexing="ij"), -1))
    return float((density * rewards).sum() * (2 / _QUADRATURE) ** 2)


def entropy(alpha: float) -> float:
    """Differential entropy of the target, in nats (the uniform density on the box has log 4 = 1.386)."""
    density = boltzmann_density(alpha, _QUADRATURE)[2]
    # Far from the bumps a small alpha makes the density underflow to 0, where p log p is 0.
    return float(-(density * np.log(np.maximum(density, 1e-300))).sum() * (2 / _QUADRATURE) ** 2)


def cell_probabilities(alpha: float, bins: int = 40) -> Floats:
    """``[bins, bins]`` probability under the target of each cell of an even grid over the box."""
    inner = max(1, _QUADRATURE // bins)
    density = boltzmann_density(alpha, bins * inner)[2]
    return coarsen(density, bins) * (2 / (bins * inner)) ** 2


def total_variation(actions: ArrayLike, alpha: float, bins: int = 40) -> float:
    """Total variation in [0, 1] between the histogram of ``actions[..., 2]`` and the target, cell by cell.

    Even exact samples do not give 0; ``sampling_floor`` says what they give. Raises UsageError for actions
    outside [-1, 1] or not finite.
    """
    a = _some(actions).reshape(-1, 2)
    if not (np.abs(a) <= 1).all():
        raise UsageError("actions of toy/bandit must be finite and in [-1, 1]")
    cells = np.minimum(((a + 1) * (bins / 2)).astype(np.int64), bins - 1)
    histogram = np.bincount(cells[:, 0] * bins + cells[:, 1], minlength=bins**2) / len(a)
    return float(0.5 * np.abs(histogram - cell_probabilities(alpha, bins).ravel()).sum())


def sampling_floor(alpha: float, n: int, bins: int = 40) -> float:
    """The ``total_variation`` to expect from ``n`` exact samples of the target at ``alpha``."""
    return sampling_variation(cell_probabilities(alpha, bins), n)


def sampling_variation(p: Floats, n: int) -> float:
    """The total variation to expect between cells of probability ``p`` and the histogram of ``n`` samples of
    them (normal approximation in each cell)."""
    return float(0.5 * np.sqrt(2 * p * (1 - p) / (np.pi * n)).sum())


def sample_boltzmann(alpha: float, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """``[n, 2]`` exact samples of the target, by rejection from a piecewise constant bound."""
    grid = 200
    axis = boltzmann_density(alpha, grid)[0]
    centres = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    # No bump is steeper than h exp(-1/2) / w; the half diagonal of a cell bounds how far a point is from its
    # centre.
    bound = reward(centres) + HEIGHTS.sum() * np.exp(-0.5) / WIDTH * np.sqrt(2) / grid
    weight = np.exp((bound - bound.max()) / alpha)
    weight /= weight.sum()
    accepted: list[Floats] = []
    missing = n
    while missing > 0:
        cell = rng.choice(len(weight), size=2 * missing + 64, p=weight)
        a = centres[cell] + rng.uniform(-1 / grid, 1 / grid, (len(cell), 2))
        keep = a[rng.random(len(cell)) < np.exp((reward(a) - bound[cell]) / alpha)]
        accepted.append(keep[:missing])
        missing -= len(accepted[-1])
    return np.concatenate([*accepted, np.empty((0, 2))]).astype(np.float32)


def cell_centres(grid: int) -> Floats:
    """``[grid]`` centres of an even division of [-1, 1]."""
    return (np.arange(grid, dtype=np.float64) + 0.5) * (2 / grid) - 1


def coarsen(fine: Floats, bins: int) -> Floats:
    """``[bins, bins]`` sums over blocks of ``fine``, whose side is a multiple of ``bins``."""
    side = len(fine) // bins
    return fine.reshape(bins, side, bins, side).sum((1, 3))


def _some(actions: ArrayLike) -> Floats:
    a = np.asarray(actions, np.float64)
    if a.ndim < 1 or a.shape[-1] != 2 or a.size == 0:
        raise UsageError(f"actions of toy/bandit have shape [..., 2] and at least one row, got {a.shape}")
    return a
