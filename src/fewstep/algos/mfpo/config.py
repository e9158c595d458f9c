"""MFPO's hyper-parameters.

Defaults are the sound choices of docs/algorithms/mfpo.md; the preset ``authors`` restores the authors' where
the two differ.
"""

from dataclasses import dataclass, field
from typing import Literal

from fewstep.algos.temperature import TemperatureConfig
from fewstep.critics.categorical import Twin
from fewstep.errors import require, require_sizes
from fewstep.flows.bounds import Bound
from fewstep.flows.noises import Spread
from fewstep.nets.frozen import Precision


@dataclass(frozen=True)
class ActorConfig:
    """The average-velocity network and the sampler.

    Fields:
        hidden: sizes of the hidden layers, also of the divergence network. One or more, each at least 1.
        time_features: Fourier features of a time, an even number. At least 2.
        time_embed: size that they are embedded to. At least 1.
        learning_rate: of Adam. Above 0.
        steps: T, network evaluations per action. From 1 to 64.
        bound: how actions are kept in [-1, 1]: ``clip`` (authors) or ``tanh`` with the change of density
            accounted for.
        delay: one policy update per this many critic updates. At least 1.
        batch_size: states of the batch used by a policy update; 0 means all. At least 0.
        candidates: N of the native best-of-N evaluation. From 1 to 1024.
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    time_features: int = 128
    time_embed: int = 64
    learning_rate: float = 3e-4
    steps: int = 2
    bound: Bound = "clip"
    delay: int = 1
    batch_size: int = 0
    candidates: int = 10

    def __post_init__(self) -> None:
        require_sizes("actor.hidden", self.hidden)
        require(
            self.time_features >= 2 and self.time_features % 2 == 0,
            "actor.time_features must be even and positive",
        )
        require(self.time_embed >= 1, "actor.time_embed must be at least 1")
        require(self.learning_rate > 0, "actor.learning_rate must be positive")
        require(1 <= self.steps <= 64, f"actor.steps must be from 1 to 64, got {self.steps}")
        require(self.delay >= 1, f"actor.delay must be at least 1, got {self.delay}")
        require(self.batch_size >= 0, "actor.batch_size must not be negative (0 means the whole batch)")
        require(1 <= self.candidates <= 1024, "actor.candidates must be from 1 to 1024")


@dataclass(frozen=True)
class DivergenceConfig:
    """Log-densities of the policy's samples.

    Fields:
        log_prob: ``averaged`` uses the average divergence network (the paper); ``exact`` the log-determinant
            of the T-step map, for at most 8 action dimensions.
        learning_rate: of Adam. Above 0.
        probes: Hutchinson probes per row. At least 1.
        probe: their distribution; ``rademacher`` has the lower variance, ``gaussian`` is the authors'.
    """

    log_prob: Literal["averaged", "exact"] = "averaged"
    learning_rate: float = 3e-4
    probes: int = 2
    probe: Literal["rademacher", "gaussian"] = "rademacher"

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "divergence.learning_rate must be positive")
        require(self.probes >= 1, f"divergence.probes must be at least 1, got {self.probes}")


@dataclass(frozen=True)
class CriticConfig:
    """The twin categorical critics.

    Fields:
        hidden: sizes of the hidden layers. One or more, each at least 1.
        learning_rate: of Adam. Above 0.
        atoms: points of the fixed grid of soft returns. At least 2.
        v_min: lower end of that grid, in reward units; watch ``critic/target_saturated_share``. Below
            ``v_max``.
        v_max: upper end of that grid, in reward units. Above ``v_min``.
        twin: ``min`` bootstraps from the twin with the lower mean and judges candidates by the lower value;
            ``mean`` averages.
        head_init: ``zeros`` starts at the uniform distribution, whose value is the middle of the support;
            ``origin`` at a narrow one around the return 0; ``xavier_uniform`` (authors) with noise of std
            0.04 (v_max - v_min) / 2, thousands of times the temperature.
        tau: Polyak rate of the target critics per update. From 0 to 1.
        entropy_in_target: subtract alpha log pi from the successor's value.
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    learning_rate: float = 3e-4
    atoms: int = 101
    v_min: float = -1600.0
    v_max: float = 1600.0
    twin: Twin = "min"
    head_init: Literal["zeros", "origin", "xavier_uniform"] = "zeros"
    tau: float = 0.005
    entropy_in_target: bool = True

    def __post_init__(self) -> None:
        require_sizes("critic.hidden", self.hidden)
        require(self.learning_rate > 0, "critic.learning_rate must be positive")
        require(self.atoms >= 2, f"critic.atoms must be at least 2, got {self.atoms}")
        require(
            self.v_min < self.v_max,
            f"critic.v_min must be below critic.v_max, got {self.v_min} and {self.v_max}",
        )
        require(0 <= self.tau <= 1, f"critic.tau must be in [0, 1], got {self.tau}")


