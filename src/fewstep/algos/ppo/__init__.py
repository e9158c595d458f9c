"""PPO: Proximal Policy Optimization (arXiv 1707.06347), the on-policy control.

Read in this order:

1. ``config``: the hyper-parameters.
2. ``policy``: the Gaussian, and how it acts.
3. ``normalise``, ``advantages``, ``losses``: the equations.
4. ``learner``: the state and one update.

docs/algorithms/ppo.md holds the mathematics and the sources of the presets.
"""

from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.algos.ppo import learner, policy
from fewstep.algos.ppo.config import PPOConfig

__all__ = ["ALGORITHM", "PPOConfig"]

ALGORITHM = Algorithm(
    name="ppo",
    title="Proximal Policy Optimization: a Gaussian policy improved on its own rollouts, ratios clipped",
    config=PPOConfig,
    init=learner.init,
    update=learner.update,
    policy=learner.policy,
    noise=lambda cfg, policy: (policy.actor.act_size,),
    draw=policy.draw,
    native=lambda cfg: ActionMode(noise_free=True),
    rollout=lambda cfg: cfg.rollout.steps,
    tiny={
        "actor.hidden": (16, 16),
        "critic.hidden": (16, 16),
        "rollout.steps": 4,
        "rollout.epochs": 2,
        "rollout.minibatches": 2,
    },
    citation="""@article{schulman2017ppo,
  title   = {Proximal Policy Optimization Algorithms},
  author  = {Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec and Klimov, Oleg},
  journal = {arXiv preprint arXiv:1707.06347},
  year    = {2017}
}""",
)
