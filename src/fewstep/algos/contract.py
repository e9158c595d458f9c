"""What an algorithm gives to the rest of the library: a config and some functions. There is no base class.

Everything outside ``algos`` (training loop, evaluation, export, the contract tests) sees an algorithm only
through this record. How to write one: docs/adding-an-algorithm.md.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import TypeVar

from fewstep.errors import UsageError
from fewstep.types import Spec

Metrics = dict[str, Float[Array, ""]]
"""Scalars of one update, named ``group/quantity`` (``critic/loss``, ``policy/entropy``)."""
Obs = Float[Array, "obs"]
Vector = Float[Array, "act"]
Noise = Float[Array, "*noise"]
QFunction = Callable[[Obs, Vector], Float[Array, ""]]
"""Value of one action in one state, in reward units."""


class Keyed(Protocol):
    """A training state as far as its random streams go."""

    @property
    def key(self) -> PRNGKeyArray:
        """The root key, constant for the run."""
        ...

    @property
    def updates(self) -> Int[Array, ""]:
        """Updates done."""
        ...


def use_key(state: Keyed, use: int) -> PRNGKeyArray:
    """The random key of one use in the current update: no two uses and no two updates share one."""
    return jax.random.fold_in(jax.random.fold_in(state.key, use), state.updates)


@dataclass(frozen=True)
class ActionMode:
    """How an action is chosen from a stochastic policy.

    Attributes:
        candidates: actions drawn, of which the one with the highest value is taken (best-of-N; 1: a sample).
        noise_free: every random draw of the sampler is replaced by its centre.
    """

    candidates: int = 1
    noise_free: bool = False


def plain_sample(cfg: Any) -> ActionMode:
    """One draw of the policy, whatever the config: the usual way to collect experience."""
    return ActionMode()


Config = TypeVar("Config", default=Any)
State = TypeVar("State", bound=Keyed, default=Any)
Policy = TypeVar("Policy", default=Any)


@dataclass(frozen=True)
class Algorithm(Generic[Config, State, Policy]):
    """One algorithm; plain ``Algorithm`` is the type of any.

    Attributes:
        name: what the command line calls it.
        title: one line for lists and reports.
        config: frozen dataclass of hyper-parameters; nested frozen dataclasses are its sections.
        init: ``(cfg, spec, key) -> State``. A frozen pytree, every leaf an array. ``State.updates`` is the
            int32 count of updates done; ``State.key`` is the root key, constant for the run.
        update: ``(cfg, state, data) -> (state, metrics)``, pure and jittable. ``data`` is what ``rollout``
            says. Its randomness is addressed by ``state.key`` and ``state.updates``.
        policy: ``state -> Policy``, the smallest pytree that can act (critics included where selection needs
            them). It is what is evaluated, saved and exported.
        noise: ``(cfg, policy) -> shape`` of the standard normal noise that one action is made from; ``(0,)``
            for a deterministic policy. Only the shapes of the policy's leaves may be looked at.
        draw: ``(cfg, policy, obs[obs_size], noise) -> action[act_size]``, one action of one state,
            deterministic. Acting in every mode, evaluation and export follow from it. It may lie outside
            [-1, 1]: acting clips it, and so does the replay buffer; a rollout keeps what was drawn, for an
            algorithm that needs its density.
        native: the mode the paper evaluates with.
        citation: BibTeX.
        value: ``(cfg, policy) -> QFunction`` by which best-of-N chooses. None: there is no best-of-N.
        behaviour: the mode that experience is collected with, a plain sample unless the algorithm says
            otherwise.
        collector: ``state -> Policy``, what collects experience where that is another than ``policy`` (whose
            parameters may be averages). Of the same shapes. None: ``policy``.
        explore: ``(cfg, policy, action[act_size], noise[act_size]) -> action[act_size]``: what is done to an
            action while experience is collected, and only then, with standard normal noise. None: nothing.
        rollout: what an update eats. None: a batch from the replay buffer, a ``Transition`` with one leading
            axis B, whose ``discount`` stands in the place of gamma where it has one (``Critics.fit`` sees to
            it). Otherwise ``cfg -> T``: a ``Rollout`` of T steps of each of the N environments, collected
            by the policy of the state it is given with, each step eaten once; one update is then all that is
            learned from it. The config of an algorithm without it has the section ``replay``
            (``config.ReplayConfig``), and ``discount``.
        numbered: whether batches come with the number of each transition (``Transition.number``), for an
            algorithm that keeps something of its own for each, such as improved actions
            (``shared.action_memory``).
        images: whether its networks take image observations (``Spec.image``): every network that sees one
            has an encoder (``nets.encoder``).
        tiny: settings that make networks and samples as small as they can be, for tests.
        source: ``module:ATTRIBUTE`` of a record of the user's own, filled in when it is loaded: such an
            algorithm is held to this contract when a run begins. None for those of fewstep.
    """

    name: str
    title: str
    config: type[Config]
    init: Callable[[Config, Spec, PRNGKeyArray], State]
    update: Callable[[Config, State, Any], tuple[State, Metrics]]
    policy: Callable[[State], Policy]
    noise: Callable[[Config, Policy], tuple[int, ...]]
    draw: Callable[[Config, Policy, Obs, Noise], Vector]
    native: Callable[[Config], ActionMode]
    citation: str
    value: Callable[[Config, Policy], QFunction] | None = None
    behaviour: Callable[[Config], ActionMode] = plain_sample
    collector: Callable[[State], Policy] | None = None
    explore: Callable[[Config, Policy, Vector, Vector], Vector] | None = None
    rollout: Callable[[Config], int] | None = None
    numbered: bool = False
    images: bool = False
    tiny: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    source: str | None = None

    def collecting(self, state: State) -> Policy:
        """The policy that collects experience: ``collector``'s, where there is one, else ``policy``'s."""
        return self.policy(state) if self.collector is None else self.collector(state)

    def act(
        self,
        cfg: Config,
        policy: Policy,
        obs: Float[Array, "batch obs"],
        key: PRNGKeyArray,
        mode: ActionMode,
    ) -> Float[Array, "batch act"]:
        """Actions in [-1, 1] for a batch, chosen in the mode ``mode`` (static)."""
        return jnp.clip(self.chosen(cfg, policy, obs, self._noise(cfg, policy, obs, key, mode)), -1.0, 1.0)

    def collect(
        self, cfg: Config, policy: Policy, obs: Float[Array, "batch obs"], key: PRNGKeyArray
    ) -> Float[Array, "batch act"]:
        """Actions to collect experience with, as they are stored: in [-1, 1] for the replay buffer, as they
        were drawn for a rollout (environments clip them)."""
        mode = self.behaviour(cfg)
        actions = self.chosen(cfg, policy, obs, self._noise(cfg, policy, obs, key, mode))
        explore = self.explore
        if explore is not None:
            noise = jax.random.normal(jax.random.fold_in(key, 1), actions.shape)
            actions = jax.vmap(lambda a, e: explore(cfg, policy, a, e))(actions, noise)
        return jnp.clip(actions, -1.0, 1.0) if self.rollout is None else actions

    def _noise(
        self, cfg: Config, policy: Policy, obs: Float[Array, "batch obs"], key: PRNGKeyArray, mode: ActionMode
    ) -> Float[Array, "batch N *noise"]:
        shape = (obs.shape[0], mode.candidates, *self.noise(cfg, policy))
        return jnp.zeros(shape) if mode.noise_free else jax.random.normal(key, shape)

    def chosen(
        self,
        cfg: Config,
        policy: Policy,
        obs: Float[Array, "batch obs"],
        noise: Float[Array, "batch N *noise"],
    ) -> Float[Array, "batch act"]:
        """Actions for a batch as they are drawn from the given noise; of several noises the best action's."""
        if noise.shape[1] == 1:
            return jax.vmap(lambda s, e: self.draw(cfg, policy, s, e[0]))(obs, noise)
        if self.value is None:
            raise self._no_best_of(ActionMode(candidates=noise.shape[1]))
        q = self.value(cfg, policy)

        def best(s: Obs, each: Float[Array, "N *noise"]) -> Vector:
            actions = jnp.clip(jax.vmap(lambda e: self.draw(cfg, policy, s, e))(each), -1.0, 1.0)
            return actions[jnp.argmax(jax.vmap(lambda a: q(s, a))(actions))]

        return jax.vmap(best)(obs, noise)

    def mode(self, cfg: Config, text: str) -> ActionMode:
        """The mode that the user calls ``text`` (``parse_mode``).

        Raises:
            UsageError: there is none of that name, or not for this algorithm.
        """
        mode = parse_mode(text, self.native(cfg))
        if mode.candidates > 1 and self.value is None:
            raise self._no_best_of(mode)
        return mode

    def _no_best_of(self, mode: ActionMode) -> UsageError:
        return UsageError(
            f"{self.name} has no action values to choose by, so there is no {mode_name(mode)}; "
            "use native, sample or mode"
        )


def parse_mode(text: str, native: ActionMode) -> ActionMode:
    """Read ``native``, ``sample``, ``mode`` or ``best-of-N`` (N from 1 to 1024) as the user types them."""
    if text == "native":
        return native
    if text == "sample":
        return ActionMode()
    if text == "mode":
        return ActionMode(noise_free=True)
    match = re.fullmatch(r"best-of-(\d{1,4})", text)
    if match and 1 <= int(match[1]) <= 1024:
        return ActionMode(candidates=int(match[1]))
    raise UsageError(
        f"unknown action mode {text!r}; use native, sample, mode or best-of-N with N from 1 to 1024"
    )


def mode_name(mode: ActionMode) -> str:
    """The inverse of ``parse_mode`` (``native`` comes back as what it stands for)."""
    if mode.noise_free:
        return "mode"
    return "sample" if mode.candidates == 1 else f"best-of-{mode.candidates}"
