"""How good is MFPO's velocity estimate, by candidates, noise and mixing, and what does it cost?

The target is a product of two-mode Gaussians on [-1, 1]^A (modes +-0.6, entropy -0.51 nats per dimension), so
the velocity is known exactly; the policy's samples come from the target itself, or from the same with modes
of twice the width (``--width 2``). Mean squared error per dimension over ``--states`` states. The policy maps
its noise monotonically in every dimension, as the optimal transport between the two laws does.

``cost`` is the counted operations (``fewstep.bench.floor``) of the whole update at HalfCheetah's sizes,
relative to the authors' setting.

    python -m benchmarks.mfpo_estimator
    python -m benchmarks.mfpo_estimator --width 2
"""

import argparse
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from fewstep import config
from fewstep.algos import registry
from fewstep.algos.mfpo.config import MFPOConfig, ProposalConfig
from fewstep.bench import floor
from fewstep.flows import noises, velocity
from fewstep.types import Spec

MODE, SIGMA = 0.6, 0.0727
CELLS = [(1, 0.1), (1, 0.5), (1, 0.9)] + [(act, t) for act in (6, 17) for t in (0.1, 0.3, 0.5, 0.7, 0.9)]
AUTHORS = ProposalConfig(policy=16, gaussian=32)
BETTER = {"noise": "stratified", "mixing": "ess_per_candidate"}
ROWS = {
    "authors: 16, 32": AUTHORS,
    "mixing": replace(AUTHORS, mixing="ess_per_candidate"),
    "stratified": replace(AUTHORS, noise="stratified"),
    "both": ProposalConfig(16, 32, **BETTER),
    "both, 16, 24": ProposalConfig(16, 24, **BETTER),
    "both, 16, 24, points 4": ProposalConfig(16, 24, points=4, **BETTER),
    "both, 16, 20, points 4": ProposalConfig(16, 20, points=4, **BETTER),
    "both, 16, 24, points 8": ProposalConfig(16, 24, points=8, **BETTER),
    "both, 8, 24, points 4": ProposalConfig(8, 24, points=4, **BETTER),
}


def log_density(a: jax.Array, sigma: float) -> jax.Array:
    """Of the target (or the policy) at ``[..., act]``."""
    one = jax.scipy.stats.norm.logpdf(a[..., None], jnp.array([MODE, -MODE]), sigma)
    return jnp.sum(jax.nn.logsumexp(one, -1) - jnp.log(2.0), -1)


def transport(sigma: float):
    """Normal noise to the two modes, monotone in each dimension."""
    with jax.ensure_compile_time_eval():
        a = jnp.linspace(-2.0, 2.0, 20_001)
        cdf = 0.5 * sum(jax.scipy.stats.norm.cdf(a, mode, sigma) for mode in (MODE, -MODE))
        noise = np.asarray(jax.scipy.special.ndtri(jnp.clip(cdf, 1e-7, 1 - 1e-7)))
        keep = np.diff(noise, prepend=-np.inf) > 0
        table = jnp.asarray(noise[keep]), a[keep]
    return lambda e: jnp.interp(e, *table)


def true_velocity(x: jax.Array, t: jax.Array) -> jax.Array:
    """Of the target's flow: responsibilities times the velocities of the two Gaussian parts."""
    modes = jnp.array([[MODE], [-MODE]])
    variance = ((1 - t) * SIGMA) ** 2 + t**2
    shift = x - (1 - t) * modes
    weight = jax.nn.softmax(-0.5 * shift**2 / variance, axis=0)
    mean = modes + (1 - t) * SIGMA**2 / variance * shift
    return (x - jnp.sum(weight * mean, axis=0)) / t


def error(p: ProposalConfig, act: int, t: jax.Array, sigma: float, states: int) -> jax.Array:
    """Mean squared error per dimension at time ``t``."""
    to_action = transport(sigma)

    def one(key: jax.Array) -> jax.Array:
        k_policy, k_noise, k_gauss = jax.random.split(key, 3)
        a = to_action(noises.normals(k_policy, p.noise, (p.policy, act)))
        x = (1 - t) * a[0] + t * jax.random.normal(k_noise, (act,))
        log_w = velocity.policy_log_weights(log_density(a, SIGMA), log_density(a, sigma), a, x, t)
        v_p, ess_p = velocity.snis_velocity(log_w, a, x, t)
        c = velocity.gaussian_in_box(noises.uniforms(k_gauss, p.noise, (p.gaussian, act)), x, t)
        v_g, ess_g = velocity.snis_velocity(log_density(c, SIGMA), c, x, t)
        sizes = (p.policy, p.gaussian) if p.mixing == "ess_per_candidate" else (1, 1)
        v, _ = velocity.mix_by_ess(v_p, ess_p / sizes[0], v_g, ess_g / sizes[1])
        return jnp.mean((v - true_velocity(x, t)) ** 2)

    return jnp.mean(jax.vmap(one)(jax.random.split(jax.random.key(3), states)))


def operations(p: ProposalConfig) -> float:
    """Of the update of preset ``authors`` with these proposals and the same number of rows."""
    cfg = config.resolve(
        "mfpo", registry.get("mfpo").config, env="HalfCheetah-v4", preset="authors", overrides={}
    ).algorithm
    assert isinstance(cfg, MFPOConfig)
    cfg = replace(cfg, proposals=p, actor=replace(cfg.actor, batch_size=256 // p.points))
    return floor.operations(cfg, Spec(17, 6), 256)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--states", type=int, default=4000)
    parser.add_argument("--width", type=float, default=1.0, help="of the policy's modes, in the target's")
    arguments = parser.parse_args()
    known: dict[tuple[object, ...], dict[str, float]] = {}
    for name, p in ROWS.items():
        if arguments.only not in name:
            continue
        same = (p.policy, p.gaussian, p.noise, p.mixing)  # points share, they do not change one's error
        if same not in known:
            found = jax.jit(error, static_argnums=(0, 1, 3, 4))
            sigma = arguments.width * SIGMA
            known[same] = {
                f"A{act}_t{t}": round(float(found(p, act, jnp.float32(t), sigma, arguments.states)), 4)
                for act, t in CELLS
            }
        cost = {"cost": round(operations(p) / operations(AUTHORS), 3)}
        record.update("mfpo_estimator", f"width {arguments.width:g} | {name}", cost | known[same])


if __name__ == "__main__":
    main()
