"""An ensemble of critics Q(s, a): trunk x head x target rule, and its temporal-difference update.

Trunk: the layers, with or without batch statistics. Head: what is predicted (``critics.heads``). Target rule:
Polyak averages of the networks, or none. An actor sees values (``q``, ``target_q``) and one ``fit``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import inf, prod
from typing import Annotated, Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.config.settings import Count, Positive, Range, Share
from fewstep.critics import gaussian
from fewstep.critics.heads import CategoricalHead, GaussianHead, Head, Reduce, ScalarHead, combine
from fewstep.errors import require
from fewstep.nets import trunks
from fewstep.nets.layers import Linear
from fewstep.nets.trained import Trained, copied, descend, polyak
from fewstep.nets.trunks import NetStats, TrunkConfig
from fewstep.types import Spec, Transition

Scalar = Float[Array, ""]
Rows = Float[Array, "batch"]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Nets = tuple[trunks.Net, ...]
NextAction = Float[Array, "batch act"] | Float[Array, "batch K act"]
Metrics = dict[str, Scalar]
QFunction = Callable[[Obs, Vector], Scalar]
"""Value of one action in one state, in reward units."""


@dataclass(frozen=True)
class CriticConfig(TrunkConfig):
    """The critics, and Adam on them.

    A trunk that sees batches sees (s, a) and (s', a') as one. With the heads ``scalar`` and ``gaussian`` the
    last kernel of ``xqc`` and ``flash`` is not brought back to unit norm: a number must be able to reach any
    return.

    Attributes:
        head: what is predicted: ``scalar``, one number; ``categorical``, a distribution over fixed atoms
            (C51); ``gaussian``, mean and standard deviation (DSAC-T).
        ensemble: number of critics.
        reduce: how their values become one, in targets and in choosing among actions.
        target: ``polyak``, targets come from Polyak averages of the critics; ``none``, from the critics.
        tau: Polyak rate.
        target_delay: updates per step of the Polyak averages.
        reward_scale: rewards are multiplied by it; values and temperatures are in units of the product, and
            are logged in the environment's own.
        atoms: points of the grid of returns (``categorical``).
        v_min: lower end of that grid, below ``v_max``; watch ``critic/target_saturated_share``.
        v_max: upper end of that grid, above ``v_min``.
        head_init: of the categorical head: ``zeros`` starts at the uniform distribution, whose value is the
            middle of the grid; ``origin`` at a narrow one around the return 0; ``random`` with what the
            initialiser gives. The last kernel of ``xqc`` and ``flash`` has unit norm, so there it is the
            bias alone: that of ``origin`` around 0, that of ``zeros`` and ``random`` zero.
    """

    head: Literal["scalar", "categorical", "gaussian"] = "scalar"
    ensemble: Count = 2
    reduce: Reduce = "min"
    target: Literal["polyak", "none"] = "polyak"
    tau: Share = 0.005
    target_delay: Count = 1
    reward_scale: Positive = 1.0
    atoms: Annotated[int, Range(2)] = 101
    v_min: float = -1600.0
    v_max: float = 1600.0
    head_init: Literal["zeros", "origin", "random"] = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            -inf < self.v_min < self.v_max < inf,
            f"critic.v_min must be below critic.v_max and both be finite, got {self.v_min} and {self.v_max}",
        )
        require(
            self.head_init != "origin" or self.v_min <= 0 <= self.v_max,
            "critic.head_init origin needs a grid that holds the return 0, got critic.v_min = "
            f"{self.v_min} and critic.v_max = {self.v_max}",
        )

    def scaled(self, batch: Transition) -> Transition:
        """With rewards in the units that updates see."""
        return batch if self.reward_scale == 1.0 else batch._replace(reward=self.reward_scale * batch.reward)

    @property
    def made_head(self) -> Head:
        """The head that the settings describe."""
        if self.head == "categorical":
            return CategoricalHead(self.reduce, self.atoms, self.v_min, self.v_max, self.head_init)
        return ScalarHead(self.reduce) if self.head == "scalar" else GaussianHead(self.reduce)


class Ensemble(eqx.Module):
    """Networks that value actions: what a policy carries along to choose by.

    Attributes:
        nets: the members.
        stats: the running statistics of each.
    """

    nets: Nets
    stats: tuple[NetStats, ...]

    def outputs(self, s: Obs, a: Vector) -> list[Array]:
        """Every member's outputs at one state and action, by the running statistics."""
        pairs = zip(self.nets, self.stats, strict=True)
        return [trunks.evaluate(net, stats, s, a) for net, stats in pairs]

    def values(self, cfg: CriticConfig, s: Obs, a: Vector) -> list[Scalar]:
        """Every member's value, in reward units."""
        return [cfg.made_head.value(out) for out in self.outputs(s, a)]

    def q(self, cfg: CriticConfig) -> QFunction:
        """The value of an action by all members together."""
        return lambda s, a: combine(self.values(cfg, s, a), cfg.reduce)


