"""An algorithm that improves the actions it learns from and keeps them, as DIPO does."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp

from fewstep.algos.shared.action_memory import ActionMemory
from tests.e2e import tiny_algorithm


class State(eqx.Module):
    weight: jax.Array
    baseline: jax.Array
    key: jax.Array
    updates: jax.Array
    memory: ActionMemory


def init(cfg, spec, key):
    memory = ActionMemory.create(cfg.replay.capacity, spec.act_size)
    return State(*tiny_algorithm.init(cfg, spec, key), memory)


def update(cfg, state, batch):
    """Kept actions go a tenth of the way to the policy's mean, are learned from and written back."""
    actions = state.memory.read(batch.number, batch.action)
    better = jnp.clip(0.9 * actions + 0.1 * batch.obs @ state.weight, -1.0, 1.0)
    before = tiny_algorithm.State(state.weight, state.baseline, state.key, state.updates)
    after, metrics = tiny_algorithm.update(cfg, before, batch._replace(action=better))
    kept = jnp.abs(better - batch.action).mean()
    return State(*after, state.memory.write(batch.number, better)), metrics | {"memory/moved": kept}


ALGORITHM = replace(
    tiny_algorithm.ALGORITHM,
    name="relabelling",
    init=init,
    update=update,
    numbered=True,
)
