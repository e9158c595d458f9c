"""The training of one run on the device, under the same loop as ``training.trainer``.

Iterations are dispatched together up to the next moment at which the run has something to do (a row of
metrics, an evaluation, a checkpoint), so the host is asked once per ``training.log_every`` steps.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from fewstep import envs
from fewstep.algos import numerics
from fewstep.algos.contract import Algorithm
from fewstep.config import RunConfig
from fewstep.errors import FewstepError, NonFiniteError, UsageError
from fewstep.runs.checkpoint import Checkpoint, Group
from fewstep.runs.segments import Part, Rows
from fewstep.training import donation, seeds, state_io
from fewstep.training.collect.experience import Replay, first_update
from fewstep.training.device import env as device_env
from fewstep.training.device import loop, ring
from fewstep.training.learner import Learner
from fewstep.training.trainer import Trainer, refuse_other_run, sizes
from fewstep.types import EnvInfo, Spec, Transition


class DeviceTrainer:
    """What ``Trainer`` is to a run, with environments and replay buffer on the device.

    Attributes:
        learner: the state and its metrics; it neither acts nor learns itself.
        envs: one environment of the same task on the host, for what is known of it (names, sizes, toys).
        dataset: None: there are no recorded episodes.
    """

    dataset = None

    def __init__(self, config: RunConfig, algorithm: Algorithm, host: Any = None) -> None:
        """The config has a ``training.device_env``; ``host`` builds the host's environment where
        ``config.env`` is only what it is called.

        Raises:
            UsageError: there is no such environment, or it is not one of the sizes of ``config.env``.
        """
        name = config.training.device_env
        assert name is not None
        env = device_env.load(name)
        self.config, self.algorithm = config, algorithm
        self.envs = envs.make(config.env if host is None else host, 1)
        self.spec = self.envs.spec
        try:
            if self.spec != env.spec:
                raise UsageError(
                    f"training.device_env={name} has {env.spec}, but {config.env} has {self.spec}: they must "
                    "be the same task"
                )
            cfg, count = config.algorithm, config.training.envs
            example = Replay(
                replace(cfg.replay, capacity=max(cfg.replay.batch_size, count)),
                count,
                self.spec,
                config.seed,
                numbered=algorithm.numbered,
            ).example()
            self.learner = Learner(algorithm, cfg, self.spec, config.seed, example)
            self._run = loop.run(algorithm, cfg, env, count)
            self._key = seeds.key(config.seed, seeds.Stream.DEVICE)
            self._episodes = loop.begin(env, count)(seeds.fold_in(self._key, loop.SOUND))
            self._memory = _empty(cfg.replay.capacity, self.spec)
        except BaseException:
            self.envs.close()
            raise
        self._iterations = self._began = self._finished = 0
        self._stored: list[Part] = []

    @cached_property
    def info(self) -> EnvInfo:
        """What a saved policy keeps of the environment."""
        return replace(self.envs.info, env=self.config.env)

    @property
    def env_steps(self) -> int:
        """Environment steps taken, over all environments."""
        return self._iterations * self.config.training.envs

    @property
    def updates(self) -> int:
        """Updates done."""
        return self.learner.updates

    @property
    def clock(self) -> int:
        """What a run's duties are timed by: the environment steps taken."""
        return self.env_steps

    @property
    def progress(self) -> str:
        """How far the run is, in words."""
        return f"step {self.env_steps:,}"

    @property
    def episodes(self) -> int:
        """Episodes finished."""
        return self._finished + int(self._episodes.ended)

    @property
    def largest_reward(self) -> float:
        """The largest size of a reward so far."""
        return float(self._episodes.largest_reward)

    @property
    def policy(self) -> Any:
        """The pytree that can act now (valid until the next ``advance``)."""
        return self.learner.policy

    def first_update(self) -> tuple[int, str]:
        """The step before which no update can happen, and what it is that decides it."""
        began = self._began * self.config.training.envs
        return first_update(self.config.algorithm.replay.learning_starts, began)

    def advance(self, iterations: int | None = None) -> None:
        """Iterations in one dispatch: so many, or as many as there are to the next thing that is due.

        Raises:
            NonFiniteError: the environment gave a number that is not finite.
            FewstepError: the device failed; the state is lost.
        """
        stop = self._iterations + (iterations or self._until_due())
        state, totals = self.learner.lend()
        carry = loop.Carry(state, totals, self._memory, self._episodes)
        try:
            after = self._run(carry, self._key, self._began, self._iterations, stop)
            jax.block_until_ready(after)
        except BaseException as error:
            gone = donation.is_gone(carry)
            self.learner.take_back(state, totals)
            if gone:
                self.learner.lose(error)
            told = donation.explained(error, gone)
            if told is not None:
                raise told from error
            raise
        self.learner.take_back(after.state, after.totals)
        self._memory, self._episodes = after.memory, after.episodes
        self.learner.count(self._updates(stop) - self._updates(self._iterations))
        self._iterations = stop
        self._require_sound()

    def _require_sound(self) -> None:
        """Raise NonFiniteError if the environment has given a number that is not finite."""
        first = int(self._episodes.unsound)
        if first != loop.SOUND:
            raise NonFiniteError(
                f"{self.config.training.device_env} gave an observation or reward that is not finite at step "
                f"{(first + 1) * self.config.training.envs:,}"
            )

    def _until_due(self) -> int:
        """Iterations to the next row of metrics, evaluation, checkpoint or the end."""
        training, steps = self.config.training, self.env_steps
        every = (training.log_every, training.eval_every, training.checkpoint_every)
        ahead = [each - steps % each for each in every if each]
        if training.steps > steps:
            ahead.append(training.steps - steps)
        return -(-min(ahead) // training.envs)

    def _updates(self, iterations: int) -> int:
        """Updates that belong to the first ``iterations``, those before the replay buffer began left out."""
        replay, count = self.config.algorithm.replay, self.config.training.envs
        warm_up = -(-replay.learning_starts // count) - 1  # iterations without updates
        learning = max(0, iterations - self._began - max(0, warm_up))
        return learning * replay.updates_per_iteration(count)

    @contextmanager
    def lent(self) -> Generator[None]:
        """None: evaluation has environments of its own, on the host."""
        yield None

    def interval(self) -> dict[str, Any]:
        """As ``Trainer.interval``."""
        ended = int(self._episodes.ended)
        mean = {name: float(getattr(self._episodes, name)) / max(1, ended) for name in SUMS}
        row = {
            "env_steps": self.env_steps,
            "updates": self.updates,
            "episodes": self.episodes,
            "episode_return": mean["return_sum"] if ended else None,
            "episode_length": mean["length_sum"] if ended else None,
            **self.learner.take_means(),
        }
        self._finished += ended
        zeros = {name: jnp.zeros_like(getattr(self._episodes, name)) for name in ("ended", *SUMS)}
        self._episodes = self._episodes._replace(**zeros)
        return row

    def snapshot(self, experience: bool = True) -> tuple[dict[str, Group], dict[str, Any]]:
        """What a resume needs: arrays by group, and JSON values. ``experience`` False leaves the data out.

        Raises:
            NonFiniteError: the data hold what is not finite.
        """
        self._require_sound()
        state, counters = self.learner.snapshot()
        groups: dict[str, Group] = {"state": state, "episodes": state_io.to_arrays(self._episodes)}
        meta = {
            "algo": self.config.algo,
            "env": self.config.env,
            "device_env": self.config.training.device_env,
            "sizes": sizes(self.spec),
            "iterations": self._iterations,
            "finished": self._finished,
            "began": self._began,
            **counters,
        }
        if experience:
            fields, added = ring.on_host(self._memory), self._added
            start = max(0, added - len(fields["reward"]))
            groups["replay"] = Rows(start, added, lambda a, b: ring.read(fields, a, b), self._stored)
        return groups, meta

    @property
    def _added(self) -> int:
        """Transitions ever added to the replay buffer."""
        return (self._iterations - self._began) * self.config.training.envs

    def restore(self, saved: Checkpoint) -> list[str]:
        """Take over a snapshot; nothing is ever abandoned, so there is nothing to say.

        A checkpoint without a replay buffer starts with an empty one: updates begin again once
        ``replay.learning_starts`` new steps are in it.

        Raises:
            FewstepError: the checkpoint is of another run's kind or size.
        """
        try:
            self._restore(saved)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise FewstepError(f"checkpoint {saved.env_steps} does not make sense: {reason}") from error
        return []

    @numerics.own
    def _restore(self, saved: Checkpoint) -> None:
        meta, what = saved.meta, f"checkpoint {saved.env_steps}"
        own = {"algo": self.config.algo, "env": self.config.env}
        refuse_other_run(meta, own | {"device_env": self.config.training.device_env}, self.spec)
        self.learner.restore(saved.groups["state"], meta, what)
        self._episodes = state_io.from_arrays(self._episodes, saved.groups["episodes"], what)
        self._iterations, self._finished = int(meta["iterations"]), int(meta["finished"])
        rows = saved.groups.get("replay")
        if rows is None:
            self._began, self._stored = self._iterations, []
            return
        self._began = int(meta["began"])
        capacity = self.config.algorithm.replay.capacity
        if not isinstance(rows, Rows) or rows.stop != self._added:
            raise FewstepError(f"{what} has a replay buffer of another run")
        if rows.start != max(0, rows.stop - capacity):
            raise FewstepError(
                f"{what} holds transitions {rows.start} to {rows.stop}, replay.capacity is {capacity}"
            )
        self._memory, self._stored = ring.refilled(self._memory, rows.pieces()), list(rows.stored)

    def close(self) -> None:
        """Close the environment on the host."""
        self.envs.close()


def _empty(capacity: int, spec: Spec) -> Transition:
    try:
        return jax.block_until_ready(ring.empty(capacity, spec))
    except donation.FAILURES as error:
        size = 4e-9 * capacity * (2 * spec.obs_size + spec.act_size + 1)
        raise UsageError(
            f"a replay buffer of {capacity:,} transitions needs {size:.1f} GB on the device, more than there "
            "is; choose a smaller replay.capacity"
        ) from error


SUMS = ("return_sum", "length_sum")
AnyTrainer = Trainer | DeviceTrainer


def make(config: RunConfig, algorithm: Algorithm, env: Any = None) -> AnyTrainer:
    """The kind of trainer that the config asks for (``training.device_env``).

    ``env`` builds the host's environments where ``config.env`` is only what they are called.
    """
    kind = Trainer if config.training.device_env is None else DeviceTrainer
    return kind(config, algorithm, env)
