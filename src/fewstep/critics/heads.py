"""Heads: what a critic predicts, the value it stands for, the target it regresses on and the loss.

A head is a frozen dataclass of constants. Its methods are for one sample; ``members`` is the axis of an
ensemble.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce as fold
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fewstep.critics import categorical, gaussian
from fewstep.nets.layers import Linear

Scalar = Float[Array, ""]
Outputs = Float[Array, "outputs"]
Members = Float[Array, "members outputs"]
Discount = Float[Array, ""] | float
"""gamma, or gamma^m behind a reward that sums m steps."""
Reduce = Literal["min", "mean"]
"""How the values of an ensemble become one: the minimum (clipped double Q), or the mean."""


class Head(Protocol):
    """What every head gives."""

    @property
    def outputs(self) -> int:
        """Numbers that a network gives for one (state, action)."""
        ...

    def start(self, layer: Linear) -> Linear:
        """The network's last layer as it begins, from a freshly initialised one."""
        ...

    def value(self, out: Outputs) -> Scalar:
        """The expected return, in reward units."""
        ...

    def target(
        self, reward: Scalar, terminated: Array, discount: Discount, bonus: Scalar, nxt: Members
    ) -> Any:
        """What the ensemble regresses on, from its (target) networks' outputs at (s', a').

        ``bonus`` is the successor's entropy bonus, 0 for a hard backup. ``reward`` may sum several steps;
        ``discount`` is then that of the successor's value.
        """
        ...

    def mixed(self, targets: Any) -> Any:
        """The target of a successor's action drawn evenly from several, from the targets of each (axis 0)."""
        ...

    def loss(self, out: Outputs, target: Any, spread: Scalar) -> Scalar:
        """Of one member at (s, a). Differentiates: out.

        ``spread`` is the running mean of that member's predicted standard deviation (``GaussianHead``).
        """
        ...

    def target_value(self, target: Any) -> Scalar:
        """The expected return that the target stands for."""
        ...


def combine(values: Sequence[Scalar], reduce: Reduce) -> Scalar:
    """One value of an ensemble's: their minimum, or their mean."""
    if reduce == "min":
        return fold(jnp.minimum, values)
    return fold(jnp.add, values) * (1.0 / len(values))


def td_target(reward: Array, terminated: Array, discount: Array | float, next_value: Array) -> Array:
    """r + gamma V(s'), or r where the episode ended in a terminal state; any shape."""
    return reward + discount * (1.0 - terminated) * next_value


@dataclass(frozen=True)
class ScalarHead:
    """One number, regressed on by squared error."""

    reduce: Reduce
    outputs: int = 1

    def start(self, layer: Linear) -> Linear:
        """As it is initialised."""
        return layer

    def value(self, out: Outputs) -> Scalar:
        """The number itself."""
        return out[0]

    def target(
        self, reward: Scalar, terminated: Array, discount: Discount, bonus: Scalar, nxt: Members
    ) -> Scalar:
        """r + gamma (Q(s', a') + bonus)."""
        return td_target(reward, terminated, discount, combine(list(nxt[:, 0]), self.reduce) + bonus)

    def mixed(self, targets: Float[Array, "K"]) -> Scalar:
        """Their mean: expected SARSA."""
        return targets.mean()

    def loss(self, out: Outputs, target: Scalar, spread: Scalar) -> Scalar:
        """Half the squared error."""
        return 0.5 * (out[0] - target) ** 2

    def target_value(self, target: Scalar) -> Scalar:
        """The number itself."""
        return target


@dataclass(frozen=True)
class CategoricalHead:
    """A distribution over a fixed grid of returns (C51, Bellemare et al. 2017), fitted by cross-entropy.

    Attributes:
        atoms, v_min, v_max: the grid, in reward units.
        init: ``zeros`` starts at the uniform distribution, ``origin`` at a narrow one around the return 0,
            ``random`` with what the network's initialiser gives.
    """

    reduce: Reduce
    atoms: int
    v_min: float
    v_max: float
    init: Literal["zeros", "origin", "random"]

    @property
    def outputs(self) -> int:
        """One logit per atom."""
        return self.atoms

    @property
    def grid(self) -> Float[Array, "atoms"]:
        """The returns that logits belong to."""
        return categorical.support(self.v_min, self.v_max, self.atoms)

    def start(self, layer: Linear) -> Linear:
        """As ``init`` says."""
        if self.init == "random":
            return layer
        bias = categorical.logits_around_zero(self.grid) if self.init == "origin" else layer.bias
        return Linear(jnp.zeros_like(layer.weight), bias)

    def value(self, out: Outputs) -> Scalar:
        """Mean of the distribution."""
        return categorical.expected_value(out, self.grid)

    def target(
        self, reward: Scalar, terminated: Array, discount: Discount, bonus: Scalar, nxt: Members
    ) -> tuple[Float[Array, "atoms"], Scalar]:
        """The target distribution, and the share of its mass that fell off the grid."""
        z = self.grid
        values = categorical.soft_atoms(z, reward, terminated, discount, bonus)
        members = jax.nn.softmax(nxt)
        projected = categorical.project(members, values, z)
        target = categorical.combine_targets(projected, z, self.reduce)
        return target, jnp.mean(categorical.saturated_share(members, values, z))

    def mixed(
        self, targets: tuple[Float[Array, "K atoms"], Float[Array, "K"]]
    ) -> tuple[Float[Array, "atoms"], Scalar]:
        """The mixture of their distributions, and the mean of the shares."""
        return targets[0].mean(axis=0), targets[1].mean()

    def loss(self, out: Outputs, target: tuple[Float[Array, "atoms"], Scalar], spread: Scalar) -> Scalar:
        """Cross-entropy, nats."""
        return categorical.cross_entropy(target[0], out)

    def target_value(self, target: tuple[Float[Array, "atoms"], Scalar]) -> Scalar:
        """Mean of the distribution."""
        return target[0] @ self.grid


@dataclass(frozen=True)
class GaussianHead:
    """Mean and standard deviation of the return (DSAC-T), see ``critics.gaussian``."""

    reduce: Reduce
    outputs: int = 2

    def start(self, layer: Linear) -> Linear:
        """As it is initialised."""
        return layer

    def value(self, out: Outputs) -> Scalar:
        """The mean."""
        return out[0]

    def target(
        self, reward: Scalar, terminated: Array, discount: Discount, bonus: Scalar, nxt: Members
    ) -> tuple[Scalar, Scalar]:
        """Mean and standard deviation: those of the member with the lower mean, or the members' averages."""
        mean, std = jax.vmap(gaussian.moments)(nxt)
        chosen = jnp.argmin(mean)
        mean, std = (mean[chosen], std[chosen]) if self.reduce == "min" else (mean.mean(), std.mean())
        return td_target(reward, terminated, discount, mean + bonus), discount * (1.0 - terminated) * std

    def mixed(self, targets: tuple[Float[Array, "K"], Float[Array, "K"]]) -> tuple[Scalar, Scalar]:
        """Mean and standard deviation of the mixture of their distributions."""
        mean, std = targets
        return mean.mean(), jnp.sqrt(jnp.mean(std**2) + mean.var())

    def loss(self, out: Outputs, target: tuple[Scalar, Scalar], spread: Scalar) -> Scalar:
        """See ``gaussian.loss``."""
        return gaussian.loss(out, *target, spread)

    def target_value(self, target: tuple[Scalar, Scalar]) -> Scalar:
        """The mean."""
        return target[0]
