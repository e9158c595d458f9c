"""The flow policy of FlowRL, FLAC and FLAG: noise carried to an action by an ODE, then squashed by tanh."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.shared.path_policy import Drawn
from fewstep.config.settings import Count, Range, Sizes
from fewstep.flows import paths
from fewstep.flows.paths import Solver
from fewstep.nets import velocity_nets
from fewstep.nets.activations import Activation
from fewstep.nets.trained import AdamConfig
from fewstep.nets.velocity_nets import VelocityNet
from fewstep.types import Spec


@dataclass(frozen=True)
class FlowConfig(AdamConfig):
    """The velocity network, Adam on it, and the solver.

    Attributes:
        hidden: sizes of the hidden layers, which are normalised by LayerNorm.
        activation: between them.
        steps: of the solver per action.
        solver: ``midpoint``, two evaluations of the network per step; ``euler``, one.
        delay: one policy update per this many critic updates.
    """

    hidden: Sizes = (512, 512)
    activation: Activation = "elu"
    steps: Annotated[int, Range(1, 1000)] = 1
    solver: Solver = "midpoint"
    delay: Count = 2

    def create(self, key: PRNGKeyArray, spec: Spec) -> VelocityNet:
        """A fresh network."""
        sizes = (spec.obs_size, spec.act_size, self.hidden, self.activation)
        return velocity_nets.create("mlp", key, *sizes, norm=True)

    def noise_shape(self, act_size: int) -> tuple[int]:
        """The noise at time 1."""
        return (act_size,)

    def draw(self, actor: VelocityNet, s: Float[Array, "obs"], noise: Float[Array, "act"]) -> Drawn:
        """The action of the noise, and the kinetic energy; gradients flow through the solver."""
        flow = paths.solve(partial(actor, s), noise, self.steps, self.solver)
        return Drawn(jnp.tanh(flow.x), flow.energy)
