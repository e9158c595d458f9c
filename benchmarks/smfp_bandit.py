"""Does a one-step policy reach the Boltzmann density of ``toy/bandit``, and what decides it?

The true reward stands in for the critic, so that nothing but the policy's own objective is tested: maximise
E[r] + alpha * (entropy bound) at fixed alpha, without mirror descent. K = 0 is SMFP's conditional surrogate,
K > 0 the semi-implicit bound. Each policy is a 3 x 128 perceptron, one evaluation per action.

    python -m benchmarks.smfp_bandit                  # the table, about ten minutes on one free core
    python -m benchmarks.smfp_bandit --only annealed  # rows whose name contains this text; the others stay
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import record
from fewstep.algos.contract import ActionMode
from fewstep.algos.smfp import ALGORITHM, learner
from fewstep.algos.smfp import config as c
from fewstep.envs.toys import bandit
from fewstep.training.device.toys import bandit_reward
from fewstep.types import Spec

RESULTS = record.FOLDER / "smfp_bandit.json"
SAMPLES = 40_000
"""Actions a policy is judged by; exact samples would have a total variation of about 0.06."""
CHUNK = 250
"""Updates per dispatch."""


@dataclass(frozen=True)
class Row:
    """One policy: ``states`` x ``samples`` actions per update, each judged by K + 1 components."""

    alpha: float
    components: int
    states: int = 256
    samples: int = 1
    noise: str = "independent"
    anneal: int = 0
    learning_rate: float = 1e-3
    updates: int = 6000
    seed: int = 0

    @property
    def name(self) -> str:
        shared = f" {self.states}x{self.samples}" if self.samples > 1 else ""
        noise = "" if self.noise == "independent" else f" {self.noise}"
        seed = f" seed={self.seed}" if self.seed else ""
        annealed = f" annealed={self.anneal}" if self.anneal else ""
        return f"alpha={self.alpha:g} K={self.components}{shared}{noise}{annealed}{seed}"

    def config(self) -> c.SMFPConfig:
        return c.SMFPConfig(
            actor=c.ActorConfig(
                hidden=(128, 128, 128),
                learning_rate=self.learning_rate,
                samples=self.samples,
                bound_weight=10.0 if self.anneal else 20.0 * self.alpha,
            ),
            critic=c.CriticConfig(hidden=(4,)),
            mirror=c.MirrorConfig(weight=0.0, candidates=2),
            entropy=c.EntropyConfig(kind="semi_implicit", components=self.components, noise=self.noise),
            temperature=c.TemperatureConfig(
                initial=self.alpha, anneal_factor=1.0 / self.alpha, anneal_updates=self.anneal
            ),
        )


SHARED = {"components": 15, "states": 16, "samples": 16}
ANNEALED = {
    "components": 31,
    "states": 16,
    "samples": 32,
    "anneal": 3000,
    "learning_rate": 5e-4,
    "updates": 8000,
}
ROWS = [
    *(Row(0.2, k) for k in (0, 1, 4, 16)),
    *(Row(0.1, k) for k in (0, 4, 16)),
    # The same number of network rows as K = 0: 256 components, every one of them sampled from.
    *(Row(alpha, noise=noise, **SHARED) for alpha in (0.2, 0.1) for noise in ("independent", "stratified")),
    # What dependent noises buy at small K.
    *(Row(0.2, 5, noise=noise) for noise in ("independent", "antithetic", "stratified")),
    # From alpha = 1 down, with twice as many components.
    *(Row(alpha, noise=noise, **ANNEALED) for alpha in (0.2, 0.1) for noise in ("independent", "stratified")),
    # The same at K = 15 and 16: few shared samples lose the low modes, many fresh ones hold them.
    Row(0.1, 15, anneal=3000, learning_rate=5e-4, updates=8000, states=16, samples=16),
    Row(0.1, 16, anneal=3000, learning_rate=5e-4, updates=8000),
    # Annealing alone does not save the conditional surrogate.
    Row(0.1, 0, anneal=3000, learning_rate=5e-4, updates=8000),
]


def true_reward(s: jax.Array, a: jax.Array) -> jax.Array:
    """The bandit's reward as a function jax can differentiate; the state says nothing."""
    return bandit_reward(a)


