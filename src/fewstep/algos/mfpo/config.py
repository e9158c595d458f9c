"""MFPO's hyper-parameters.

Defaults are the sound choices of docs/algorithms/mfpo.md; the preset ``authors`` restores the authors' where
the two differ.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fewstep.algos.shared.temperature import TemperatureConfig
from fewstep.config import ReplayConfig
from fewstep.config.settings import Count, Positive, Range, Section, Share, Sizes, Whole
from fewstep.critics.ensemble import CriticConfig
from fewstep.errors import require
from fewstep.flows.bounds import Bound
from fewstep.flows.noises import Spread
from fewstep.nets.frozen import Precision
from fewstep.nets.trained import AdamConfig


@dataclass(frozen=True)
class ActorConfig(AdamConfig):
    """The average-velocity network, Adam on it, and the sampler.

    Attributes:
        network: ``module:make``, layers of your own in the place of the built-in ones, also of the divergence
            network (docs/own-networks.md); none: the built-in ones.
        hidden: sizes of the hidden layers (also of the divergence network).
        time_features, time_embed: Fourier features of a time (even) and the size they are embedded to.
        steps: T, network evaluations per action.
        bound: how actions are kept in [-1, 1]: ``clip`` (authors) or ``tanh`` with the change of density
            accounted for.
        delay: one policy update per this many critic updates. At least 1.
        batch_size: most states of the batch that a policy update uses; 0 means all. At least 0.
        candidates: N of the native best-of-N evaluation. From 1 to 1024.
        average: the policy that is evaluated and saved has the average of the network's parameters over
            about this many of its last updates (``nets.trained.Averaged``); 0: the last parameters.
    """

    network: str | None = None
    hidden: Sizes = (256, 256, 256)
    time_features: Annotated[int, Range(2)] = 128
    time_embed: Count = 64
    steps: Annotated[int, Range(1, 64)] = 2
    bound: Bound = "clip"
    delay: Count = 1
    batch_size: Whole = 0
    candidates: Annotated[int, Range(1, 1024)] = 10
    average: Whole = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.time_features % 2 == 0, "actor.time_features must be even")


@dataclass(frozen=True)
class DivergenceConfig(AdamConfig):
    """Log-densities of the policy's samples, and Adam on the average divergence network.

    Attributes:
        log_prob: ``averaged`` uses the average divergence network (the paper); ``exact`` the log-determinant
            of the T-step map; ``instantaneous`` the divergence of the velocity at the start of each step (the
            paper's ablation: no network, but the wrong density for long steps). The last two are for at most
            8 action dimensions.
        probes: Hutchinson probes per row.
        probe: their distribution; ``rademacher`` has the lower variance, ``gaussian`` is the authors'.
    """

    log_prob: Literal["averaged", "exact", "instantaneous"] = "averaged"
    probes: Count = 2
    probe: Literal["rademacher", "gaussian"] = "rademacher"


@dataclass(frozen=True)
class ProposalConfig(Section):
    """Candidates of the importance-sampled velocity.

    Attributes:
        policy: K1, candidates per state from the policy.
        gaussian: K2, candidates per point from the Gaussian proposal.
        points: points (x, t) regressed on per state. They share the state's policy candidates and each is
            noised from another of them, so there may not be more than K1. The rows of a policy update are
            ``points`` times its states (``actor.batch_size``). From 1 to ``policy``.
        noise: of both proposals' candidates; ``stratified`` spreads each state's (or point's) evenly.
        mixing: the two estimates are weighed by ``ess`` (authors) or by ``ess_per_candidate``, ESS / K; with
            ``gaussian`` or ``policy`` that proposal's estimate counts alone (ablations of the paper).
        block: states evaluated together, so that activations stay in the processor's cache; 0 means all at
            once (a GPU). A matter of speed only. On a CPU keep to 2048 Gaussian candidates in a block: at
            4096 XLA hands whole layers to another library, and an update takes 1.5 times as long. At least 0.
        precision: in which the candidates' matrix products (drawing and judging them) take their inputs; they
            add up in float32 either way. ``bfloat16`` is faster where the processor has units for it, at an
            error in Q that is measured on the page of the algorithm.
    """

    policy: Count = 16
    gaussian: Count = 32
    points: Count = 1
    noise: Spread = "independent"
    mixing: Literal["ess", "ess_per_candidate", "gaussian", "policy"] = "ess"
    block: Whole = 64
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.points <= self.policy,
            f"proposals.points must be from 1 to proposals.policy = {self.policy}, got {self.points}",
        )


@dataclass(frozen=True)
class TimesConfig(Section):
    """Training times (r, t), see ``flows.times``.

    Attributes:
        mean, std: of the normal below the logistic.
        equal_share: share of rows with r = t.
        grid_share: share of both kinds of rows that covers the sampler's own steps (0: authors). Without it
            the two-step policy comes out far too narrow. From 0 to 1.
        clamp: times drawn off the sampler's grid, and times at which the velocity is estimated, stay in
            [clamp, 1 - clamp]. Above 0, below 0.5.
    """

    mean: float = -0.4
    std: Positive = 1.0
    equal_share: Share = 0.75
    grid_share: Share = 0.5
    clamp: Annotated[float, Range(0, 0.5, low_open=True, high_open=True)] = 1e-3


def _critic() -> CriticConfig:
    return CriticConfig(
        trunk="layernorm",
        head="categorical",
        hidden=(256, 256, 256),
        activation="gelu",
        init="xavier_uniform",
    )


@dataclass(frozen=True)
class MFPOConfig(Section):
    """All of MFPO.

    Attributes:
        discount: gamma.
        soft_backup: subtract alpha log pi from the successor's value.
    """

    discount: Share = 0.99
    soft_backup: bool = True
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    critic: CriticConfig = field(default_factory=_critic)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    times: TimesConfig = field(default_factory=TimesConfig)
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)
