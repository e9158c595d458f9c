"""Parameters with the optimiser that moves them: the step every update is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fewstep.config.settings import NonNegative, Positive, Section, Share, ShareBelowOne, Whole

P = TypeVar("P")
Aux = TypeVar("Aux")
Scalar = Float[Array, ""]


@dataclass(frozen=True)
class AdamConfig(Section):
    """Adam (Kingma and Ba 2015): the optimiser of every group of parameters.

    Attributes:
        learning_rate: at the first step.
        b1, b2: decay rates of the first and the second moment.
        eps: added to the root of the second moment.
        max_grad_norm: gradients are clipped to this global norm; 0 means never.
        decay: how the learning rate falls.
        decay_start: steps of this optimiser before it begins to fall.
        decay_steps: steps of this optimiser over which it falls; 0: it is constant.
        final_share: share of ``learning_rate`` that is left in the end.
    """

    learning_rate: Positive = 3e-4
    b1: ShareBelowOne = 0.9
    b2: ShareBelowOne = 0.999
    eps: Positive = 1e-8
    max_grad_norm: NonNegative = 0.0
    decay: Literal["linear", "cosine"] = "linear"
    decay_start: Whole = 0
    decay_steps: Whole = 0
    final_share: Share = 0.0

    def rate(self, steps: Int[Array, ""]) -> Scalar | float:
        """The learning rate of the step that follows ``steps`` others."""
        if not self.decay_steps:
            return self.learning_rate
        left = jnp.clip(1.0 - (steps - self.decay_start) / self.decay_steps, 0.0, 1.0)
        if self.decay == "cosine":
            left = 0.5 * (1.0 + jnp.cos(jnp.pi * (1.0 - left)))
        return self.learning_rate * (self.final_share + (1.0 - self.final_share) * left)

    @property
    def moments(self) -> optax.GradientTransformation:
        """Adam without its learning rate: gradients to directions."""
        return optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps)


class Trained(eqx.Module, Generic[P]):
    """``params``, and Adam's moments for them."""

    params: P
    moments: optax.OptState

    @staticmethod
    def start(cfg: AdamConfig, params: P) -> "Trained[P]":
        """Fresh parameters, zero moments."""
        return Trained(params, cfg.moments.init(cast(Any, params)))

    @property
    def steps(self) -> Int[Array, ""]:
        """Steps made."""
        return cast(Any, self.moments).count

    def step(self, cfg: AdamConfig, grads: P, steps: Int[Array, ""] | None = None) -> "Trained[P]":
        """One step along ``grads``, downhill.

        ``steps`` counts what the learning rate decays by: steps of this optimiser, unless it is given.
        """
        if cfg.max_grad_norm:
            clip = optax.clip_by_global_norm(cfg.max_grad_norm)
            grads = cast(P, clip.update(cast(Any, grads), clip.init(cast(Any, grads)))[0])
        rate = cfg.rate(self.steps if steps is None else steps)
        directions, moments = cfg.moments.update(cast(Any, grads), self.moments)
        params = jax.tree.map(lambda p, d: p - rate * d, self.params, cast(P, directions))
        return Trained(params, moments)


def descend(
    cfg: AdamConfig, trained: Trained[P], loss: Callable[..., tuple[Scalar, Aux]], *args: Any
) -> tuple[Trained[P], Scalar, Aux]:
    """One step down ``loss(params, *args) -> (value, aux)``: the new parameters, the value, the aux."""
    (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(trained.params, *args)
    return trained.step(cfg, grads), value, aux


class Averaged(eqx.Module, Generic[P]):
    """The exponential average of parameters over their updates, or nothing where none is kept.

    After n updates to theta_1, ..., theta_n it is sum_i w_i theta_i with w_i = tau (1 - tau)^(n - i) /
    (1 - (1 - tau)^n), tau = 1 / ``over``: the weights add up to 1, and what training began with has none (the
    bias correction of Adam, Kingma and Ba 2015). It changes less from update to update than what is averaged
    (Polyak and Juditsky 1992, who weight all alike).

    Attributes:
        average: of the shapes of the parameters; None where none is kept.
    """

    average: P | None

    @staticmethod
    def start(over: int, params: P) -> "Averaged[P]":
        """Of no update yet; nothing for ``over`` = 0."""
        return Averaged(copied(params) if over else None)

    def moved(self, over: int, params: P, n: Int[Array, ""]) -> "Averaged[P]":
        """With ``params``, those of update ``n``, counted from 1. Whole numbers among them are taken over."""
        if self.average is None:
            return self
        tau = 1.0 / over
        weight = tau / -jnp.expm1(n * jnp.log1p(-tau))

        def leaf(average: Array, last: Array) -> Array:
            return average + weight * (last - average) if jnp.issubdtype(last.dtype, jnp.floating) else last

        return Averaged(jax.tree.map(leaf, self.average, params))

    def of(self, params: P) -> P:
        """The average; where none is kept, ``params``, the last ones."""
        return params if self.average is None else self.average


def polyak(target: P, online: P, tau: float) -> P:
    """``tau * online + (1 - tau) * target``, leaf by leaf: tau = 1 copies, tau = 0 never moves."""
    return cast(P, optax.incremental_update(cast(Any, online), cast(Any, target), tau))


def periodic(target: P, online: P, steps: Int[Array, ""], period: int) -> P:
    """A copy of ``online`` where ``steps`` is a multiple of ``period``, else ``target`` as it is."""
    return cast(P, optax.periodic_update(cast(Any, online), cast(Any, target), steps, period))


def copied(tree: P) -> P:
    """A copy, not an alias: an update donates its state and may not be given one buffer twice."""
    return jax.tree.map(jnp.copy, tree)
