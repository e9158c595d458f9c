"""Policy updates that happen at every n-th update only, and the metrics of the last one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fewstep.algos.contract import Metrics
from fewstep.errors import require

S = TypeVar("S")
Held = Float[Array, "32"]
"""Metrics of the last improvement in the order of their names, then zeros: a state has their place before
anybody has traced the improvement to learn their names."""
PLACES = 32


def nothing_held() -> Held:
    """For a state that no improvement has seen."""
    return jnp.zeros(PLACES, jnp.float32)


def delayed(
    delay: int,
    state: S,
    improve: Callable[[S], tuple[S, Metrics]],
    between: Callable[[S], S] = lambda same: same,
) -> tuple[S, Metrics]:
    """``improve(state)`` at every ``delay``-th update, the first included; else ``between(state)``.

    A condition on ``state.updates``, so what is skipped is not computed. The count of updates goes up by one
    either way. The metrics are those of the last improvement, which ``state.held`` keeps.
    """
    names: list[str] = []

    def go(st: Any) -> Any:
        st, metrics = improve(st)
        names[:] = sorted(metrics)
        require(len(names) <= PLACES, f"an improvement has {len(names)} metrics, {PLACES} can be held")
        values = jnp.stack([metrics[name].astype(jnp.float32) for name in names])
        return replace(st, held=jnp.pad(values, (0, PLACES - len(names))))

    st: Any = state
    st = go(st) if delay == 1 else lax.cond(st.updates % delay == 0, go, between, st)
    return replace(st, updates=st.updates + 1), {name: st.held[i] for i, name in enumerate(names)}