class Critics(eqx.Module):
    """The critics of a training state.

    Attributes:
        online: the networks that are trained, with Adam's moments.
        target: their Polyak averages, empty with ``target = "none"``.
        stats: running statistics of each of the online networks.
        spread: running mean of each member's predicted standard deviation (``gaussian``), else empty.
    """

    online: Trained[Nets]
    target: Nets
    stats: tuple[NetStats, ...]
    spread: Float[Array, "members"]

    @staticmethod
    def create(cfg: CriticConfig, spec: Spec, *keys: PRNGKeyArray) -> "Critics":
        """Fresh critics, one per key; target networks start as copies."""
        nets = tuple(_create(cfg, spec, key) for key in keys)
        return Critics(
            online=Trained.start(cfg, nets),
            target=copied(nets) if cfg.target == "polyak" else (),
            stats=tuple(map(trunks.empty_stats, nets)),
            spread=jnp.ones(len(nets) if cfg.head == "gaussian" else 0),
        )

    @property
    def online_ensemble(self) -> Ensemble:
        """The networks that are trained."""
        return Ensemble(self.online.params, self.stats)

    @property
    def target_ensemble(self) -> Ensemble:
        """The target networks; the trained ones where there are none.

        Those that are batch normalised have running statistics for the trained networks alone, so it is the
        trained ones there, too.
        """
        if not self.target or any(self.stats):
            return self.online_ensemble
        return Ensemble(self.target, self.stats)

    def q(self, cfg: CriticConfig) -> QFunction:
        """The value of an action by the networks that are trained."""
        return self.online_ensemble.q(cfg)

    def first_q(self, cfg: CriticConfig) -> QFunction:
        """The value of an action by the first of the networks that are trained."""
        return lambda s, a: self.online_ensemble.values(cfg, s, a)[0]

    def target_q(self, cfg: CriticConfig) -> QFunction:
        """The value of an action by ``target_ensemble``."""
        return self.target_ensemble.q(cfg)

    def fit(
        self,
        cfg: CriticConfig,
        discount: float,
        updates: Int[Array, ""],
        batch: Transition,
        next_action: NextAction,
        bonus: Rows | None = None,
    ) -> tuple["Critics", Metrics]:
        """One Adam step towards r + gamma (Q(s', a') + bonus); then the target networks follow.

        Where transitions sum several steps (``replay.n_step``) it is r_0 + ... + gamma^(m-1) r_(m-1) +
        gamma^m (Q(s_m, a') + bonus): the bonus is that of the last successor alone, as no density of the
        policies that chose the actions between is kept.

        Args:
            cfg: the settings.
            discount: gamma in [0, 1]; ``batch.discount`` stands in its place where there is one.
            updates: updates done before this one, which ``target_delay`` counts by.
            batch: transitions, ``[B]``.
            next_action: ``[B, act_size]``, a' in [-1, 1]; or ``[B, K, act_size]``, K of them alike likely,
                whose expectation is the target (expected SARSA).
            bonus: ``[B]``, the successor's entropy bonus; None: no bonus.
        """
        bonus = jnp.zeros(batch.reward.shape) if bonus is None else bonus
        batch = cfg.scaled(batch)
        online, value, found = descend(
            cfg, self.online, _loss, self, cfg, discount, batch, next_action, bonus
        )
        online = replace(online, params=tuple(map(trunks.projected, online.params)))
        fitted = replace(self, online=online, stats=found.stats)
        if cfg.head == "gaussian":
            fitted = replace(fitted, spread=polyak(self.spread, found.std, cfg.tau))
        if cfg.target == "polyak":
            fitted = _follow(cfg, fitted, updates)
        return fitted, {"critic/loss": value} | found.metrics


class Found(NamedTuple):
    """What a critic loss gives beside its value: new statistics, each member's mean std, metrics."""

    stats: tuple[NetStats, ...]
    std: Float[Array, "members"]
    metrics: Metrics


def _create(cfg: CriticConfig, spec: Spec, key: PRNGKeyArray) -> trunks.Net:
    head, unit_head = cfg.made_head, cfg.head == "categorical"
    inputs = spec.obs_size + spec.act_size
    net = cfg.create(key, inputs, head.outputs, unit_head=unit_head, image=spec.image)
    start = head.start(net.head)
    if cfg.has_unit_norm:
        start = Linear(net.head.weight, start.bias)
    return eqx.tree_at(lambda made: made.head, net, start)


def _follow(cfg: CriticConfig, critics: Critics, updates: Int[Array, ""]) -> Critics:
    def follow(target: Nets) -> Nets:
        return polyak(target, critics.online.params, cfg.tau)

    if cfg.target_delay == 1:
        return replace(critics, target=follow(critics.target))
    due = updates % cfg.target_delay == 0
    return replace(critics, target=lax.cond(due, follow, lambda same: same, critics.target))


