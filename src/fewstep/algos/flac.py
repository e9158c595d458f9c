"""FLAC: maximum-entropy RL by the kinetic energy of a flow (Lv et al. 2026, arXiv 2602.12829).

The energy E = 1/2 integral |v|^2 dt bounds how far the policy is from the noise that it starts as, and stands
where SAC has the log-density (``shared.path_policy``): critics towards r + gamma (Q(s', a') - alpha E), the
actor down E[alpha E - Q(s, a)], alpha up while the mean energy is above its budget.
"""

from dataclasses import dataclass, field

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.algos.shared import path_policy
from fewstep.algos.shared.flow_policy import FlowConfig
from fewstep.algos.shared.temperature import TemperatureConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Positive, Section, Share
from fewstep.critics.ensemble import CriticConfig


@dataclass(frozen=True)
class EnergyConfig(TemperatureConfig):
    """The price alpha of kinetic energy, and Adam on log alpha. Minus the energy is treated as an entropy.

    Attributes:
        target_entropy_per_dim: minus the energy per action dimension that the policy is to have on average.
    """

    learning_rate: Positive = 3e-5
    initial: float = 1.0


@dataclass(frozen=True)
class FLACConfig(Section):
    """All of FLAC.

    Attributes:
        discount: gamma.
    """

    discount: Share = 0.99
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: FlowConfig = field(default_factory=FlowConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    temperature: EnergyConfig = field(default_factory=EnergyConfig)


ALGORITHM = Algorithm(
    name="flac",
    title="Field least-energy actor-critic: a flow policy whose kinetic energy stands for its entropy",
    config=FLACConfig,
    init=path_policy.init,
    update=path_policy.update,
    policy=path_policy.policy,
    noise=path_policy.noise_shape,
    draw=path_policy.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(),
    tiny={"actor.hidden": (16, 16), "critic.hidden": (16, 16)},
    citation="""@article{lv2026flac,
  title   = {{FLAC}: Maximum Entropy {RL} via Kinetic Energy Regularized Bridge Matching},
  author  = {Lv, Lei and Li, Yunfei and Luo, Yu and Sun, Fuchun and Ma, Xiao},
  journal = {arXiv preprint arXiv:2602.12829},
  year    = {2026}
}""",
)
