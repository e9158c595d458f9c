"""SMFP: Stochastic MeanFlow Policies (arXiv 2605.21282), and the entropy bound that keeps their modes.

A one-step policy a = clip(mu(s, e) + sigma(s, e) eps): an infinite mixture of Gaussians, one network
evaluation per action, improved by SAC's gradient and by mirror descent at once. Read in this order:

1. ``config``: the hyper-parameters.
2. ``network``, ``policy``: how an action is made, and chosen among candidates.
3. ``targets``: the successor's action and its entropy; actions to regress on and their weights.
4. ``proposal``: mixture components around a guess of the noise that a sample came from (an option).
5. ``losses``: improvement (Q, entropy, bound) and mirror descent.
6. ``learner``: the state and one update, critics and temperature included.

The authors' code is not public. docs/algorithms/smfp.md says what is known, what is inferred, what is ours,
and what was measured.
"""

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.algos.smfp import learner, policy
from fewstep.algos.smfp.config import SMFPConfig

__all__ = ["ALGORITHM", "SMFPConfig"]

ALGORITHM = Algorithm(
    name="smfp",
    title="Stochastic MeanFlow Policies: a one-step policy under entropic mirror descent",
    config=SMFPConfig,
    init=learner.init,
    update=learner.update,
    policy=learner.policy,
    collector=learner.collector,
    noise=lambda cfg, policy: (2, policy.actor.act_size),
    draw=lambda cfg, acting, s, noise: policy.draw(cfg, acting.actor, s, noise).action,
    value=lambda cfg, policy: policy.critics.q(cfg.critic),
    native=lambda cfg: ActionMode(candidates=cfg.actor.evaluation_candidates),
    behaviour=lambda cfg: ActionMode(candidates=cfg.actor.candidates),
    images=True,
    tiny={"actor.hidden": (16, 16), "critic.hidden": (16, 16)},
    citation="""@article{wang2026smfp,
  title   = {Stochastic MeanFlow Policies: One-Step Generative Control with Entropic Mirror Descent},
  author  = {Wang, Zeyuan and Li, Da and Chen, Yulin and Gong, Yuehu and Guo, Yanming and Shi, Ye
             and Bai, Liang and Yu, Tianyuan and Fu, Yanwei},
  journal = {arXiv preprint arXiv:2605.21282},
  year    = {2026}
}""",
)
