"""SMFP's composite target, and what each policy class makes of it, computed on a plane with known values.

For ``J = E Q + alpha H(pi) - lambda KL(pi | pi_old)`` the maximum over all policies is

    pi*  proportional to  pi_old^(lambda / (alpha + lambda)) exp(Q / (alpha + lambda)),

SAC's target at lambda = 0 and mirror descent's at alpha = 0 (docs/algorithms/smfp.md). Q is the reward of
``toy/bandit``, pi_old a Gaussian truncated to the box that leans to one side, so pi* has four modes of other
weights than SAC's target. Nothing but the policy differs between the rows: no critic is learned.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.contract import ActionMode, QFunction
from fewstep.algos.smfp import ALGORITHM, learner, losses
from fewstep.algos.smfp import config as smfp
from fewstep.envs.toys import bandit
from fewstep.envs.toys.bandit import Floats
from fewstep.envs.toys.gaussian_fit import GRID, fit
from fewstep.flows import residual
from fewstep.nets.trained import descend
from fewstep.training.device.toys import bandit_reward
from fewstep.types import Spec

ALPHA, LAMBDA = 0.1, 0.1
OLD_MEAN, OLD_STD = np.array([-0.2, 0.0]), 0.35
BINS, SAMPLES = 40, 40_000
CHUNK = 250
SPEC = Spec(1, 2)

Actions = Float[Array, "rows 2"]


@dataclass(frozen=True)
class Density:
    """A density on the box beside pi*.

    Attributes:
        name: whose.
        cells: ``[BINS, BINS]`` density, in 1 / area.
        shares: probability of being nearest to each bump.
        total_variation: to pi*, on the same cells; 0 equal, 1 disjoint.
        reward: its mean.
    """

    name: str
    cells: Floats
    shares: tuple[float, ...]
    total_variation: float
    reward: float


def log_old(a: Floats) -> Floats:
    """``[...]`` log-density of pi_old at ``a[..., 2]`` inside the box, up to its constant."""
    return -0.5 * (((a - OLD_MEAN) / OLD_STD) ** 2).sum(-1)


def target(grid: int = GRID) -> Floats:
    """``[grid, grid]`` density of pi* at the cell centres of the box."""
    a = _plane(grid)
    return _normalised((bandit.reward(a) + LAMBDA * log_old(a)) / (ALPHA + LAMBDA))


def known() -> list[Density]:
    """What needs no training: pi_old, SAC's target at alpha alone, pi*, and the Gaussian nearest to it."""
    star = target()
    gaussian = fit(star).best
    a = _plane(GRID)
    nearest = -0.5 * (((a - np.array(gaussian.mean)) / np.array(gaussian.std)) ** 2).sum(-1)
    return [
        _density("old policy", _normalised(log_old(a))),
        _density("exp(Q / α) / Z", _normalised(bandit.reward(a) / ALPHA)),
        _density("composite target", star),
        _density("Gaussian, reverse KL", _normalised(nearest)),
    ]


Step = Callable[[smfp.SMFPConfig, learner.State, PRNGKeyArray], learner.State]


def _regression(cfg: smfp.SMFPConfig, st: learner.State, key: PRNGKeyArray) -> learner.State:
    """MeanFlow on samples of pi*, every one of the same weight."""
    k_action, k_noise, k_time = jax.random.split(key, 3)
    rows = cfg.actor.batch_size
    action = samples(k_action, target(), rows)
    noise = jax.random.normal(k_noise, action.shape)
    times = residual.sample_times(k_time, (rows,))

    def loss(nets: learner.Nets) -> tuple[Array, None]:
        pairs = action[:, None], jnp.ones((rows, 1)), noise[:, None], times[:, None]
        return losses.mirror(nets.actor, cfg, jnp.ones((rows, 1)), *pairs), None

    nets, _, _ = descend(cfg.actor, st.nets, loss)
    return replace(st, nets=nets)


def _improvement(q: QFunction, cfg: smfp.SMFPConfig, st: learner.State, key: PRNGKeyArray) -> learner.State:
    """SMFP's own improvement; the replayed actions are pi_old's."""
    rows = cfg.actor.batch_size
    old = samples(key, _normalised(log_old(_plane(GRID))), rows)
    return learner.improve(cfg, st, q, jnp.ones((rows, 1)), old)[0]


def _q(s: Float[Array, "obs"], a: Float[Array, "2"]) -> Float[Array, ""]:
    """The reward, differentiable; the state says nothing."""
    return bandit_reward(a)


def _q_held(s: Float[Array, "obs"], a: Float[Array, "2"]) -> Float[Array, ""]:
    """The reward and lambda log pi_old: under it alpha + lambda is the temperature of pi*."""
    away = (a - jnp.asarray(OLD_MEAN, jnp.float32)) / OLD_STD
    return _q(s, a) - 0.5 * LAMBDA * jnp.sum(away**2)


