"""One run's three parts at work: episodes give steps, experience keeps them, the learner acts and learns."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep import data, envs, foreign
from fewstep.algos.contract import Algorithm
from fewstep.config import RunConfig
from fewstep.envs.interface import Interface
from fewstep.errors import FewstepError, UsageError
from fewstep.runs.checkpoint import Checkpoint, Group
from fewstep.training.collect import experience
from fewstep.training.collect.episodes import Episodes
from fewstep.training.collect.return_scale import in_own_units
from fewstep.training.learner import Learner
from fewstep.types import EnvInfo, Spec, Transition


class Trainer:
    """The training of one run, without what is written about it (``training.run.loop``).

    Attributes:
        learner: the state and what acts.
        experience: what the updates are made from.
        dataset: what the recorded episodes are that the run starts from (``replay.dataset``), or None.
    """

    def __init__(self, config: RunConfig, algorithm: Algorithm, env: Any = None) -> None:
        """``env`` builds the environments where ``config.env`` is only what they are called."""
        training = config.training
        if training.device_env is not None:
            raise UsageError("training.device_env is for `fewstep train` with one seed; leave it out here")
        self.config = config
        self.algorithm = algorithm
        watch = None
        if training.env_process:
            watch = envs.Supervision(training.env_timeout, training.env_restarts)
        self.envs = envs.make(
            config.env if env is None else env,
            training.envs,
            max_episode_steps=training.max_episode_steps,
            action_repeat=training.action_repeat,
            watch=watch,
        )
        self.spec = self.envs.spec
        try:
            source = None if config.replay is None else config.replay.dataset.path
            if source is not None and self.spec.image is not None:
                raise UsageError("replay.dataset cannot be used with image observations")
            dataset = None if source is None else data.load(source, Interface(self.envs))
            self.dataset = None if dataset is None else dataset.summary
            self.experience = experience.make(
                algorithm, config.algorithm, training, self.spec, config.seed, dataset
            )
            example = self.experience.example()
            self.learner = Learner(algorithm, config.algorithm, self.spec, config.seed, example)
            self._episodes = Episodes(
                self.envs, config.seed, self.envs.max_episode_steps if training.max_episode_steps else None
            )
        except BaseException:
            self.envs.close()
            raise
        self._ahead: Any = None

    @cached_property
    def info(self) -> EnvInfo:
        """What a saved policy keeps of the environment."""
        repeat = self.config.training.action_repeat
        return replace(self.envs.info, env=self.config.env, action_repeat=repeat)

    @property
    def env_steps(self) -> int:
        """Environment steps taken, over all environments."""
        return self._episodes.steps

    @property
    def updates(self) -> int:
        """Updates done."""
        return self.learner.updates

    @property
    def clock(self) -> int:
        """What a run's duties are timed by: the environment steps taken; before the first one, minus the
        updates on recorded data (``replay.dataset.updates``) that are still to come."""
        replay = self.config.replay
        left = 0 if replay is None else max(0, replay.dataset.updates - self.updates)
        return self.env_steps - left

    @property
    def progress(self) -> str:
        """How far the run is, in words."""
        if self.clock < 0:
            return f"update {self.updates:,} on recorded data"
        return f"step {self.env_steps:,}"

    @property
    def episodes(self) -> int:
        """Episodes finished."""
        return self._episodes.count

    def first_update(self) -> tuple[int, str]:
        """The step before which no update can happen, and what it is that decides it."""
        return self.experience.first_update()

    @property
    def largest_reward(self) -> float:
        """The largest size of a reward so far, and of those of the data."""
        recorded = 0.0 if self.dataset is None else self.dataset.largest_reward
        return max(self._episodes.largest_reward, recorded)

    @property
    def policy(self) -> Any:
        """The pytree that can act now (valid until the next ``advance``)."""
        return self.learner.policy

    def advance(self) -> None:
        """One step of every environment, and the updates that belong to it; before the first step as many
        updates on recorded data, until ``replay.dataset.updates`` are made.

        With ``replay.overlap`` these wait until the next action has been chosen: the device computes them
        while the environments step, the step is stored and the next batch is drawn.

        It may be called again after it has raised, whatever and wherever: a step that was not completed is
        not experience, and the episodes that it belonged to are abandoned (``Episodes.recover``). One that
        was has been counted, stored and learned from, whatever became of the reset after it.
        """
        recorded = self.offline()
        if recorded is not None:
            self._learn(recorded)
            return
        self.begin()
        action = self.warm_up_action()
        if action is None:
            action = self.learner.act(self.obs, self.noise_counter)
        self._learn(self._ahead)
        self._ahead = None
        self.take(action)
        data = self.due()
        if self.config.overlap:
            self._ahead = data
        else:
            self._learn(data)
        self.begin()

    def take_back(self) -> None:
        """The environments were their owner's meanwhile (``envs.is_lent``): bring each back to where it was
        in its episode, by its seed and actions. One that cannot be brought back begins a new one, and that is
        said."""
        self.begin()
        running, meta = self._episodes.snapshot()
        notes = self._episodes.restore(running, meta, self.env_steps)
        self.experience.cut(np.array([bool(note) for note in notes]))
        for note in filter(None, notes):
            foreign.tell(note)

    def _learn(self, data: Any | None) -> None:
        if data is not None:
            self.learner.learn(data)

    # The parts of ``advance`` that ``training.several.cohort`` does for several trainers in turn.

    @property
    def obs(self) -> NDArray[np.float32]:
        """``[N, obs_size]`` observation that the next action is for."""
        self.begin()
        return self._episodes.obs

    def warm_up_action(self) -> NDArray[np.float32] | None:
        """The random action to take now, None if the policy is to act."""
        return self.experience.warm_up_action(self.env_steps + self.config.training.envs)

    @property
    def noise_counter(self) -> int:
        """What addresses the noise of the action to take now."""
        return self.experience.noise_counter(self.env_steps)

    def take(self, action: NDArray[np.float32]) -> None:
        """One step of every environment with ``action[N, act_size]``, kept as experience."""
        obs = self.obs
        self.experience.add(obs, action, self._episodes.step(action))
        self._episodes.kept()

    def begin(self) -> None:
        """Start the next episode where one has ended, and where one is abandoned because a step raised."""
        if self._episodes.broken is not None:
            self.experience.cut(self._episodes.broken)
            self._episodes.recover()
        self._episodes.begin()

    def due(self) -> Any | None:
        """The data of the updates that are due now, None if none is."""
        return self.experience.due(self.env_steps)

    def offline(self) -> Any | None:
        """The data of the updates that come before the first step, None if they are made."""
        return self.experience.offline(self.updates)

    @contextmanager
    def lent(self) -> Generator[envs.VectorEnv | None]:
        """The environments, for an evaluation on the first of them, with ``training.eval_env=shared``; else
        None. The first one's running episode is abandoned then, and a new one begins."""
        if self.config.training.eval_env == "own":
            yield None
            return
        self.begin()
        self._episodes.lend(0)
        yield self.envs
        self.begin()  # where the evaluation has raised, whoever goes on begins

    def interval(self) -> dict[str, Any]:
        """Counters and means since the last call, as a row of ``metrics.jsonl`` has them; starts a new
        interval.

        The algorithm's metrics are absent when no update fell into the interval.
        """
        finished = self._episodes.take_finished()
        returns, lengths = zip(*finished, strict=True) if finished else ((), ())
        collected = self.experience.metrics()
        divisor = collected.get("reward/divisor", 1.0)
        return {
            "env_steps": self.env_steps,
            "updates": self.updates,
            "episodes": self.episodes,
            "episode_return": float(np.mean(returns)) if returns else None,
            "episode_length": float(np.mean(lengths)) if lengths else None,
            **collected,
            **in_own_units(self.learner.take_means(), divisor),
        }

    def snapshot(self, experience: bool = True) -> tuple[dict[str, Group], dict[str, Any]]:
        """What a resume needs: arrays by group, and JSON values. ``experience`` False leaves the data out."""
        state, counters = self.learner.snapshot()
        running, episodes = self._episodes.snapshot()
        groups: dict[str, Group] = {"state": state, "episodes": running}
        meta: dict[str, Any] = {"algo": self.config.algo, "env": self.config.env, **counters, **episodes}
        meta["sizes"] = sizes(self.spec)
        if self.dataset is not None:
            meta["dataset"] = self.dataset.sha256
        name = self.experience.group
        rows, meta[name] = self.experience.snapshot()
        if experience:
            groups[name] = rows
        if self._ahead is not None:
            groups["ahead"] = {k: v for k, v in self._ahead._asdict().items() if v is not None}
        return groups, meta

    def restore(self, saved: Checkpoint) -> list[str]:
        """Take over a snapshot; gives one line for each running episode that could not be restored.

        A checkpoint without experience starts with none: a replay buffer fills up to ``learning_starts`` new
        steps before updates begin again, a rollout begins anew.

        Raises:
            FewstepError: the checkpoint is of another algorithm, environment, number of environments or
                network size.
        """
        try:
            return self._restore(saved)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise FewstepError(f"checkpoint {saved.env_steps} does not make sense: {reason}") from error

    def _restore(self, saved: Checkpoint) -> list[str]:
        meta = saved.meta
        refuse_other_run(meta, {"algo": self.config.algo, "env": self.config.env}, self.spec)
        self.refuse_other_data(meta.get("dataset"))
        self.learner.restore(saved.groups["state"], meta, f"checkpoint {saved.env_steps}")
        name = self.experience.group
        if name in saved.groups:
            self.experience.restore(saved.groups[name], meta[name])
        else:
            self.experience.restart(saved.env_steps, meta[name])
        ahead = saved.groups.get("ahead")
        self._ahead = None if ahead is None else Transition(**ahead)
        notes = self._episodes.restore(saved.groups["episodes"], meta, saved.env_steps)
        self.experience.cut(np.array([bool(note) for note in notes]))
        return [note for note in notes if note]

    def refuse_other_data(self, sha256: str | None) -> None:
        """Raise a FewstepError unless the recorded data are those with this hash (None: no data)."""
        own = None if self.dataset is None else self.dataset.sha256
        if own != sha256:
            source = "replay.dataset.path" if self.dataset is None else self.dataset.source
            raise FewstepError(
                f"the data of {source} are not those that the run was started with (SHA-256 {own or 'none'}, "
                f"then {sha256 or 'none'}): bring those back, or start a new run"
            )

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()


def sizes(spec: Spec) -> list[int]:
    """Of an observation and an action, as a checkpoint has them."""
    return [spec.obs_size, spec.act_size]


def refuse_other_run(meta: Mapping[str, Any], own: Mapping[str, Any], spec: Spec) -> None:
    """Raise a FewstepError unless a checkpoint is of this algorithm and environment, and of its sizes."""
    for name, value in own.items():
        # An id may have been given its module since, ``my_module:Mine-v0``, to make it known.
        if meta[name] != value and not (name == "env" and value.endswith(f":{meta[name]}")):
            raise FewstepError(f"the checkpoint is of {name} {meta[name]!r}, the run's config says {value!r}")
    obs, act = meta.get("sizes", sizes(spec))
    if [obs, act] != sizes(spec):
        raise FewstepError(
            f"the checkpoint is of {meta['env']} with observations of {obs} and actions of {act} numbers, "
            f"now they have {spec.obs_size} and {spec.act_size}"
        )
