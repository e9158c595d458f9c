"""TD3: Twin Delayed Deep Deterministic policy gradient (arXiv 1802.09477), the deterministic control.

Read in this order:

1. ``config``: the hyper-parameters.
2. ``fewstep.algos.twins``: the critics and their update.
3. ``learner``: the policy, the state and one update.

docs/algorithms/td3.md holds the mathematics and the sources of the presets.
"""

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.algos.td3 import learner
from fewstep.algos.td3.config import TD3Config

__all__ = ["ALGORITHM", "TD3Config"]

ALGORITHM = Algorithm(
    name="td3",
    title="Twin Delayed DDPG: a deterministic tanh policy with smoothed, delayed targets",
    config=TD3Config,
    init=learner.init,
    update=learner.update,
    policy=learner.policy,
    act=learner.act,
    native=lambda cfg: ActionMode(noise_free=True),
    citation="""@inproceedings{fujimoto2018td3,
  title     = {Addressing Function Approximation Error in Actor-Critic Methods},
  author    = {Fujimoto, Scott and van Hoof, Herke and Meger, David},
  booktitle = {International Conference on Machine Learning},
  year      = {2018}
}""",
)
