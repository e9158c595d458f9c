"""Twin scalar critics: their hyper-parameters, their value, and one temporal-difference update."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.optim import Adam, polyak
from fewstep.critics.categorical import Twin, combine_values
from fewstep.critics.crossq import CrossQ, joint_values
from fewstep.critics.scalar import ScalarCritic, td_target
from fewstep.errors import require, require_sizes
from fewstep.nets.mlp import MLP
from fewstep.nets.renorm import Form, RenormConfig, RenormMLP, Stats
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Rows = Float[Array, "batch"]
ActRows = Float[Array, "batch act"]
Critics = tuple[CrossQ, CrossQ] | tuple[ScalarCritic, ScalarCritic]
Slow = Critics | tuple[()]
"""Polyak averages of the critics; empty with ``crossq``, which needs none."""
QFunction = Callable[[Float[Array, "obs"], Float[Array, "act"]], Scalar]


@dataclass(frozen=True)
class CriticConfig:
    """The twin critics.

    Fields:
        kind: ``crossq``, batch renormalisation and no target network; ``layernorm`` and ``plain`` (no
            normalisation), target networks.
        hidden: sizes of the hidden layers. One or more, each at least 1.
        learning_rate: of Adam. Above 0.
        b1: Adam's decay of the mean gradient. From 0 to below 1.
        twin: how the two values become one, in targets and in judging actions.
        tau: Polyak rate of the target critics whenever they follow (not with ``crossq``). From 0 to 1.
        momentum: of the running statistics (``crossq`` only). From 0 to below 1.
        warm_up: updates with plain batch statistics before the renormalisation sets in (``crossq`` only). At
            least 0.
        renorm: form of its correction, see ``nets.renorm.RenormConfig`` (``crossq`` only).
    """

    kind: Literal["crossq", "layernorm", "plain"] = "crossq"
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 1e-3
    b1: float = 0.5
    twin: Twin = "min"
    tau: float = 0.005
    momentum: float = 0.99
    warm_up: int = 100_000
    renorm: Form = "ioffe"

    def __post_init__(self) -> None:
        require_sizes("critic.hidden", self.hidden)
        require(self.learning_rate > 0, "critic.learning_rate must be positive")
        require(0 <= self.b1 < 1, f"critic.b1 must be in [0, 1), got {self.b1}")
        require(0 <= self.tau <= 1, f"critic.tau must be in [0, 1], got {self.tau}")
        require(0 <= self.momentum < 1, f"critic.momentum must be in [0, 1), got {self.momentum}")
        require(self.warm_up >= 0, "critic.warm_up must not be negative")


def create(cfg: CriticConfig, spec: Spec, first: PRNGKeyArray, second: PRNGKeyArray) -> tuple[Critics, Slow]:
    """Fresh critics, one per key, and their slow copies."""
    sizes = (spec.obs_size, spec.act_size, cfg.hidden)
    if cfg.kind == "crossq":
        renorm = RenormConfig(momentum=cfg.momentum, warm_up=cfg.warm_up, form=cfg.renorm)
        return (CrossQ.create(first, *sizes, renorm), CrossQ.create(second, *sizes, renorm)), ()
    norm = cfg.kind == "layernorm"
    critics = (ScalarCritic.create(first, *sizes, norm=norm), ScalarCritic.create(second, *sizes, norm=norm))
    # Copies, not aliases: the update donates its input and may not be given one buffer twice.
    return critics, jax.tree.map(jnp.copy, critics)


def moments(cfg: CriticConfig, critics: Critics) -> optax.OptState:
    """Adam's state for the networks of fresh critics."""
    return Adam(cfg.learning_rate, cfg.b1).init((critics[0].net, critics[1].net))


def q_value(twin: Twin, critics: Critics) -> QFunction:
    """The value actions are judged by: both critics (running statistics) combined by ``twin``."""
    return lambda s, a: combine_values(critics[0](s, a), critics[1](s, a), twin)


def best(q: QFunction, s: Float[Array, "obs"], actions: Float[Array, "K act"]) -> Float[Array, "act"]:
    """The action of a state's K candidates with the highest value; a single one is not even looked at."""
    if actions.shape[0] == 1:
        return actions[0]
    return actions[jnp.argmax(jax.vmap(lambda a: q(s, a))(actions))]