def _config(
    updates: int, rows: int, samples: int, alpha: float, entropy: smfp.EntropyConfig, mirror: float
) -> smfp.SMFPConfig:
    """Equal networks and rates for all; alpha falls from 1, as modes lost early are not found again."""
    return smfp.SMFPConfig(
        actor=smfp.ActorConfig(
            hidden=(128, 128, 128),
            learning_rate=5e-4,
            decay_start=updates * 7 // 10,
            decay_steps=max(1, updates * 3 // 10),
            final_share=0.1,
            samples=samples,
            batch_size=rows,
            bound_weight=10.0,
        ),
        critic=smfp.CriticConfig(hidden=(4,)),
        mirror=smfp.MirrorConfig(weight=mirror, gamma=1.0),
        entropy=entropy,
        temperature=smfp.TemperatureConfig(
            initial=alpha, anneal_factor=1.0 / alpha, anneal_updates=updates * 3 // 8
        ),
    )


SURROGATE = smfp.EntropyConfig(kind="hinge", target_std=1.0)
"""Below its threshold (sigma 1, half the width of the box): alpha times the conditional entropy alone."""
COUNTING = smfp.EntropyConfig(kind="semi_implicit", components=31, noise="stratified")


def trained(updates: int) -> dict[str, tuple[smfp.SMFPConfig, Step]]:
    """The policies that are trained: their settings and one update of each."""
    own = partial(_improvement, _q)
    return {
        "MeanFlow, regression": (_config(updates, 256, 1, 1.0, SURROGATE, 0.0), _regression),
        "SMFP's loss, surrogate": (_config(updates, 256, 1, ALPHA, SURROGATE, 3.0), own),
        "SMFP's loss, H_K": (_config(updates, 32, 32, ALPHA, COUNTING, 3.0), own),
        "one step, both KLs, H_K": (
            _config(updates, 32, 32, ALPHA + LAMBDA, COUNTING, 0.0),
            partial(_improvement, _q_held),
        ),
    }


def learn(name: str, updates: int, seeds: int) -> list[Density]:
    """Train one of ``trained`` with seeds 0, 1, ... and judge ``SAMPLES`` plain samples of each."""
    cfg, step = trained(updates)[name]

    @partial(jax.jit, static_argnums=2)
    def chunk(state: learner.State, root: PRNGKeyArray, length: int) -> learner.State:
        def one(st: learner.State, _: None) -> tuple[learner.State, None]:
            st = step(cfg, st, jax.random.fold_in(root, st.updates))
            return replace(st, updates=st.updates + 1), None

        return jax.lax.scan(one, state, None, length)[0]

    act = jax.jit(lambda p, o, k: ALGORITHM.act(cfg, p, o, k, ActionMode()))
    found: list[Density] = []
    for seed in range(seeds):
        root = jax.random.key(seed)
        state = learner.init(cfg, SPEC, root)
        for begun in range(0, updates, CHUNK):
            state = chunk(state, root, min(CHUNK, updates - begun))
        drawn = act(learner.policy(state), jnp.ones((SAMPLES, 1)), jax.random.fold_in(root, 2**31))
        found.append(_judged(name, np.asarray(drawn, np.float64)))
    return found


def sampling_floor() -> float:
    """The total variation to expect of ``SAMPLES`` exact samples of pi*."""
    return bandit.sampling_variation(bandit.coarsen(_probabilities(target()), BINS), SAMPLES)


def samples(key: PRNGKeyArray, density: Floats, count: int) -> Actions:
    """``[count, 2]`` draws from a density given at the cell centres of the box, even within a cell."""
    k_cell, k_place = jax.random.split(key)
    side = len(density)
    edges = np.cumsum(_probabilities(density).ravel()).astype(np.float32)
    cell = jnp.searchsorted(jnp.asarray(edges), jax.random.uniform(k_cell, (count,)) * edges[-1])
    corner = jnp.stack([cell // side, cell % side], -1)
    return (corner + jax.random.uniform(k_place, (count, 2))) * (2 / side) - 1.0


def _judged(name: str, actions: Floats) -> Density:
    edges = np.linspace(-1.0, 1.0, BINS + 1)
    share = np.histogram2d(*actions.T, bins=[edges, edges])[0] / len(actions)
    shares = tuple(bandit.mode_shares(actions).tolist())
    return Density(name, _per_area(share), shares, _distance(share), float(bandit.reward(actions).mean()))


def _density(name: str, fine: Floats) -> Density:
    p = _probabilities(fine)
    shares = tuple(bandit.cell_shares(p).tolist())
    share = bandit.coarsen(p, BINS)
    mean = float((p * bandit.reward(_plane(len(fine)))).sum())
    return Density(name, _per_area(share), shares, _distance(share), mean)


def _distance(share: Floats) -> float:
    return float(0.5 * np.abs(share - bandit.coarsen(_probabilities(target()), BINS)).sum())


def _per_area(share: Floats) -> Floats:
    return share / (2 / BINS) ** 2


def _plane(grid: int) -> Floats:
    axis = bandit.cell_centres(grid)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)


def _normalised(log_density: Floats) -> Floats:
    density = np.exp(log_density - log_density.max())
    return density / (density.sum() * (2 / len(density)) ** 2)


def _probabilities(density: Floats) -> Floats:
    return density / density.sum()
