"""What ``proposals.precision = "bfloat16"`` does to MFPO's candidates, and what it saves.

``errors`` opens a run of MFPO and compares both precisions on states of its replay, with the same noise, at
the run's own temperature. All Q errors are those *within a state*: what all candidates share leaves the
weights as they are.

    q_std, q_error     rms over candidates, in reward units; twin_gap the same of the two critics' difference
    weight_change      total variation between the Gaussian candidates' softmax(Q / alpha) in both precisions
    same_best          share of states whose best Gaussian candidate stays the best
    v_change           rms change per dimension of these candidates' velocity estimate, v_scatter what fresh
                       candidates change it by
    action_, log_prob_ rms change of a policy sample and of its log-density, and the latter's mean

``time`` runs whole updates at HalfCheetah's sizes in turns, both precisions in one process.

    python -m benchmarks.mfpo_bf16 errors RUN
    taskset -c 0 python -m benchmarks.mfpo_bf16 time --preset authors
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from fewstep import config
from fewstep.algos import registry
from fewstep.algos.mfpo import learner, policy, targets
from fewstep.algos.mfpo.config import MFPOConfig
from fewstep.bench import updates
from fewstep.critics.ensemble import Ensemble
from fewstep.flows import bounds, meanflow, velocity
from fewstep.nets.frozen import Precision, frozen
from fewstep.runs import checkpoint
from fewstep.runs.layout import RunDir
from fewstep.training.run.resume import read_config
from fewstep.training.trainer import Trainer
from fewstep.types import Spec

BOTH: tuple[Precision, Precision] = ("float32", "bfloat16")


def differences(cfg: MFPOConfig, state: learner.State, s: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """Squares and shares at one state; their means over states are what is reported."""
    k_t, k_noise, k_x, *k_gauss = jax.random.split(key, 5)
    alpha, act_size = state.temperature.alpha, state.actor.params.body.head.bias.shape[0]
    critics = state.critics.online_ensemble
    t = jax.random.uniform(k_t, (1,), minval=cfg.times.clamp, maxval=1.0 - cfg.times.clamp)
    noise = jax.random.normal(k_noise, (cfg.proposals.policy, act_size))

    def draws(precision: Precision) -> policy.Draw:
        nets = frozen((state.actor.params, state.divergence.params), precision)
        return jax.vmap(lambda e: policy.draw(cfg, *nets, s, e))(noise)

    def values(precision: Precision, critics: Ensemble, actions: jax.Array) -> jax.Array:
        q = frozen(critics, precision).q(cfg.critic)
        return jax.vmap(lambda a: q(s, a))(actions)

    exact, rough = (draws(precision) for precision in BOTH)
    sample = (exact.action if cfg.actor.bound == "clip" else exact.z)[0]
    x = meanflow.interpolate(sample, jax.random.normal(k_x, sample.shape), t[0])

    def gaussian(key: jax.Array) -> tuple[jax.Array, ...]:
        (found,), (base,) = targets.gaussian_candidates(cfg, x[None], t, key)
        actions = bounds.to_action(cfg.actor.bound, found)
        qs = [values(precision, critics, actions) for precision in BOTH]
        vs = [velocity.snis_velocity(q / alpha + base, found, x, t[0])[0] for q in qs]
        return actions, *qs, *vs

    actions, q, q_rough, v, v_rough = gaussian(k_gauss[0])
    fresh = gaussian(k_gauss[1])[3]
    first, second = (values("float32", Ensemble((net,), ()), actions) for net in critics.nets)
    weights = [jax.nn.softmax(each / alpha) for each in (q, q_rough)]
    off = rough.log_prob - exact.log_prob
    return {
        "q_std": jnp.var(q),
        "twin_gap": jnp.var(first - second),
        "q_error": jnp.var(q_rough - q),
        "v_change": jnp.mean((v_rough - v) ** 2),
        "v_scatter": jnp.mean((fresh - v) ** 2),
        "action_change": jnp.mean((rough.action - exact.action) ** 2),
        "log_prob_change": jnp.mean(off**2),
        "log_prob_mean_change": jnp.mean(off),
        "weight_change": 0.5 * jnp.sum(jnp.abs(weights[0] - weights[1])),
        "same_best": (jnp.argmax(q) == jnp.argmax(q_rough)).astype(jnp.float32),
    }


MEANS = ("log_prob_mean_change", "weight_change", "same_best")
"""All others are root mean squares."""


def errors(folder: Path, states: int, candidates: int) -> None:
    """The row of one run, with ``candidates`` of each kind if that is not 0."""
    run = RunDir.open(folder)
    opened, algorithm = read_config(run)
    cfg = opened.algorithm
    assert isinstance(cfg, MFPOConfig), f"{folder} is not a run of mfpo"
    saved = checkpoint.load_newest(run.checkpoints, warn=print)
    assert saved is not None, f"{folder} has no checkpoint"
    trainer = Trainer(opened, algorithm)
    trainer.restore(saved)
    state = trainer.learner.state
    trainer.close()
    if candidates:
        cfg = replace(cfg, proposals=replace(cfg.proposals, policy=candidates, gaussian=candidates))
    held = np.asarray(saved.groups["replay"]["obs"])
    obs = np.random.default_rng(0).choice(held, states)
    # Blocks, as an update computes them.
    rows = jax.jit(
        lambda state, *rows: jax.lax.map(lambda row: differences(cfg, state, *row), rows, batch_size=50)
    )(state, obs, jax.random.split(jax.random.key(0), states))
    means = {name: float(values.mean()) for name, values in rows.items()}
    result = {name: float(f"{v if name in MEANS else v**0.5:.3g}") for name, v in means.items()}
    about = {
        "v_min": cfg.critic.v_min,
        "v_max": cfg.critic.v_max,
        "candidates": cfg.proposals.gaussian,
        "updates": trainer.updates,
        "alpha": round(float(state.temperature.alpha), 5),
    }
    name = f"errors | {opened.env}, preset {opened.preset}, seed {opened.seed}"
    support = f"support {cfg.critic.v_min:g} to {cfg.critic.v_max:g}"
    record.update("mfpo_bf16", f"{name}, {support}, K2 = {cfg.proposals.gaussian}", about | result)


def times(preset: str, rounds: int) -> None:
    """Both precisions in turns; the clock's times suffer from neighbours, processor time hardly."""
    spec, calls = Spec(17, 6), {"authors": 1}.get(preset, updates.TOGETHER)
    algorithm, data, taken = registry.get("mfpo"), updates.batch(spec, 256), {p: [] for p in BOTH}
    running: dict[str, Any] = {}
    for precision in BOTH:
        cfg = config.resolve(
            "mfpo",
            algorithm.config,
            env="HalfCheetah-v4",
            preset=preset,
            overrides={"proposals.precision": precision},
        ).algorithm
        state = algorithm.init(cfg, spec, jax.random.key(0))
        update = jax.jit(lambda s, b, cfg=cfg: algorithm.update(cfg, s, b), donate_argnums=0)
        running[precision] = [update.lower(state, data).compile(), state]
    for _ in range(rounds):
        for precision, pair in running.items():
            clock, busy = time.perf_counter(), time.process_time()
            for _ in range(calls):
                pair[1], metrics = pair[0](pair[1], data)
            jax.block_until_ready(metrics)
            clock, busy = time.perf_counter() - clock, time.process_time() - busy
            taken[precision].append((1e3 * clock / calls, 1e3 * busy / calls))
    found = {precision: np.array(pairs) for precision, pairs in taken.items()}
    result: dict[str, float] = {}
    for name, of in (("min", np.min), ("q25", lambda a, axis: np.quantile(a, 0.25, axis))):
        each = {precision: of(pairs, axis=0) for precision, pairs in found.items()}
        for i, kind in enumerate(("ms", "cpu_ms")):
            result |= {f"{p}_{name}_{kind}": round(float(each[p][i]), 2) for p in BOTH}
            result[f"{name}_{kind}_gain"] = round(float(each[BOTH[0]][i] / each[BOTH[1]][i]), 3)
    record.update("mfpo_bf16", f"time | HalfCheetah sizes, preset {preset}", result | {"rounds": rounds})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    of_run = commands.add_parser("errors")
    of_run.add_argument("run", type=Path)
    of_run.add_argument("--states", type=int, default=2000)
    of_run.add_argument("--candidates", type=int, default=0, help="K1 = K2 (0: those of the run)")
    of_time = commands.add_parser("time")
    of_time.add_argument("--preset", default="authors")
    of_time.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.command == "time":
        times(arguments.preset, arguments.rounds)
    else:
        errors(arguments.run, arguments.states, arguments.candidates)


if __name__ == "__main__":
    main()
