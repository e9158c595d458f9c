"""Policy updates that happen at every n-th update only, and the metrics of the last one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import lax

from fewstep.algos.contract import Metrics

S = TypeVar("S")


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

    def go(st: Any) -> Any:
        st, metrics = improve(st)
        return replace(st, held=metrics)

    st: Any = state
    st = go(st) if delay == 1 else lax.cond(st.updates % delay == 0, go, between, st)
    return replace(st, updates=st.updates + 1), st.held


def with_held(state: S, improve: Callable[[S], tuple[S, Metrics]]) -> S:
    """The state with zeros for the metrics that ``improve`` gives, found by evaluating shapes only."""
    _, metrics = jax.eval_shape(improve, state)
    zeros = {name: jnp.zeros(value.shape, value.dtype) for name, value in metrics.items()}
    return cast(S, replace(cast(Any, state), held=zeros))
