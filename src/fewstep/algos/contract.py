"""What an algorithm gives to the rest of the house: a config and some functions. There is no base class.

Everything outside ``algos`` (training loop, evaluation, export, the contract tests) sees an algorithm only
through this record, so a new algorithm is one file, one preset folder, one docs page and one registry line.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import jax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from fewstep.errors import UsageError
from fewstep.types import Spec

Metrics = dict[str, Float[Array, ""]]
"""Scalars of one update, named ``group/quantity`` (``critic/loss``, ``policy/entropy``)."""


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


S = TypeVar("S", bound=Keyed)


def use_key(state: Keyed, use: int) -> PRNGKeyArray:
    """The random key of one use in the current update: no two uses and no two updates share one."""
    return jax.random.fold_in(jax.random.fold_in(state.key, use), state.updates)


def every(delay: int, state: S, step: Callable[[S], S]) -> S:
    """``step(state)`` at every ``delay``-th update, from the first on; the state as it is at the others.

    A condition on the count of updates, so what is skipped is not computed. ``delay`` is at least 1.
    """
    if delay == 1:
        return step(state)
    return lax.cond(state.updates % delay == 0, step, lambda same: same, state)


@dataclass(frozen=True)
class ActionMode:
    """How an action is chosen from a stochastic policy.

    ``candidates`` actions are drawn and the one the critics like best is taken (1: a plain sample).
    ``noise_free`` replaces every random draw of the sampler by its centre.
    """

    candidates: int = 1
    noise_free: bool = False


def plain_sample(cfg: Any) -> ActionMode:
    """One draw of the policy, whatever the config: the usual way to collect experience."""
    return ActionMode()


@dataclass(frozen=True)
class Algorithm:
    """One algorithm.

    Fields:
        name: what the command line calls it.
        title: one line for lists and reports.
        config: frozen dataclass of hyper-parameters; nested frozen dataclasses are its sections.
        init: ``(cfg, spec, key) -> State``. A frozen pytree, every leaf an array. ``State.updates`` is the
            int32 count of updates done; ``State.key`` is the root key, constant for the run.
        update: ``(cfg, state, data) -> (state, metrics)``, pure and jittable. ``data`` is what ``rollout``
            says. Its randomness is addressed by ``state.key`` and ``state.updates``.
        policy: ``state -> Policy``, the smallest pytree that can act (critics included where selection needs
            them).
        act: ``(cfg, policy, obs[B, obs_size], key, mode) -> action[B, act_size]`` in [-1, 1]; ``mode`` is
            static. Evaluation, prediction and export know nothing else.
        native: the mode the paper evaluates with.
        citation: BibTeX.
        behaviour: the mode that experience is collected with, a plain sample unless the algorithm says
            otherwise.
        rollout: what an update eats. None: a batch from the replay buffer, a ``Transition`` with one leading
            axis B. Otherwise ``cfg -> T``: a ``Rollout`` of T steps of each of the N environments, collected
            by the policy of the state it is given with, each step eaten once; one update is then all that is
            learned from it. Such an algorithm's config names in ``UNUSED`` the settings of the loop that
            decide nothing for it (``config.known_settings``).
        collect: ``(cfg, policy, obs[B, obs_size], key) -> action[B, act_size]``, finite, in place of ``act``
            while experience is collected. It may go beyond [-1, 1]: environments clip, and what is stored is
            what was drawn, for an algorithm that needs its density. Clipped, it is ``act`` in the mode
            ``behaviour``. None: it is ``act`` itself.
        ranks: whether it can tell the better of several candidate actions; without, there is no best-of-N.
        source: ``module:ATTRIBUTE`` of a record of the user's own, filled in when it is loaded: such an
            algorithm is held to this contract when a run begins. None for those of fewstep.
    """

    name: str
    title: str
    config: type
    init: Callable[[Any, Spec, PRNGKeyArray], Any]
    update: Callable[[Any, Any, Any], tuple[Any, Metrics]]
    policy: Callable[[Any], Any]
    act: Callable[[Any, Any, jax.Array, PRNGKeyArray, ActionMode], jax.Array]
    native: Callable[[Any], ActionMode]
    citation: str
    behaviour: Callable[[Any], ActionMode] = plain_sample
    rollout: Callable[[Any], int] | None = None
    collect: Callable[[Any, Any, jax.Array, PRNGKeyArray], jax.Array] | None = None
    ranks: bool = True
    source: str | None = None

    def mode(self, cfg: Any, text: str) -> ActionMode:
        """The mode that the user calls ``text`` (``parse_mode``).

        Raises:
            UsageError: there is none of that name, or not for this algorithm.
        """
        mode = parse_mode(text, self.native(cfg))
        if mode.candidates > 1 and not self.ranks:
            raise UsageError(
                f"{self.name} has no action values to choose by, so there is no {mode_name(mode)}; "
                "use native, sample or mode"
            )
        return mode


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
