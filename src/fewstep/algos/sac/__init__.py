"""SAC: Soft Actor-Critic (arXiv 1812.05905), the Gaussian control of the expressive policies.

Read in this order:

1. ``config``: the hyper-parameters.
2. ``fewstep.algos.tanh_gaussian``: how an action and its log-density are made.
3. ``fewstep.algos.twins``: the critics and their update; ``critic.kind = "crossq"`` gives SAC the critic of
   SMFP.
4. ``learner``: the state and one update.

docs/algorithms/sac.md holds the mathematics and the sources of the presets.
"""

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.algos.sac import learner
from fewstep.algos.sac.config import SACConfig

__all__ = ["ALGORITHM", "SACConfig"]

ALGORITHM = Algorithm(
    name="sac",
    title="Soft Actor-Critic: a tanh-Gaussian policy under maximum-entropy RL",
    config=SACConfig,
    init=learner.init,
    update=learner.update,
    policy=learner.policy,
    act=learner.act,
    native=lambda cfg: ActionMode(noise_free=True),
    citation="""@article{haarnoja2018sac,
  title   = {Soft Actor-Critic Algorithms and Applications},
  author  = {Haarnoja, Tuomas and Zhou, Aurick and Hartikainen, Kristian and Tucker, George and Ha, Sehoon and
             Tan, Jie and Kumar, Vikash and Zhu, Henry and Gupta, Abhishek and Abbeel, Pieter and
             Levine, Sergey},
  journal = {arXiv preprint arXiv:1812.05905},
  year    = {2018}
}""",
)
