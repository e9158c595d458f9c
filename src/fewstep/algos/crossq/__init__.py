"""CrossQ (arXiv 1902.05605): SAC with batch renormalisation in place of target networks.

Read in this order:

1. ``config``: the hyper-parameters.
2. ``fewstep.nets.renorm`` and ``fewstep.critics.crossq``: the normalisation and the joint forward.
3. ``actor``: the Gaussian policy with its running statistics.
4. ``learner``: the state and one update.

docs/algorithms/crossq.md holds the mathematics and the sources of the presets.
"""

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.algos.crossq import learner
from fewstep.algos.crossq.config import CrossQConfig

__all__ = ["ALGORITHM", "CrossQConfig"]

ALGORITHM = Algorithm(
    name="crossq",
    title="CrossQ: SAC with batch renormalisation, wide critics and no target networks",
    config=CrossQConfig,
    init=learner.init,
    update=learner.update,
    policy=learner.policy,
    act=learner.act,
    native=lambda cfg: ActionMode(noise_free=True),
    citation="""@inproceedings{bhatt2024crossq,
  title     = {{CrossQ}: Batch Normalization in Deep Reinforcement Learning for Greater Sample Efficiency and
               Simplicity},
  author    = {Bhatt, Aditya and Palenicek, Daniel and Belousov, Boris and Argus, Max and
               Amiranashvili, Artemij and Brox, Thomas and Peters, Jan},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}""",
)