@dataclass(frozen=True)
class ProposalConfig:
    """Candidates of the importance-sampled velocity.

    Fields:
        policy: K1, candidates per state from the policy. At least 1.
        gaussian: K2, candidates per point from the Gaussian proposal. At least 1.
        points: points (x, t) regressed on per state. They share the state's policy candidates and each is
            noised from another of them, so there may not be more than K1. The rows of a policy update are
            ``points`` times its states (``actor.batch_size``). From 1 to ``policy``.
        noise: of both proposals' candidates; ``stratified`` spreads each state's (or point's) evenly.
        mixing: the two estimates are weighed by ``ess`` (authors) or by ``ess_per_candidate``, ESS / K.
        block: states evaluated together, so that activations stay in the processor's cache; 0 means all at
            once (a GPU). A matter of speed only. On a CPU keep to 2048 Gaussian candidates in a block: at
            4096 XLA hands whole layers to another library, and an update takes 1.5 times as long. At least 0.
        precision: in which the candidates' matrix products (drawing and judging them) take their inputs; they
            add up in float32 either way. ``bfloat16`` is faster where the processor has units for it, at an
            error in Q that is measured on the page of the algorithm.
    """

    policy: int = 16
    gaussian: int = 32
    points: int = 1
    noise: Spread = "independent"
    mixing: Literal["ess", "ess_per_candidate"] = "ess"
    block: int = 64
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        require(self.policy >= 1, f"proposals.policy must be at least 1, got {self.policy}")
        require(self.gaussian >= 1, f"proposals.gaussian must be at least 1, got {self.gaussian}")
        require(
            1 <= self.points <= self.policy,
            f"proposals.points must be from 1 to proposals.policy = {self.policy}, got {self.points}",
        )
        require(self.block >= 0, "proposals.block must not be negative (0 means all states at once)")


@dataclass(frozen=True)
class TimesConfig:
    """Training times (r, t), see ``flows.times``.

    Fields:
        mean: of the normal below the logistic.
        std: of the normal below the logistic. Above 0.
        equal_share: share of rows with r = t. From 0 to 1.
        grid_share: share of both kinds of rows that covers the sampler's own steps (0: authors). Without it
            the two-step policy comes out far too narrow. From 0 to 1.
        clamp: times drawn, and times at which the velocity is estimated, stay in [clamp, 1 - clamp].
            Above 0, below 0.5.
    """

    mean: float = -0.4
    std: float = 1.0
    equal_share: float = 0.75
    grid_share: float = 0.5
    clamp: float = 1e-3

    def __post_init__(self) -> None:
        require(self.std > 0, "times.std must be positive")
        require(0 <= self.equal_share <= 1, f"times.equal_share must be in [0, 1], got {self.equal_share}")
        require(0 <= self.grid_share <= 1, f"times.grid_share must be in [0, 1], got {self.grid_share}")
        require(0 < self.clamp < 0.5, f"times.clamp must be in (0, 0.5), got {self.clamp}")


@dataclass(frozen=True)
class MFPOConfig:
    """All of MFPO.

    Fields:
        discount: gamma. From 0 to 1.
    """

    discount: float = 0.99
    actor: ActorConfig = field(default_factory=ActorConfig)
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    times: TimesConfig = field(default_factory=TimesConfig)
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)

    def __post_init__(self) -> None:
        require(0 <= self.discount <= 1, f"discount must be in [0, 1], got {self.discount}")
