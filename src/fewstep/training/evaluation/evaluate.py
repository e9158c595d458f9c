"""Judging a policy: whole episodes with seeds and keys of their own; training never notices."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewstep import envs, foreign
from fewstep.algos.contract import ActionMode, Algorithm, mode_name
from fewstep.config import RunConfig
from fewstep.data import Folder, Tape
from fewstep.envs.interface import Interface
from fewstep.envs.registry import has_peaks, resolve
from fewstep.errors import FewstepError, NonFiniteError, UsageError, shown
from fewstep.training import seeds
from fewstep.training.acting import Acting, bind
from fewstep.training.signals import Check, never
from fewstep.types import EnvInfo

Row = dict[str, Any]
Watch = Callable[[envs.VectorEnv, np.ndarray], None]
"""Called after the reset and after each step with the environments and which of them have just moved."""


@dataclass(frozen=True)
class Rollout:
    """Episodes, one entry each.

    Attributes:
        returns, lengths: what they gave in how many steps.
        cut: True where the episode had not ended when it was cut, so that its return is not a whole one.
        success: 1 where the environment said at any step that the task has succeeded, 0 where it said only
            that it has not, NaN where it said nothing.
        peaks: highest reward of a step.
    """

    returns: np.ndarray
    lengths: np.ndarray
    cut: np.ndarray
    success: np.ndarray
    peaks: np.ndarray


def rollout(
    vector: envs.VectorEnv,
    act: Acting,
    episode_seeds: Sequence[int],
    longest: int,
    check: Check = never,
    watch: Watch | None = None,
    tapes: Sequence[Tape] = (),
) -> Rollout:
    """Play one episode of at most ``longest`` steps on every environment, side by side; the finished ones
    wait for the rest. ``tapes``, one per episode or none, record them."""
    obs = vector.reset(episode_seeds)
    running = np.ones(vector.count, bool)
    for tape, first in zip(tapes, obs, strict=False):
        tape.begin(first)
    returns, lengths = np.zeros(vector.count), np.zeros(vector.count, np.int64)
    success, peaks = np.full(vector.count, np.nan), np.full(vector.count, -np.inf)
    if watch:
        watch(vector, running)
    for step in range(longest):
        if not running.any():
            break
        check()
        actions = act(obs, step)
        result = vector.step(actions, running)
        returns += result.reward  # zero for those that have finished
        lengths += running
        success = np.fmax(success, result.success)
        peaks = np.where(running, np.maximum(peaks, result.reward), peaks)
        for index in np.flatnonzero(running).tolist() if tapes else ():
            ended = result.terminated[index]
            tapes[index].step(actions[index], result.reward[index], ended, result.obs[index])
        if watch:
            watch(vector, running)
        running = running & ~(result.terminated | result.truncated)
        obs = result.obs
    return Rollout(returns, lengths, running, success, peaks)


def in_turn(
    vector: envs.VectorEnv,
    act: Acting,
    episode_seeds: Sequence[int],
    longest: int,
    check: Check = never,
    watch: None = None,
    tapes: Sequence[Tape] = (),
) -> Rollout:
    """The episodes of ``rollout``, with the same draws, one after another on the first environment alone."""
    count = len(episode_seeds)
    first = np.arange(vector.count) == 0
    returns, lengths = np.zeros(count), np.zeros(count, np.int64)
    running, success, peaks = np.ones(count, bool), np.full(count, np.nan), np.full(count, -np.inf)
    # The policy sees as many rows as side by side, so that row n gets the draws of episode n.
    obs = np.zeros((count, vector.spec.obs_size), np.float32)
    for episode, seed in enumerate(episode_seeds):
        obs[episode] = vector.reset([seed] * vector.count, first)[0]
        if tapes:
            tapes[episode].begin(obs[episode])
        while running[episode] and lengths[episode] < longest:
            check()
            actions = act(obs, int(lengths[episode]))
            result = vector.step(np.tile(actions[episode], (vector.count, 1)), first)
            if result.lost[0]:  # its process was replaced: the episode begins anew
                returns[episode], lengths[episode], success[episode] = 0.0, 0, np.nan
                peaks[episode] = -np.inf
                obs[episode] = vector.reset([seed] * vector.count, first)[0]
                if tapes:
                    tapes[episode].begin(obs[episode])
                continue
            returns[episode] += result.reward[0]
            lengths[episode] += 1
            success[episode] = np.fmax(success[episode], result.success[0])
            peaks[episode] = max(peaks[episode], result.reward[0])
            running[episode] = not (result.terminated[0] or result.truncated[0])
            obs[episode] = result.obs[0]
            if tapes:
                tapes[episode].step(actions[episode], result.reward[0], result.terminated[0], obs[episode])
    return Rollout(returns, lengths, running, success, peaks)


class Unfit(UsageError):
    """An environment is not one that the policy was made for."""


def require_fit(found: EnvInfo, wanted: EnvInfo) -> None:
    """Raise ``Unfit`` unless an environment has the sizes and bounds of the one a policy was made for."""
    for what, own, other in (
        ("observations of {} numbers", len(wanted.obs_names), len(found.obs_names)),
        ("actions of {} numbers", len(wanted.low), len(found.low)),
        ("actions from {}", list(wanted.low), list(found.low)),
        ("actions to {}", list(wanted.high), list(found.high)),
    ):
        if own != other:
            made_for = f"the policy was made for {wanted.env}, {what.format(shown(own))}"
            raise Unfit(f"{made_for}; {found.env} has {shown(other)}")


class Evaluator:
    """Evaluates policies of one algorithm on one environment, always on the same episodes.

    Its environments are built at the first use and kept.

    Attributes:
        elsewhere: whether it never plays on the environments of training.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        cfg: Any,
        env: Any,
        *,
        episodes: int,
        modes: Sequence[str],
        seed: int,
        max_episode_steps: int | None = None,
        action_repeat: int = 1,
        longest: int | None = None,
        shared: bool = False,
        timeout: float | None = None,
        beside: envs.VectorEnv | None = None,
        elsewhere: bool = False,
        info: EnvInfo | None = None,
    ) -> None:
        """Args:
        algorithm, cfg: what the policy belongs to.
        env: environment id, a function that builds one, or one itself, which is then ``shared``.
        episodes: episodes per evaluation and mode.
        modes: how actions are chosen, as the user types it; two names of one mode count once.
        seed: decides the episodes and the policy's draws.
        max_episode_steps, action_repeat: as in training.
        longest: steps after which an episode is cut (``training.eval_max_steps``).
        shared: play the episodes one after another on one environment.
        timeout: seconds that a reset or step may take; the environments then live in another process.
        beside: those of training, which must not be among its own.
        elsewhere: never play on those of training.
        info: what the policy was made for: environments must have these sizes and bounds.
        """
        self._modes = list(dict.fromkeys(algorithm.mode(cfg, text) for text in modes))
        self._algorithm, self._cfg, self._env = algorithm, cfg, env
        self._limit, self._repeat, self._longest = max_episode_steps, action_repeat, longest
        self._shared, self._timeout = shared or envs.is_lent(env), timeout
        self._beside, self.elsewhere, self._info = beside, elsewhere, info
        self._told = False
        self._seeds = seeds.evaluation_seeds(seed, episodes)
        self._key = seeds.key(seed, seeds.Stream.EVALUATE)
        self._vector: envs.VectorEnv | None = None

    @staticmethod
    def of(
        config: RunConfig,
        algorithm: Algorithm,
        env: Any = None,
        beside: envs.VectorEnv | None = None,
        elsewhere: bool = False,
        info: EnvInfo | None = None,
    ) -> "Evaluator":
        """What evaluates as a config says; ``env`` builds environments that ``config.env`` only names, or
        (``elsewhere``) is another one, which must have the sizes and bounds of ``info``."""
        training = config.training
        return Evaluator(
            algorithm,
            config.algorithm,
            config.env if env is None else env,
            episodes=training.eval_episodes,
            modes=training.eval_modes,
            seed=config.seed,
            max_episode_steps=training.max_episode_steps,
            action_repeat=training.action_repeat,
            longest=training.eval_max_steps,
            shared=training.eval_env == "shared" and not elsewhere,
            timeout=training.env_timeout if training.env_process else None,
            beside=beside,
            elsewhere=elsewhere,
            info=info,
        )

    def evaluate(
        self,
        policy: Any,
        env_steps: int,
        updates: int,
        check: Check = never,
        on: envs.VectorEnv | None = None,
        keep: Folder | None = None,
    ) -> list[Row]:
        """One row of ``evaluations.jsonl`` per action mode.

        Args:
            policy: what acts.
            env_steps, updates: how long it has learned; ``env_steps`` also addresses its draws.
            check: called at every step.
            on: where it is played if ``shared``; without it on an environment of its own.
            keep: where the episodes are written, ``MODE-00000.npz``.
        """
        vector = on or self._own()
        if not self._told and vector.max_episode_steps is None and vector.toy is None:
            foreign.tell(
                f"{vector.env_id} declares no time limit: evaluation episodes that have not ended are cut at "
                f"{vector.longest_episode(self._longest):,} steps (training.eval_max_steps), and in training "
                "an episode has a return only once it ends; training.max_episode_steps sets a limit for both"
            )
            self._told = True
        return [self._evaluate(vector, policy, mode, env_steps, updates, check, keep) for mode in self._modes]

    def _evaluate(
        self,
        vector: envs.VectorEnv,
        policy: Any,
        mode: ActionMode,
        env_steps: int,
        updates: int,
        check: Check,
        keep: Folder | None,
    ) -> Row:
        began = time.monotonic()
        key = seeds.fold_in(self._key, env_steps)
        act = bind(self._algorithm, self._cfg, vector.spec, mode, policy, key)
        play = in_turn if self._shared else rollout
        longest = vector.longest_episode(self._longest)
        tapes = [] if keep is None else [Tape() for _ in self._seeds]
        played = play(vector, act, self._seeds, longest, check, None, tapes)
        if keep is not None:
            interface = Interface(vector)
            for number, tape in enumerate(tapes):
                keep.write(f"{mode_name(mode)}-{number:05d}", tape.episode(interface))
        said = ~np.isnan(played.success)
        success = {"success": np.where(said, played.success, 0.0).astype(int).tolist()} if said.any() else {}
        return {
            "env_steps": env_steps,
            "updates": updates,
            "actions": mode_name(mode),
            "returns": played.returns.tolist(),
            "lengths": played.lengths.tolist(),
            "cut": played.cut.tolist(),
            **success,
            **({"peaks": played.peaks.tolist()} if has_peaks(self._env) else {}),
            "seeds": self._seeds,
            "wall_seconds": round(time.monotonic() - began, 3),
        }

    def _own(self) -> envs.VectorEnv:
        if self._vector is None:
            self._vector = self._build(1 if self._shared else len(self._seeds))
        return self._vector

    def _build(self, count: int) -> envs.VectorEnv:
        """``count`` environments that can be reset, beside those that there are."""
        watch = None if self._timeout is None else envs.Supervision(self._timeout, per_process=count)
        for one in envs.several(self._env):
            resolve(one)
        made = None
        try:
            made = envs.make(
                self._env, count, max_episode_steps=self._limit, action_repeat=self._repeat, watch=watch
            )
            if self._beside is not None and made.shares(self._beside):
                made = None  # it is training's, and stays open
                raise UsageError(
                    "evaluation would be on the environment that is trained on: a function must build a new "
                    "one at each call; an environment itself is evaluated on in turn if no other is given"
                )
            if self._info is not None:
                require_fit(made.info, self._info)
            made.reset(self._seeds[:count])
            return made
        except FewstepError as error:
            if made is not None:
                made.close()
            if self._shared or isinstance(error, NonFiniteError | Unfit):
                raise
            raise type(error)(f"no environment for evaluation: {error}; {SHARED}") from error

    def try_another(self) -> None:
        """Build one environment beside those that there are, and close it again.

        Raises:
            FewstepError: that cannot be done, so evaluation could not either.
        """
        if self._shared and self.elsewhere:
            self._own()
        elif not self._shared:
            with foreign.heard_by(lambda line: None):  # a close that fails is said of those that are used
                self._build(1).close()

    def close(self) -> None:
        """Close its environments."""
        if self._vector is not None:
            self._vector.close()


SHARED = (
    "where only one can exist at a time, training.eval_env=shared evaluates on the training environment (in "
    "a run or model that exists: its config.toml)"
)
