"""What density does each policy learn on ``toy/bandit`` when its critic is the true reward?

Only the policy side is tested: improvement, estimator, sampler. Methods with a temperature are to reach
exp(reward / 0.2) / Z; the others have no such target, and the distance to it says how far from it they end,
the shares of the four bumps which of them they keep. Samples are plain draws: no best-of-N, no added noise.
Learning rates fall to a tenth for the last 30 % of the updates.

    python -m benchmarks.bandit_systems                    # all rows, and the picture
    python -m benchmarks.bandit_systems --only "MaxEntDP"  # rows whose name contains this text, no picture
    python -m benchmarks.bandit_systems --picture          # the picture alone, of the samples that are there

Samples go to ``--samples`` (a folder outside the repository), numbers to ``results/bandit_systems.json``, the
picture to ``results/bandit_systems.svg``.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import mfpo_boltzmann, record, smfp_bandit
from fewstep.algos import (
    dacer,
    dipo,
    dpmd,
    flag,
    flame,
    flowrl,
    fpmd,
    maxentdp,
    mdpo,
    meanflowql,
    mpo,
    qsm,
    qvpo,
    registry,
    sac,
    sdac,
    som,
)
from fewstep.algos.contract import ActionMode
from fewstep.algos.mfpo import learner as mfpo
from fewstep.algos.shared import path_policy
from fewstep.algos.smfp import learner as smfp
from fewstep.analysis.figures import style
from fewstep.analysis.figures import toys as toy_figures
from fewstep.analysis.report import toy_comparison, toys
from fewstep.config.run import resolve
from fewstep.config.settings import build, flatten
from fewstep.envs.toys import bandit
from fewstep.types import Spec

ALPHA = 0.2
SAMPLES = 40_000
ROWS_PER_UPDATE = 128
CHUNK = 250
SETTLING = 0.3
SPEC = Spec(1, 2)
reward = smfp_bandit.true_reward
OBS = jnp.ones((ROWS_PER_UPDATE, 1))

Step = Callable[[Any, Any, jax.Array], Any]
NET = {"actor.hidden": (128, 128, 128), "actor.learning_rate": 1e-3}
FIXED = {"temperature.initial": ALPHA, "temperature.automatic": False}


def uniform(key: jax.Array) -> jax.Array:
    """Actions as a replay buffer would hold them at first."""
    return jax.random.uniform(key, (ROWS_PER_UPDATE, 2), minval=-1.0, maxval=1.0)


# Cached, because ``trained`` tells steps apart by identity: rows of one method have to hold the same one.
@lru_cache
def on_states(improve: Callable[..., Any]) -> Step:
    """Methods that draw their own actions."""
    return lambda cfg, st, key: improve(cfg, st, reward, OBS)[0]


@lru_cache
def on_replay(improve: Callable[..., Any]) -> Step:
    """Methods that start from replay actions."""
    return lambda cfg, st, key: improve(cfg, st, reward, OBS, uniform(key))[0]


def kept(cfg: dipo.DIPOConfig, st: dipo.State, key: jax.Array) -> dipo.State:
    """DIPO on a replay buffer of a thousand uniform actions."""
    number = jax.random.permutation(key, cfg.replay.capacity)[:ROWS_PER_UPDATE].astype(jnp.int32)
    taken = jax.random.uniform(jax.random.key(7), (cfg.replay.capacity, 2), minval=-1.0, maxval=1.0)[number]
    return dipo.improve(cfg, st, reward, OBS, taken, number)[0]


def own(cfg: dpmd.DPMDConfig, st: dpmd.State, key: jax.Array) -> dpmd.State:
    """DPMD on its own best-of-N actions with noise, and the statistics of their values."""
    act, _ = cfg.temperature.best(cfg.actor, st.actor.params, reward, st.temperature.alpha, OBS, key)
    st = dpmd.followed(cfg, st, jax.vmap(reward)(OBS, act))
    return dpmd.improve(cfg, st, reward, OBS, act)[0]


def better(cfg: flowrl.FlowRLConfig, st: flowrl.State, key: jax.Array) -> flowrl.State:
    """FlowRL on uniform replay actions whose values Q_b are their rewards."""
    act = uniform(key)
    return flowrl.improve(cfg, st, reward, OBS, act, jax.vmap(reward)(OBS, act))[0]


def own_flow(cfg: fpmd.FPMDConfig, st: fpmd.State, key: jax.Array) -> fpmd.State:
    """FPMD on its own best-of-N actions with noise, and the spread of their values."""
    act = fpmd.successor(cfg, st, reward, OBS, key)
    st = fpmd.followed(cfg, st, jax.vmap(reward)(OBS, act))
    return fpmd.improve(cfg, st, reward, OBS, act)[0]


@dataclass(frozen=True)
class Row:
    """One policy: the algorithm, one improvement, what is set in it, and what is set for samples alone."""

    algo: str
    step: Step
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    updates: int = 6000
    sampled: dict[str, Any] = field(default_factory=dict[str, Any])

    def config(self, **more: Any) -> Any:
        """Defaults of the algorithm with the settings."""
        cls = registry.get(self.algo).config
        known = flatten(resolve(self.algo, cls, "none", preset="default").algorithm)
        return build(cls, known | self.settings | more)


COSINE = NET | {"actor.schedule": "cosine"}
MAXENT = COSINE | FIXED | {"regression.candidates": 64}
SDAC = MAXENT | {"actor.candidates": 1, "regression.sharpness": 1.0, "temperature.noise": 0.0}
NOISY = COSINE | FIXED | {"temperature.initial": 0.984}
DPMD = NOISY | {"actor.candidates": 16}
FPMD_R = NET | FIXED | {"temperature.initial": 0.54, "actor.candidates": 16}
FPMD_M = FPMD_R | {"actor.flow": "meanflow", "actor.steps": 1}
MDPO = NET | {"mirror.entropy": ALPHA, "mirror.period": 250}
MPO = NET | {
    "actor.period": 25,
    "improvement.epsilon_std": 1e-4,
    "dual.initial_temperature": 1.0,
    "dual.initial_mean": 1.0,
    "dual.initial_std": 10.0,
}
SOM = NET | {"score.candidates": 64}
FLAG = (
    NET
    | FIXED
    | {
        "actor.steps": 4,
        "improvement.samples": 4,
        "improvement.divergence": "exact",
        "exploration.decay_start": 2000,
        "exploration.decay_steps": 2000,
        "guidance.capacity": 2560,
        "guidance.start": 500,
        "guidance.ramp": 500,
    }
)
FLAME_M = NET | FIXED | {"regression.candidates": 64}
FLAME_R = FLAME_M | {"actor.flow": "rectified", "actor.steps": 20}
PICTURED = {
    "MaxEntDP": Row("maxentdp", on_replay(maxentdp.improve), MAXENT),
    "SDAC": Row("sdac", on_states(sdac.improve), SDAC),
    "QSM": Row("qsm", on_replay(qsm.improve), COSINE | {"actor.steps": 20, "actor.inverse_temperature": 5.0}),
    "QVPO": Row(
        "qvpo",
        on_states(qvpo.improve),
        COSINE | {"regression.candidates": 16, "regression.uniform_updates": 4000},
        4000,
    ),
    "DPMD": Row("dpmd", own, DPMD, 4000),
    "DIPO": Row("dipo", kept, COSINE | {"actor.steps": 20, "replay.capacity": 1000}),
    "DACER": Row("dacer", on_states(dacer.improve), NOISY),
    "SAC": Row("sac", on_states(sac.improve), NET | FIXED),
    "DIME": Row("dime", on_states(path_policy.improve), NET | FIXED),
    "SAC-Flow": Row("sacflow", on_states(path_policy.improve), NET | FIXED),
    "FLAC": Row("flac", on_states(path_policy.improve), NET | FIXED),
    "FlowRL": Row("flowrl", better, NET),
}
VARIANTS = {
    "MDPO": Row("mdpo", on_states(mdpo.improve), MDPO),
    "MDPO (mirror.entropy=0)": Row("mdpo", on_states(mdpo.improve), MDPO | {"mirror.entropy": 0.0}),
    "MDPO (mirror.entropy=0, mirror.kl=0.1)": Row(
        "mdpo", on_states(mdpo.improve), MDPO | {"mirror.entropy": 0.0, "mirror.kl": 0.1}
    ),
    "MPO": Row("mpo", on_states(mpo.improve), MPO),
    "SAC-Flow (actor.noise=preserving)": Row(
        "sacflow", on_states(path_policy.improve), NET | FIXED | {"actor.noise": "preserving"}
    ),
    "FlowRL (regression.average=batch, regression.target=action, authors)": Row(
        "flowrl", better, NET | {"regression.average": "batch", "regression.target": "action"}
    ),
    "FlowRL (regression.weight=10)": Row(
        "flowrl", better, NET | {"regression.weight": 10.0, "regression.largest": 100.0}
    ),
    "MeanFlowQL": Row("meanflowql", on_replay(meanflowql.improve), NET),
    "MeanFlowQL (alpha.initial=1)": Row(
        "meanflowql", on_replay(meanflowql.improve), NET | {"alpha.initial": 1.0}
    ),
    "MeanFlowQL (alpha.initial=3)": Row(
        "meanflowql", on_replay(meanflowql.improve), NET | {"alpha.initial": 3.0}
    ),
    "MeanFlowQL (alpha.initial=100)": Row(
        "meanflowql", on_replay(meanflowql.improve), NET | {"alpha.initial": 100.0}
    ),
    "MaxEntDP (5 steps)": Row("maxentdp", on_replay(maxentdp.improve), MAXENT | {"actor.steps": 5}),
    "MaxEntDP (10 steps)": Row("maxentdp", on_replay(maxentdp.improve), MAXENT | {"actor.steps": 10}),
    "MaxEntDP (regression.estimator=idem)": Row(
        "maxentdp", on_replay(maxentdp.improve), MAXENT | {"regression.estimator": "idem"}
    ),
    "MaxEntDP (regression.estimator=idem, regression.proposals=clipped)": Row(
        "maxentdp",
        on_replay(maxentdp.improve),
        MAXENT | {"regression.estimator": "idem", "regression.proposals": "clipped"},
    ),
    "MaxEntDP (regression.estimator=qsm)": Row(
        "maxentdp", on_replay(maxentdp.improve), MAXENT | {"regression.estimator": "qsm"}
    ),
    "SDAC (regression.proposals=clipped, authors)": Row(
        "sdac", on_states(sdac.improve), SDAC | {"regression.proposals": "clipped"}
    ),
    "SDAC (actor.schedule=steep, authors)": Row(
        "sdac", on_states(sdac.improve), SDAC | {"actor.schedule": "steep"}
    ),
    "QSM (actor.factor=one, authors)": Row(
        "qsm",
        on_replay(qsm.improve),
        COSINE | {"actor.steps": 20, "actor.inverse_temperature": 5.0, "actor.factor": "one"},
    ),
    "DPMD (regression.advantage=literal, authors)": Row(
        "dpmd", own, DPMD | {"regression.advantage": "literal"}, 4000
    ),
    "DPMD (actor.candidates=1)": Row("dpmd", own, DPMD | {"actor.candidates": 1}, 4000),
    "SOM": Row("som", on_replay(som.improve), SOM),
    "SOM (score.length=fixed)": Row("som", on_replay(som.improve), SOM | {"score.length": "fixed"}),
    "SOM (score.length=fixed, score.proposals=unbounded)": Row(
        "som", on_replay(som.improve), SOM | {"score.length": "fixed", "score.proposals": "unbounded"}
    ),
    "FLAG": Row("flag", on_states(flag.improve), FLAG, 4000),
    "FLAG (exploration.log_std=-1, authors)": Row(
        "flag", on_states(flag.improve), FLAG | {"exploration.log_std": -1.0}, 4000
    ),
    "FLAG (improvement.eta=1)": Row("flag", on_states(flag.improve), FLAG | {"improvement.eta": 1.0}, 4000),
    "FLAG (guidance.weight=0)": Row("flag", on_states(flag.improve), FLAG | {"guidance.weight": 0.0}, 4000),
    "FLAME-M": Row("flame", on_replay(flame.improve), FLAME_M),
    "FLAME-M (samples in two steps)": Row(
        "flame", on_replay(flame.improve), FLAME_M, sampled={"actor.steps": 2}
    ),
    "FLAME-M (samples from half the noise, authors)": Row(
        "flame", on_replay(flame.improve), FLAME_M, sampled={"actor.start": 0.5}
    ),
    "FLAME-M (actor.grid_share=0, authors)": Row(
        "flame", on_replay(flame.improve), FLAME_M | {"actor.grid_share": 0.0}
    ),
    "FLAME-M (actor.equal_share=0.5)": Row(
        "flame", on_replay(flame.improve), FLAME_M | {"actor.equal_share": 0.5}
    ),
    "FLAME-M (actor.pathwise=1, authors)": Row(
        "flame", on_replay(flame.improve), FLAME_M | {"actor.pathwise": 1.0}
    ),
    "FLAME-M (regression.anchor=replay, authors)": Row(
        "flame", on_replay(flame.improve), FLAME_M | {"regression.anchor": "replay"}
    ),
    "FLAME-R": Row("flame", on_replay(flame.improve), FLAME_R),
    "FLAME-R (samples in one step)": Row(
        "flame", on_replay(flame.improve), FLAME_R, sampled={"actor.steps": 1}
    ),
    "FPMD-R": Row("fpmd", own_flow, FPMD_R, 4000),
    "FPMD-R (samples in one step)": Row("fpmd", own_flow, FPMD_R, 4000, {"actor.steps": 1}),
    "FPMD-M": Row("fpmd", own_flow, FPMD_M, 4000),
    "FPMD-M (actor.equal_share=0, authors)": Row("fpmd", own_flow, FPMD_M | {"actor.equal_share": 0.0}, 4000),
    "FPMD-M (actor.start=0.5, authors)": Row("fpmd", own_flow, FPMD_M | {"actor.start": 0.5}, 4000),
    "FPMD-M (regression.weights=literal, authors)": Row(
        "fpmd", own_flow, FPMD_M | {"regression.weights": "literal"}, 4000
    ),
    "FPMD-M (actor.target_noise=candidates, authors)": Row(
        "fpmd", own_flow, FPMD_M | {"actor.target_noise": "candidates"}, 4000
    ),
    "FPMD-M (actor.candidates=1)": Row("fpmd", own_flow, FPMD_M | {"actor.candidates": 1}, 4000),
}


def settled(cfg: Any) -> Any:
    """The same with a tenth of the learning rates of the policy."""
    flat = flatten(cfg)
    rates = {
        name: 0.1 * flat[name] for name in ("actor.learning_rate", "divergence.learning_rate") if name in flat
    }
    return build(type(cfg), flat | rates)


@lru_cache(maxsize=1)
def trained(cfg: Any, algo: str, step: Step, updates: int) -> Any:
    """The final state; rows that differ in their samples share it."""

    @partial(jax.jit, static_argnums=0)
    def chunk(cfg: Any, state: Any) -> Any:
        def one(state: Any, _: None) -> tuple[Any, None]:
            key = jax.random.fold_in(jax.random.key(99), state.updates)
            state = step(cfg, state, key)
            return replace(state, updates=state.updates + 1), None

        return jax.lax.scan(one, state, None, CHUNK)[0]

    state = registry.get(algo).init(cfg, SPEC, jax.random.key(0))
    late = settled(cfg)
    for done in range(0, updates, CHUNK):
        state = chunk(cfg if done < (1 - SETTLING) * updates else late, state)
    return state


def drawn(cfg: Any, algo: str, state: Any) -> np.ndarray:
    """Plain samples."""
    algorithm = registry.get(algo)
    policy = algorithm.policy(state)
    if hasattr(state, "target_actor"):  # what is judged is what was trained, not its average
        policy = replace(policy, actor=state.actor.params)
    act = jax.jit(lambda p, o, k: algorithm.act(cfg, p, o, k, ActionMode()))
    return np.asarray(act(policy, jnp.ones((SAMPLES, 1)), jax.random.key(1234)))


def measure(
    cfg: Any, algo: str, step: Step, updates: int, sampler: Any = None
) -> tuple[np.ndarray, dict[str, object]]:
    """Samples, by the config ``sampler`` if there is one, and what they say."""
    actions = drawn(sampler or cfg, algo, trained(cfg, algo, step, updates))
    return actions, {
        "total_variation": round(float(bandit.total_variation(actions, ALPHA)), 3),
        "mode_shares": bandit.mode_shares(actions).round(3).tolist(),
        "near_share": round(bandit.near_share(actions), 3),
        "mean_reward": round(float(bandit.reward(actions).mean()), 3),
        "updates": updates,
    }


def few_step() -> dict[str, tuple[Any, ...]]:
    """MFPO, and SMFP with the bound H_K (``soft``) and with its own entropy, as in their benchmarks."""

    def one_step(row: smfp_bandit.Row) -> tuple[Any, str, Step, int]:
        obs, unused = jnp.ones((row.states, 1)), jnp.zeros((row.states, 2))
        step: Step = lambda cfg, st, key: smfp.improve(cfg, st, reward, obs, unused)[0]  # noqa: E731
        return row.config(), "smfp", step, row.updates

    soft = smfp_bandit.Row(ALPHA, noise="stratified", **smfp_bandit.ANNEALED)  # pyright: ignore
    return {
        "SMFP soft": one_step(soft),
        "MFPO": (mfpo_boltzmann.BASE, "mfpo", on_states(mfpo.improve), 6000),
        "SMFP": one_step(smfp_bandit.Row(ALPHA, 0)),
    }


def draw_picture(folder: Path) -> None:
    """The truth and every system that has samples, one colour scale."""
    names = ["SMFP soft", "MaxEntDP", "SDAC", "MFPO", "DIME", "SAC-Flow", "FLAC", "FlowRL", "QSM", "DIPO"]
    names += ["DPMD", "QVPO", "DACER", "SMFP", "SAC"]
    found = {name: folder / f"{name}.npy" for name in names if (folder / f"{name}.npy").exists()}
    shown: list[toys.Density] = []
    for name, path in found.items():
        learned, true, *_ = toys.compare(np.load(path), ALPHA)
        shown = shown or [true]
        shown.append(toys.Density(name, learned.density, learned.total_variation, learned.shares))
    with style.styled():
        figure = toy_figures.densities_figure(
            toy_comparison.titled(shown), 4, 8.0, toy_comparison.brightest(shown)
        )
        (record.FOLDER / "bandit_systems.svg").write_bytes(style.to_file(figure, "svg"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run only rows whose name contains this text")
    parser.add_argument("--samples", type=Path, default=Path("/tmp/bandit_systems"))
    parser.add_argument("--picture", action="store_true", help="nothing but the picture")
    arguments = parser.parse_args()
    arguments.samples.mkdir(parents=True, exist_ok=True)
    everything = few_step() | {
        name: (row.config(), row.algo, row.step, row.updates, row.config(**row.sampled))
        for name, row in (PICTURED | VARIANTS).items()
    }
    for name, row in everything.items():
        if arguments.only in name and not arguments.picture:
            actions, result = measure(*row)
            np.save(arguments.samples / f"{name}.npy", actions)
            record.update("bandit_systems", name, result)
    if not arguments.only:
        draw_picture(arguments.samples)


if __name__ == "__main__":
    main()
