"""MFPO: Mean Flow Policy Optimization (arXiv 2604.14698).

Maximum-entropy reinforcement learning with a two-step MeanFlow policy. Read in this order:

1. ``config``: the hyper-parameters.
2. ``policy``: how an action and its log-density are made.
3. ``targets``: the velocity of the flow towards the Boltzmann policy exp(Q / alpha) / Z.
4. ``losses``: average velocity and average divergence.
5. ``learner``: the state and one update.

docs/algorithms/mfpo.md holds the mathematics and each departure from the authors' code.
"""

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.algos.mfpo import learner, policy
from fewstep.algos.mfpo.config import MFPOConfig

__all__ = ["ALGORITHM", "MFPOConfig"]

ALGORITHM = Algorithm(
    name="mfpo",
    title="Mean Flow Policy Optimization: a two-step MeanFlow policy under maximum-entropy RL",
    config=MFPOConfig,
    init=learner.init,
    update=learner.update,
    policy=learner.policy,
    collector=learner.collector,
    noise=lambda cfg, policy: (policy.actor.outputs,),
    draw=policy.draw_action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    tiny={
        "actor.hidden": (16, 16),
        "actor.time_features": 8,
        "actor.time_embed": 8,
        "critic.hidden": (16, 16),
        "critic.atoms": 11,
        "proposals.policy": 2,
        "proposals.gaussian": 2,
        "proposals.block": 0,
    },
    citation="""@article{dong2026mfpo,
  title   = {Mean Flow Policy Optimization},
  author  = {Dong, Xiaoyi and Zhang, Xi Sheryl and Cheng, Jian},
  journal = {arXiv preprint arXiv:2604.14698},
  year    = {2026}
}""",
)
