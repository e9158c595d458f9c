"""SAC-Flow: soft actor-critic through the steps of a flow (Zhang et al. 2025, arXiv 2509.25756).

A flow is a recurrent network: its steps share one velocity network, and gradients of the critic pass through
all of them. A gate or a decoder in place of an MLP (``nets.velocity_nets``) keeps them from growing. Each
step adds Gaussian noise, so that the path from noise to action has a density, which stands where SAC has
that of the action (``shared.path_policy``):

    x <- x - h v(s, x, t) + std e,      log p = log N(x_1) + sum_k log N(e_k; std) - log |tanh'(x_0)|.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.algos.shared import path_policy
from fewstep.algos.shared.path_policy import Drawn
from fewstep.algos.shared.temperature import TemperatureConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, InvalidSetting, Positive, Range, Section, Share, Sizes
from fewstep.critics.ensemble import CriticConfig
from fewstep.flows import bounds, paths
from fewstep.nets import velocity_nets
from fewstep.nets.activations import Activation
from fewstep.nets.mlp import MLP
from fewstep.nets.trained import AdamConfig
from fewstep.nets.velocity_nets import VelocityKind, VelocityNet
from fewstep.types import Spec

Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
LOG_STD = (-5.0, 2.0)
"""Range of the log width of a step's noise."""


@dataclass(frozen=True)
class ActorConfig(AdamConfig):
    """The networks of the flow, Adam on them, and the sampler.

    Attributes:
        net: velocity network: ``gated``, ``decoder`` or ``mlp`` (``nets.velocity_nets``).
        hidden: sizes of its hidden layers; of ``decoder`` one equal width for each block.
        activation: between them.
        steps: K of the sampler, one evaluation each.
        noise: ``learned``, each step's noise has a width that a network of the state gives; ``preserving``,
            the fixed width sigma sqrt(1 / K), with the drift that keeps the flow's marginals. The entropy of
            a path is then a constant but for the squashing, so the temperature steers nothing.
        noise_hidden: sizes of the hidden layers of the network of the width (``learned``).
        sigma: strength of the noise (``preserving``).
        delay: one policy update per this many critic updates.
    """

    net: VelocityKind = "gated"
    hidden: Sizes = (128,)
    activation: Activation = "silu"
    steps: Annotated[int, Range(1, 1000)] = 4
    noise: Literal["learned", "preserving"] = "learned"
    noise_hidden: Sizes = (512, 512)
    sigma: Positive = 0.1
    delay: Count = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.net == "decoder" and len(set(self.hidden)) != 1:
            raise InvalidSetting(
                "hidden must be one width for all blocks of the decoder, for two of 64 [64, 64], got "
                f"{list(self.hidden)}"
            )

    def create(self, key: PRNGKeyArray, spec: Spec) -> "Actor":
        """Fresh networks."""
        k_velocity, k_width = jax.random.split(key)
        sizes = (spec.obs_size, spec.act_size)
        velocity = velocity_nets.create(self.net, k_velocity, *sizes, self.hidden, self.activation)
        if self.noise == "preserving":
            return Actor(velocity, None)
        sizes = (spec.obs_size, self.noise_hidden, spec.act_size)
        return Actor(velocity, MLP.create(k_width, *sizes, activation="relu", norm=False))

    def noise_shape(self, act_size: int) -> tuple[int, int]:
        """The start, and the noise of every step."""
        return self.steps + 1, act_size

    def draw(self, actor: "Actor", s: Obs, noise: Float[Array, "steps+1 act"]) -> Drawn:
        """The action of the noises, and the log-density of the path to it, nats."""
        velocity = partial(actor.velocity, s)
        if self.noise == "preserving":
            velocity = paths.preserving(velocity, self.sigma)
        path = paths.noisy(velocity, self.log_std(actor, s), noise)
        return Drawn(jnp.tanh(path.x), path.log_prob - bounds.log_det("tanh", path.x))

    def log_std(self, actor: "Actor", s: Obs) -> Vector:
        """Of the noise of a step, within ``LOG_STD`` where it is learned."""
        if actor.width is None:
            return jnp.full(actor.act_size, jnp.log(self.sigma * self.steps**-0.5))
        low, high = LOG_STD
        return low + 0.5 * (high - low) * (jnp.tanh(actor.width(s)) + 1.0)


@dataclass(frozen=True)
class SACFlowConfig(Section):
    """All of SAC-Flow.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(
        default_factory=lambda: CriticConfig(
            trunk="crossq", target="none", hidden=(1024, 1024), learning_rate=1e-3, b1=0.5
        )
    )
    temperature: TemperatureConfig = field(
        default_factory=lambda: TemperatureConfig(initial=0.2, target_entropy_per_dim=0.0)
    )


class Actor(eqx.Module):
    """The velocity, and the network of the state that gives the width of the noise (``learned``)."""

    velocity: VelocityNet
    width: MLP | None

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.velocity.act_size


ALGORITHM = Algorithm(
    name="sacflow",
    title="SAC-Flow: soft actor-critic through the steps of a gated or decoder flow",
    config=SACFlowConfig,
    init=path_policy.init,
    update=path_policy.update,
    policy=path_policy.policy,
    noise=path_policy.noise_shape,
    draw=path_policy.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(),
    tiny={"actor.hidden": (16,), "actor.noise_hidden": (16,), "actor.steps": 2, "critic.hidden": (16, 16)},
    citation="""@inproceedings{zhang2026sacflow,
  title     = {{SAC} Flow: Sample-Efficient Reinforcement Learning of Flow-Based Policies via
               Velocity-Reparameterized Sequential Modeling},
  author    = {Zhang, Yixian and Yu, Shu'ang and Zhang, Tonghe and Guang, Mo and Hui, Haojia and Long, Kaiwen
               and Wang, Yu and Yu, Chao and Ding, Wenbo},
  booktitle = {International Conference on Learning Representations},
  year      = {2026}
}""",
)