def train(row: Row) -> tuple[learner.State, dict[str, float], float]:
    """The trained state, means of the last dispatch's metrics, and ms of processor time per update."""
    cfg = row.config()
    obs, unused = jnp.ones((row.states, 1)), jnp.zeros((row.states, 2))

    @partial(jax.jit, donate_argnums=0)
    def chunk(state: learner.State) -> tuple[learner.State, dict[str, jax.Array]]:
        def one(state: learner.State, _: None) -> tuple[learner.State, dict[str, jax.Array]]:
            state, metrics = learner.improve(cfg, state, true_reward, obs, unused)
            return replace(state, updates=state.updates + 1), metrics

        state, metrics = lax.scan(one, state, length=CHUNK)
        return state, jax.tree.map(jnp.mean, metrics)

    state = learner.init(cfg, Spec(1, 2), jax.random.key(row.seed))
    state, metrics = chunk(state)
    jax.block_until_ready(metrics)
    began = time.process_time()
    for _ in range(row.updates // CHUNK - 1):
        state, metrics = chunk(state)
    last = {name: float(value) for name, value in metrics.items()}
    return state, last, 1e3 * (time.process_time() - began) / (row.updates - CHUNK)


def judge(row: Row, state: learner.State) -> tuple[np.ndarray, dict[str, object]]:
    """Samples of a policy against the target: one network evaluation each."""
    act = jax.jit(lambda p, o, k: ALGORITHM.act(row.config(), p, o, k, ActionMode()))
    actions = np.asarray(act(learner.policy(state), jnp.ones((SAMPLES, 1)), jax.random.key(1234)))
    histogram = np.histogram2d(*actions.T, bins=40, range=[(-1, 1), (-1, 1)])[0] / SAMPLES
    seen = histogram[histogram > 0]
    return actions, {
        "total_variation": bandit.total_variation(actions, row.alpha),
        "mode_shares": bandit.mode_shares(actions).round(3).tolist(),
        "near_share": bandit.near_share(actions),
        "mean_reward": float(bandit.reward(actions).mean()),
        "histogram_entropy": float(-(seen * np.log(seen / (2 / 40) ** 2)).sum()),
    }


def target(alpha: float) -> dict[str, object]:
    return {
        "alpha": alpha,
        "mode_shares": bandit.target_shares(alpha).round(3).tolist(),
        "mean_reward": bandit.mean_reward(alpha),
        "entropy": bandit.entropy(alpha),
        "total_variation_of_exact_samples": bandit.sampling_floor(alpha, SAMPLES),
    }


def save(path: Path, rows: dict[str, dict[str, object]]) -> None:
    """Write what there is, in the order of the table."""
    result = {
        "targets": [target(alpha) for alpha in sorted({row.alpha for row in ROWS})],
        "rows": [rows[row.name] for row in ROWS if row.name in rows],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="run only the rows whose name contains this text")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    # A name says everything that decides a row, so rows of an earlier run of the same table can stay.
    earlier = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"rows": []}
    # Files of earlier code have command and machine once, for all their rows.
    shared = {name: earlier[name] for name in ("command", "machine") if name in earlier}
    rows = {row["name"]: row | shared for row in earlier["rows"]}
    for row in (row for row in ROWS if arguments.only in row.name):
        state, metrics, milliseconds = train(row)
        _, verdict = judge(row, state)
        bounds = {"bound": metrics["policy/entropy"], "conditional": metrics["policy/conditional_entropy"]}
        made: dict[str, object] = {
            "cpu_ms_per_update": round(milliseconds, 2),
            "command": record.command(),
            "machine": record.machine() | {"backend": jax.default_backend()},
        }
        rows[row.name] = {"name": row.name, **vars(row)} | verdict | bounds | made
        print(
            f"{row.name:36} TV {verdict['total_variation']:.3f}  reward {verdict['mean_reward']:.3f}  "
            f"shares {verdict['mode_shares']}  H_K {bounds['bound']:.2f}  "
            f"H(a|e) {bounds['conditional']:.2f}  H {verdict['histogram_entropy']:.2f}  "
            f"{milliseconds:.1f} ms",
            flush=True,
        )
        save(arguments.out, rows)


if __name__ == "__main__":
    main()
