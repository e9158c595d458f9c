"""The flow policy of FPMD and FLAME: straight paths x_t = (1 - t) a + t e from an action to a noise.

One network u(s, x, r, t) either way. Rectified it is the velocity, always asked at r = t, and Euler's method
draws an action; of a MeanFlow it is the average velocity over [r, t], and one evaluation draws one.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.shared.flow_actor import FlowActorConfig
from fewstep.config.settings import Count, Positive, Range, Share, Whole
from fewstep.flows import meanflow, paths, times
from fewstep.nets.flow_net import FlowNet

Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Rows = Float[Array, "batch"]
ActRows = Float[Array, "batch act"]


@dataclass(frozen=True)
class StraightFlowConfig(FlowActorConfig):
    """The flow, Adam on it, and how actions are drawn.

    Attributes:
        flow: ``rectified``, the network is a velocity (R); ``meanflow``, an average velocity (M).
        steps: T, network evaluations per action: of Euler's method in a rectified flow; a MeanFlow is for 1.
        start: standard deviation of the noise that a draw begins with. The flow is trained from 1; the
            authors' draws begin with 0.5.
        equal_share: share of a MeanFlow's rows with r = t, where it learns the velocity itself (authors: 0).
            A rectified flow has r = t in all.
        delay: one policy update per this many critic updates.
        batch_size: most states of the batch that a policy update uses; 0 means all. At least 0.
        tau: Polyak rate of the policy that acts. The policy that is trained draws the successor's action.
        candidates: N of the best-of-N behaviour and evaluation. From 1 to 1024.
    """

    flow: Literal["rectified", "meanflow"] = "rectified"
    steps: Annotated[int, Range(1, 100)] = 20
    start: Positive = 1.0
    equal_share: Share = 0.5
    delay: Count = 2
    batch_size: Whole = 0
    tau: Share = 0.005
    candidates: Annotated[int, Range(1, 1024)] = 32

    def draw(self, actor: FlowNet, s: Obs, noise: Vector) -> Vector:
        """The action of the noise, in [-1, 1]."""
        return jnp.clip(self.end(actor, s, noise), -1.0, 1.0)

    def end(self, actor: FlowNet, s: Obs, noise: Vector) -> Vector:
        """Where the flow carries the noise, which may lie outside of the box."""
        if self.flow == "rectified":
            return paths.solve(lambda x, t: actor(s, x, t, t), self.start * noise, self.steps, "euler").x
        return meanflow.sample(partial(actor, s), self.start * noise, self.steps)

    def drawn(
        self, actor: FlowNet, obs: Float[Array, "batch obs"], key: PRNGKeyArray
    ) -> Float[Array, "batch N act"]:
        """``candidates`` actions of each state."""
        noise = jax.random.normal(key, (obs.shape[0], self.candidates, actor.outputs))
        return jax.vmap(lambda s, each: jax.vmap(partial(self.draw, actor, s))(each))(obs, noise)

    def equal_rows(self, rows: int) -> int:
        """How many of the rows of a regression have r = t; they come first."""
        return rows if self.flow == "rectified" else int(self.equal_share * rows)


class Noised(eqx.Module):
    """Rows to learn the flow at: points ``x`` of time ``t`` on paths of velocity ``v``, and r."""

    x: ActRows
    v: ActRows
    r: Rows
    t: Rows

    @staticmethod
    def of(key: PRNGKeyArray, actions: ActRows, equal: int, grid: int = 0, steps: int = 1) -> "Noised":
        """Each action on the way to a noise of N(0, I), at times of ``times.uniform_pairs``."""
        k_t, k_e = jax.random.split(key)
        r, t = times.uniform_pairs(k_t, actions.shape[0], equal, grid, steps)
        e = jax.random.normal(k_e, actions.shape)
        return Noised(jax.vmap(meanflow.interpolate)(actions, e, t), e - actions, r, t)
