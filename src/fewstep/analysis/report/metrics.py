"""The metrics that a report knows: what each is called, in which unit, and how to read it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plain:
    """A panel that is one metric: its title, what its axis counts, how to read it, and the range it wants."""

    metric: str
    title: str
    axis: str
    caption: str
    scale: float = 1.0
    floor: float | None = None


LOSSES = (
    Plain(
        "critic/loss",
        "Critic loss",
        "loss",
        "Categorical critics: cross-entropy to the projected target, in nats, which follows the target's "
        "spread. Scalar critics: half the squared TD errors.",
    ),
    Plain(
        "actor/loss",
        "Actor loss",
        "loss",
        "A flow's regression: a flat line is normal, a jump is not. A pathwise loss: falls as Q rises.",
    ),
    Plain(
        "mirror/loss", "Mirror descent loss", "loss", "The weighted MeanFlow regression, before its factor λ."
    ),
    Plain(
        "actor/bound",
        "Penalty on what lies outside the box",
        "penalty",
        "Mean over coordinates; should stay small.",
    ),
    Plain(
        "actor/hinge",
        "Shortfall of log σ below its threshold",
        "nats",
        "Sum over coordinates; 0: never below.",
        1,
        0,
    ),
    Plain("divergence/loss", "Divergence loss", "loss", "Squared error of the average-divergence network."),
    Plain("temperature/loss", "Temperature loss", "loss", "Swings around 0 once entropy sits at its target."),
)
VALUES = (
    Plain(
        "critic/q_mean",
        "Q, mean over the batch",
        "Q (return)",
        "Should level off; a climb that the returns do not follow is overestimation.",
    ),
    Plain(
        "reward/divisor",
        "What rewards are divided by",
        "return",
        "Running scale of discounted returns; it rises with them, and a jump is one freak return.",
    ),
    Plain(
        "critic/q_std",
        "Targets of Q, spread over the batch",
        "Q (return)",
        "Standard deviation of the critics' targets between the transitions of a batch.",
    ),
    Plain(
        "critic/target_saturated_share",
        "Targets clipped by the critic's support",
        "targets (%)",
        "Above a few percent the support is too narrow and values are cut off.",
        100,
        0,
    ),
    Plain(
        "policy/candidate_q_gap",
        "Best candidate's Q above the mean candidate's",
        "Q (return)",
        "What best-of-N can gain.",
    ),
    Plain(
        "policy/clipped_share",
        "Action coordinates clipped to ±1",
        "coordinates (%)",
        "With actor.bound=tanh those beyond ±0.99. Near 100 the policy is bang-bang.",
        100,
        0,
    ),
    Plain(
        "policy/saturated_share",
        "Action coordinates beyond ±0.99",
        "coordinates (%)",
        "Near 100 a tanh policy is bang-bang, and hardly any gradient reaches it.",
        100,
        0,
    ),
    Plain(
        "policy/candidate_q_std",
        "Q, spread over the candidates of a state",
        "Q (return)",
        "What best-of-N chooses between.",
    ),
    Plain(
        "policy/excess",
        "How far means lie outside the box",
        "action units",
        "Mean over coordinates; watch it above 0.05.",
        1,
        0,
    ),
    Plain(
        "actor/q", "Q of the policy's own actions", "Q (return)", "What the pathwise part of the loss climbs."
    ),
    Plain(
        "critic/explained_variance",
        "Share of the targets' variance that the values explain",
        "share of variance",
        "1 is perfect, 0 no better than a constant.",
    ),
    Plain(
        "actor/approx_kl",
        "KL of the new policy from the one that collected",
        "KL (nats)",
        "Over the last pass of an update; above some hundredths the clip is not holding it.",
        1,
        0,
    ),
    Plain(
        "actor/clipped_share",
        "Steps with a probability ratio beyond the clip",
        "steps (%)",
        "Over the last pass of an update; usually 5 to 30.",
        100,
        0,
    ),
    Plain(
        "policy/outside_share",
        "Drawn action coordinates outside the box",
        "coordinates (%)",
        "The environment clips them; near 100 the policy is bang-bang.",
        100,
        0,
    ),
    Plain(
        "actor/velocity_norm",
        "Norm of the velocity target",
        "action units",
        "How far actions move from noise to policy.",
    ),
    Plain(
        "divergence/target_mean",
        "Divergence target, mean",
        "divergence",
        "Negative: the flow contracts noise into actions.",
    ),
)
COURSE = (
    Plain(
        "episode_return",
        "Return while training",
        "return per episode",
        "Mean of the episodes that ended in the interval; exploring, not evaluating.",
    ),
    Plain(
        "episode_length",
        "Episode length while training",
        "environment steps",
        "Mean of the episodes that ended in the interval.",
    ),
    Plain(
        "wall_env_steps_per_second",
        "Speed",
        "environment steps / s",
        "Whole loop: acting, simulating, updating, logging.",
        floor=0,
    ),
)
SHOWN_APART = (
    "policy/entropy",
    "policy/conditional_entropy",
    "policy/log_std",
    "temperature/alpha",
    "snis/ess_policy",
    "snis/ess_gaussian",
    "snis/rho",
)
