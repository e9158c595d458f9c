"""What a trained MFPO policy's entropy is, and what its estimates of it say.

At states drawn from the run's replay buffer, one action each: minus the mean log-density by the average
divergence network, by the divergence at the start of each step, and exactly (the log-determinant of the
sampler's map). Nats, all action dimensions together; the target is what alpha is adjusted for.

    python -m benchmarks.mfpo_entropy runs/HalfCheetah-v4/mfpo/seed-0
"""

import argparse
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fewstep
from benchmarks import record
from fewstep.algos.mfpo import policy
from fewstep.training.collect.experience import Replay

STATES = 2_000


def entropies(run: Path) -> dict[str, object]:
    """The row of a run's newest checkpoint."""
    model = fewstep.load(run)
    cfg, state = model.config.algorithm, model.state
    experience = getattr(model._trainer, "experience", None)  # pyright: ignore[reportPrivateUsage]
    assert isinstance(experience, Replay)
    stored = experience.buffer.arrays()["obs"]
    obs = jnp.asarray(stored[np.random.default_rng(0).integers(0, len(stored), STATES)])
    noise = jax.random.normal(jax.random.key(0), (STATES, model.action_space.shape[0]))
    found: dict[str, object] = {"env_steps": model.num_timesteps}
    for kind in ("averaged", "exact", "instantaneous"):
        if kind == "averaged" and cfg.divergence.log_prob != kind:
            continue  # then nothing trains the network
        asked = replace(cfg, divergence=replace(cfg.divergence, log_prob=kind))
        log_prob = jax.jit(
            jax.vmap(
                lambda s, e, asked=asked: (
                    policy.draw(asked, state.actor.params, state.divergence.params, s, e).log_prob
                )
            )
        )(obs, noise)
        found[kind] = round(-float(log_prob.mean()), 2)
    found["target"] = cfg.temperature.target_entropy_per_dim * noise.shape[1]
    found["alpha"] = float(f"{float(state.temperature.alpha):.3g}")
    model.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories, not records")
    for run in parser.parse_args().runs:
        record.update("mfpo_entropy", "/".join(run.resolve().parts[-3:]), entropies(run))


if __name__ == "__main__":
    main()
