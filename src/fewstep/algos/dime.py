"""DIME: diffusion-based maximum-entropy RL (Celik et al. 2025, arXiv 2502.02316).

The policy is a controlled diffusion, trained by the critic's gradient through all its steps. Its density is
out of reach, but the ratio of its path to one that runs backwards without control bounds it from above
(``flows.paths.controlled``), and that bound c stands where SAC has the log-density (``shared.path_policy``):
critics towards r + gamma (Q(s', a') - alpha c), the actor down E[alpha c - Q(s, a)].
"""

from dataclasses import dataclass, field
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.algos.shared import path_policy
from fewstep.algos.shared.path_policy import Drawn
from fewstep.algos.shared.temperature import TemperatureConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, NonNegative, Positive, Range, Section, Share, ShareBelowOne, Sizes
from fewstep.critics.ensemble import CriticConfig
from fewstep.flows import bounds, paths
from fewstep.nets.activations import Activation, inverse_softplus
from fewstep.nets.mlp import MLP
from fewstep.nets.time_features import LOW_FREQUENCIES, low_frequency_features
from fewstep.nets.trained import AdamConfig
from fewstep.types import Spec

Scalar = Float[Array, ""]
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]


@dataclass(frozen=True)
class ActorConfig(AdamConfig):
    """The control, the step sizes, Adam on both, and the sampler.

    Attributes:
        hidden: sizes of the control network's hidden layers.
        activation: between them.
        steps: K of the sampler, one evaluation each.
        prior_std: standard deviation of the start.
        step_size: of the first step, at the beginning of training; the others fall by a cosine, and a common
            factor and one per dimension are learned.
        delay: one policy update per this many critic updates.
    """

    b1: ShareBelowOne = 0.5
    max_grad_norm: NonNegative = 1.0
    hidden: Sizes = (256, 256, 256)
    activation: Activation = "gelu"
    steps: Annotated[int, Range(1, 1000)] = 16
    prior_std: Positive = 2.5
    step_size: Positive = 0.1
    delay: Count = 3

    def create(self, key: PRNGKeyArray, spec: Spec) -> "Actor":
        """Fresh parameters, with nearly no control at first."""
        inputs = spec.act_size + spec.obs_size + 2 * len(LOW_FREQUENCIES)
        sizes = (inputs, self.hidden, spec.act_size)
        body = MLP.create(
            key, *sizes, head_init="orthogonal_hundredth", activation=self.activation, norm=False
        )
        friction = jnp.full(spec.act_size, inverse_softplus(1.0))
        return Actor(body, inverse_softplus(self.step_size), friction)

    def noise_shape(self, act_size: int) -> tuple[int, int]:
        """The start, and the noise of every step."""
        return self.steps + 1, act_size

    def draw(self, actor: "Actor", s: Obs, noise: Float[Array, "steps+1 act"]) -> Drawn:
        """The action of the noises, and c: on average over paths at least its log-density, nats."""

        def control(x: Vector, k: Int[Array, ""]) -> Vector:
            return actor.body(x, s, low_frequency_features(1.0 - k / self.steps))

        path = paths.controlled(control, actor.widths(self.steps), self.prior_std, noise)
        return Drawn(jnp.tanh(path.x), path.log_prob - bounds.log_det("tanh", path.x))


@dataclass(frozen=True)
class DIMEConfig(Section):
    """All of DIME.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=lambda: ReplayConfig(updates_per_step=2.0))
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(
        default_factory=lambda: CriticConfig(
            trunk="crossq",
            head="categorical",
            target="none",
            reduce="mean",
            hidden=(2048, 2048),
            b1=0.5,
        )
    )
    temperature: TemperatureConfig = field(
        default_factory=lambda: TemperatureConfig(
            initial=1.0, learning_rate=1e-3, target_entropy_per_dim=-1.66
        )
    )


class Actor(eqx.Module):
    """The control network, and what step sizes are made of: a factor, and a friction per dimension."""

    body: MLP
    size: Scalar
    friction: Vector

    @property
    def act_size(self) -> int:
        """Size of an action."""
        return self.friction.shape[0]

    def widths(self, steps: int) -> Float[Array, "steps act"]:
        """eta of every step and dimension."""
        sizes = jax.nn.softplus(self.size) * paths.cosine_widths(steps)
        return sizes[:, None] / jax.nn.softplus(self.friction)


ALGORITHM = Algorithm(
    name="dime",
    title="Diffusion-based maximum-entropy RL: a controlled diffusion under a bound of its entropy",
    config=DIMEConfig,
    init=path_policy.init,
    update=path_policy.update,
    policy=path_policy.policy,
    noise=path_policy.noise_shape,
    draw=path_policy.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(),
    tiny={"actor.hidden": (16, 16), "actor.steps": 3, "critic.hidden": (16, 16), "critic.atoms": 11},
    citation="""@inproceedings{celik2025dime,
  title     = {{DIME}: Diffusion-Based Maximum Entropy Reinforcement Learning},
  author    = {Celik, Onur and Li, Zechu and Blessing, Denis and Li, Ge and Palenicek, Daniel and Peters, Jan
               and Chalvatzaki, Georgia and Neumann, Gerhard},
  booktitle = {International Conference on Machine Learning},
  year      = {2025}
}""",
)
