"""CrossQ (arXiv 1902.05605): SAC with batch renormalisation in actor and critics, and no target networks.

The update is SAC's, which says what networks normalised by batches do in it. What CrossQ adds are these
networks and their settings. docs/algorithms/crossq.md holds the mathematics and the sources of the presets.
"""

from dataclasses import dataclass, field, replace

from fewstep.algos import sac
from fewstep.algos.shared.tanh_gaussian import ActorConfig
from fewstep.algos.shared.temperature import TemperatureConfig
from fewstep.critics.ensemble import CriticConfig


@dataclass(frozen=True)
class CrossQConfig(sac.SACConfig):
    """All of CrossQ."""

    actor: ActorConfig = field(
        default_factory=lambda: ActorConfig(
            trunk="crossq", learning_rate=1e-3, b1=0.5, delay=3, log_std_min=-20.0
        )
    )
    critic: CriticConfig = field(
        default_factory=lambda: CriticConfig(
            trunk="crossq", target="none", hidden=(2048, 2048), learning_rate=1e-3, b1=0.5
        )
    )
    temperature: TemperatureConfig = field(
        default_factory=lambda: TemperatureConfig(
            initial=1.0, target_entropy_per_dim=-1.0, learning_rate=1e-3
        )
    )


ALGORITHM = replace(
    sac.ALGORITHM,
    name="crossq",
    title="CrossQ: SAC with batch renormalisation, wide critics and no target networks",
    config=CrossQConfig,
    citation="""@inproceedings{bhatt2024crossq,
  title     = {{CrossQ}: Batch Normalization in Deep Reinforcement Learning for Greater Sample Efficiency and
               Simplicity},
  author    = {Bhatt, Aditya and Palenicek, Daniel and Belousov, Boris and Argus, Max and
               Amiranashvili, Artemij and Brox, Thomas and Peters, Jan},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}""",
)
