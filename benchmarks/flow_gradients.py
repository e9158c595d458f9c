"""How the gradient of a flow's end in its start grows with the number of steps, by velocity network.

SAC-Flow's claim (docs/algorithms/sacflow.md): mean norm of d x_0 / d x_1 over 32 starts and five
initialisations, kernels as they are initialised and multiplied by 2 and 4, as training may make them.

    python -m benchmarks.flow_gradients
"""

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks import record
from fewstep.flows import paths
from fewstep.nets import velocity_nets
from fewstep.nets.velocity_nets import VelocityKind

KINDS: tuple[VelocityKind, ...] = ("mlp", "gated", "decoder")
STEPS = (1, 2, 4, 8, 16)
STATE = jnp.array([0.3, -1.0, 0.5])


def norm(kind: VelocityKind, factor: float, steps: int) -> float:
    """The mean norm."""

    def one(key: jax.Array) -> jax.Array:
        hidden = (64,) if kind == "gated" else (64, 64)
        net = velocity_nets.create(kind, key, 3, 2, hidden, "silu")
        net = jax.tree.map(lambda x: factor * x if x.ndim == 2 else x, net)
        starts = jax.random.normal(jax.random.key(3), (32, 2))
        slopes = jax.vmap(jax.jacfwd(lambda e: paths.solve(partial(net, STATE), e, steps, "euler").x))
        return jnp.linalg.norm(slopes(starts), axis=(1, 2)).mean()

    return float(jnp.mean(jnp.stack([one(jax.random.key(n)) for n in range(5)])))


def main() -> None:
    for factor in (1, 2, 4):
        for kind in KINDS:
            found = {str(steps): round(norm(kind, factor, steps), 2) for steps in STEPS}
            record.update("flow_gradients", f"{kind}, kernels times {factor}", found)


if __name__ == "__main__":
    main()
