"""How far the two forms of batch renormalisation part: ``python -m benchmarks.renorm_forms``.

One fresh CrossQ critic of HalfCheetah's sizes (2 x 256), a third of its inputs with variances between 1e-4
and 1e-2, past its warm-up. Batches of 256 rows are those of the running statistics, or wider and shifted, as
when the policy moves on. Both forms have the same parameters, statistics and batch; what is printed is the
rms difference of Q over the standard deviation of Q.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from fewstep.nets.renorm import RenormConfig, RenormMLP

INPUTS, ROWS, SETTLE = 23, 256, 2000


def main() -> None:
    key = jax.random.key(0)
    net = RenormMLP.create(key, INPUTS, (256, 256), 1, cfg=RenormConfig(warm_up=0))
    small = jnp.arange(INPUTS) % 3 == 0
    scale = jnp.where(small, jnp.logspace(-2, -1, INPUTS), 1.0)

    def rows(batch: int, wider: float, shift: float) -> jax.Array:
        normal = jax.random.normal(jax.random.fold_in(key, batch), (ROWS, INPUTS))
        return scale * (wider * normal + shift)

    train = jax.jit(lambda stats, x: net.train(stats, x)[1])
    stats = net.empty_stats()
    for batch in range(SETTLE):
        stats = train(stats, rows(batch, 1.0, 0.0))
    theirs = replace(net, cfg=RenormConfig(warm_up=0, form="crossq"))
    for wider, shift in ((1.0, 0.0), (1.5, 0.0), (2.0, 0.5)):
        x = rows(SETTLE, wider, shift)
        ours, other = net.train(stats, x)[0], theirs.train(stats, x)[0]
        gap = jnp.sqrt(jnp.mean((ours - other) ** 2)) / ours.std()
        print(f"batch {wider:g} times as wide, shifted by {shift:g} sd: {gap:.3f} of Q's sd")


if __name__ == "__main__":
    main()