class Seen(NamedTuple):
    """What a critic loss found on the way: values, targets, and the new statistics of both critics."""

    q: Float[Array, "2 batch"]
    target: Rows
    stats: tuple[tuple[Stats, ...], ...]


def crossq_loss(
    nets: tuple[RenormMLP, RenormMLP],
    cfg: CriticConfig,
    discount: float,
    critics: tuple[CrossQ, CrossQ],
    batch: Transition,
    next_action: ActRows,
    next_bonus: Rows,
) -> tuple[Scalar, Seen]:
    """Half the squared TD error of both critics, batch mean. Differentiates: nets.

    (s, a) and (s', a') are one batch: gradients pass through the joint statistics, not through the target.
    ``next_bonus`` is the entropy bonus of the successor (zero for a hard backup).
    """
    found = [
        joint_values(replace(critic, net=net), batch.obs, batch.action, batch.next_obs, next_action)
        for net, critic in zip(nets, critics, strict=True)
    ]
    next_value = combine_values(found[0][1], found[1][1], cfg.twin) + next_bonus
    target = lax.stop_gradient(td_target(batch.reward, batch.terminated, discount, next_value))
    q = jnp.stack([found[0][0], found[1][0]])
    return 0.5 * jnp.sum(jnp.mean((q - target) ** 2, axis=1)), Seen(q, target, (found[0][2], found[1][2]))


def scalar_loss(nets: tuple[MLP, MLP], batch: Transition, target: Rows) -> tuple[Scalar, Seen]:
    """Half the squared TD error of both critics, batch mean. Differentiates: nets."""
    q = jnp.stack([jax.vmap(ScalarCritic(net))(batch.obs, batch.action) for net in nets])
    return 0.5 * jnp.sum(jnp.mean((q - target) ** 2, axis=1)), Seen(q, target, ())


class Fitted(NamedTuple):
    """Critics after one update, and what was seen on the way."""

    critics: Critics
    slow: Slow
    moments: optax.OptState
    loss: Scalar
    seen: Seen

    @property
    def metrics(self) -> dict[str, Scalar]:
        """What a report shows of it: the loss, the mean value, and the targets' spread over the batch."""
        return {
            "critic/loss": self.loss,
            "critic/q_mean": self.seen.q.mean(),
            "critic/q_std": self.seen.target.std(),
        }


def follow(cfg: CriticConfig, slow: Slow, critics: Critics) -> Slow:
    """The slow copies one Polyak step nearer to the critics; with ``crossq`` there are none to move."""
    return polyak(slow, critics, cfg.tau) if slow else ()


def fit(
    cfg: CriticConfig,
    discount: float,
    critics: Critics,
    slow: Slow,
    moments: optax.OptState,
    batch: Transition,
    next_action: ActRows,
    next_bonus: Rows,
    *,
    slow_follow: bool = True,
) -> Fitted:
    """One Adam step of both critics towards r + gamma (Q(s', a') + bonus).

    The slow copies follow at once, or stay with ``slow_follow=False``, for algorithms that move them at other
    times by ``follow``.
    """
    adam = Adam(cfg.learning_rate, cfg.b1)
    first, second = critics
    if isinstance(first, CrossQ) and isinstance(second, CrossQ):
        regression = jax.value_and_grad(crossq_loss, has_aux=True)
        (loss, seen), grads = regression(
            (first.net, second.net), cfg, discount, (first, second), batch, next_action, next_bonus
        )
        nets, moments = adam.step((first.net, second.net), grads, moments)
        return Fitted(
            (CrossQ(nets[0], seen.stats[0]), CrossQ(nets[1], seen.stats[1])), (), moments, loss, seen
        )
    q = q_value(cfg.twin, cast(tuple[ScalarCritic, ScalarCritic], slow))
    next_value = jax.vmap(q)(batch.next_obs, next_action) + next_bonus
    target = td_target(batch.reward, batch.terminated, discount, next_value)
    nets = cast(tuple[MLP, MLP], (first.net, second.net))
    (loss, seen), grads = jax.value_and_grad(scalar_loss, has_aux=True)(nets, batch, target)
    nets, moments = adam.step(nets, grads, moments)
    critics = (ScalarCritic(nets[0]), ScalarCritic(nets[1]))
    return Fitted(critics, follow(cfg, slow, critics) if slow_follow else slow, moments, loss, seen)