def _loss(
    nets: Nets,
    critics: Critics,
    cfg: CriticConfig,
    discount: float,
    batch: Transition,
    next_action: NextAction,
    bonus: Rows,
) -> tuple[Scalar, Found]:
    """Sum over the members of the batch-mean loss. Differentiates: nets, not through the target."""
    head = cfg.made_head
    outs, nxt, stats = (_jointly if cfg.sees_batches else _apart)(nets, critics, batch, next_action)
    gamma, axis = (discount, None) if batch.discount is None else (batch.discount, 0)
    target = jax.vmap(partial(_target, head), in_axes=(0, 0, axis, 0, 0))
    target = lax.stop_gradient(target(batch.reward, batch.terminated, gamma, bonus, nxt))
    spread = critics.spread if cfg.head == "gaussian" else jnp.ones(len(outs))
    by_member = jax.vmap(jax.vmap(head.loss, in_axes=(0, 0, None)), in_axes=(0, None, 0))
    losses = by_member(jnp.stack(outs), target, spread)
    q = jnp.stack([jax.vmap(head.value)(out) for out in outs])
    metrics = {"critic/q_mean": q.mean(), "critic/q_std": jax.vmap(head.target_value)(target).std()}
    std = jnp.zeros(0)
    if cfg.head == "categorical":
        metrics["critic/target_saturated_share"] = target[1].mean()
    if cfg.head == "gaussian":
        std = jnp.stack([jax.vmap(gaussian.moments)(out)[1].mean() for out in outs])
        metrics["critic/std"] = std.mean()
    return jnp.sum(jnp.mean(losses, axis=1)), Found(stats, lax.stop_gradient(std), metrics)


def _target(
    head: Head,
    reward: Scalar,
    end: Array,
    discount: Scalar | float,
    bonus: Scalar,
    nxt: Float[Array, "*K members outputs"],
) -> Any:
    """What one transition regresses on, from the outputs at its successor's action, or at its K."""
    if nxt.ndim == 2:
        return head.target(reward, end, discount, bonus, nxt)
    return head.mixed(jax.vmap(lambda out: head.target(reward, end, discount, bonus, out))(nxt))


class Passed(NamedTuple):
    """Outputs of the members at (s, a) and of their (target) networks at (s', a'), and the new statistics."""

    outs: list[Float[Array, "batch outputs"]]
    nxt: Float[Array, "batch *K members outputs"]
    stats: tuple[NetStats, ...]


def _apart(nets: Nets, critics: Critics, batch: Transition, next_action: NextAction) -> Passed:
    """(s, a) and (s', a') apart, each row by itself."""
    ahead = critics.target_ensemble

    def members(s: Obs, a: Float[Array, "*K act"]) -> Float[Array, "*K members outputs"]:
        return jnp.stack(ahead.outputs(s, a)) if a.ndim == 1 else jax.vmap(partial(members, s))(a)

    nxt = jax.vmap(members)(batch.next_obs, next_action)
    online = Ensemble(nets, critics.stats)
    return Passed(list(jax.vmap(online.outputs)(batch.obs, batch.action)), nxt, critics.stats)


def _jointly(nets: Nets, critics: Critics, batch: Transition, next_action: NextAction) -> Passed:
    """(s, a) and (s', a') as one batch, normalised by the statistics of their mixture.

    Gradients pass through the joint statistics. Apart, the two halves, which come from different
    distributions of actions, would be normalised differently (Bhatt et al. 2024). Target networks see the
    same joint batch; what it does to their statistics is forgotten. Of K successor actions all are in it.
    """
    several = prod(next_action.shape[1:-1])
    next_obs = jnp.repeat(batch.next_obs, several, axis=0)
    rows = jnp.concatenate(
        [
            jnp.concatenate([batch.obs, batch.action], axis=1),
            jnp.concatenate([next_obs, next_action.reshape(len(next_obs), -1)], axis=1),
        ]
    )
    count = batch.obs.shape[0]
    here, there = slice(None, count), slice(count, None)
    now = zip(nets, critics.stats, strict=True)
    if critics.target:
        found = [trunks.train(net, stats, rows, here) for net, stats in now]
        outs = [out for out, _ in found]
        pairs = zip(critics.target, critics.stats, strict=True)
        ahead = [trunks.train(net, stats, rows, there)[0] for net, stats in pairs]
    else:
        found = [trunks.train(net, stats, rows) for net, stats in now]
        outs, ahead = [out[here] for out, _ in found], [out[there] for out, _ in found]
    nxt = jnp.stack(ahead, axis=1)
    nxt = nxt.reshape(*next_action.shape[:-1], *nxt.shape[1:])
    return Passed(outs, nxt, tuple(stats for _, stats in found))
