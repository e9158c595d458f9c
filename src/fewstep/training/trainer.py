"""One learner and its environments: collect, store, update, and the snapshot that a resume starts from."""

from typing import Any

import jax
import numpy as np

from fewstep import envs
from fewstep.algos.contract import Algorithm
from fewstep.config import RunConfig
from fewstep.errors import FewstepError
from fewstep.replay import ReplayBuffer
from fewstep.runs.checkpoint import Checkpoint
from fewstep.training import compiled, seeds, state_io
from fewstep.types import Transition


class Trainer:
    """Owns the state, the replay buffer and the training environments of one run.

    Attributes:
        state: the algorithm's state. It is donated to each update: read it, do not keep it.
        env_steps: environment steps taken, over all environments.
        updates: updates done.
        episodes: episodes finished.
    """

    def __init__(self, config: RunConfig, algorithm: Algorithm) -> None:
        training = config.training
        self.config = config
        self.algorithm = algorithm
        self.envs = envs.make(config.env, training.envs, max_episode_steps=training.max_episode_steps)
        self.spec = self.envs.spec
        cfg = config.algorithm
        self.state = compiled.init(algorithm, cfg, self.spec)(seeds.key(config.seed, seeds.Stream.ALGORITHM))
        self.buffer = ReplayBuffer(
            training.replay_capacity, self.spec, seeds.integer(config.seed, seeds.Draw.REPLAY)
        )
        self.env_steps = 0
        self.updates = 0
        self.episodes = 0
        self._update = compiled.updates(algorithm, cfg)
        self._act = compiled.act(algorithm, cfg, algorithm.behaviour(cfg))
        self._act_key = seeds.key(config.seed, seeds.Stream.ACT)
        self._warm_up = seeds.generator(config.seed, seeds.Draw.WARM_UP)
        self._buffer_began = 0
        batch_size = training.batch_size
        self._totals = compiled.zero_totals(algorithm, cfg, self.state, self.spec, batch_size)
        self._updates_in_interval = 0
        self._finished: list[tuple[float, int]] = []
        self._episode_index = np.zeros(training.envs, np.int64)
        self._returns = np.zeros(training.envs)
        self._lengths = np.zeros(training.envs, np.int64)
        self._obs = self._start_episodes(np.ones(training.envs, bool))

    @property
    def policy(self) -> Any:
        """The pytree that can act now (valid until the next ``advance``)."""
        return self.algorithm.policy(self.state)

    def advance(self) -> None:
        """One step of every environment, and the updates that belong to it."""
        training = self.config.training
        reached = self.env_steps + training.envs
        action = self._choose(random=reached < training.learning_starts)
        result = self.envs.step(action)
        self.buffer.add(Transition(self._obs, action, result.reward, result.terminated, result.obs))
        self.env_steps = reached
        self._returns += result.reward
        self._lengths += 1
        ended = result.terminated | result.truncated
        self._obs = self._finish_episodes(ended) if ended.any() else result.obs
        if reached - self._buffer_began >= training.learning_starts:
            self._learn(training.updates_per_iteration, training.batch_size)

    def _choose(self, random: bool) -> np.ndarray:
        if random:
            shape = (self.config.training.envs, self.spec.act_size)
            return self._warm_up.uniform(-1.0, 1.0, shape).astype(np.float32)
        return np.asarray(self._act(self.policy, self._obs, self._act_key, np.uint32(self.env_steps)))

    def _learn(self, updates: int, batch_size: int) -> None:
        batches = self.buffer.sample(updates, batch_size)
        self.state, self._totals = self._update(self.state, self._totals, batches)
        self.updates += updates
        self._updates_in_interval += updates

    def _finish_episodes(self, ended: np.ndarray) -> np.ndarray:
        for index in np.flatnonzero(ended):
            self._finished.append((float(self._returns[index]), int(self._lengths[index])))
        self.episodes += int(ended.sum())
        return self._start_episodes(ended)

    def _start_episodes(self, mask: np.ndarray) -> np.ndarray:
        """Reset the masked environments, each with the addressed seed of its next episode."""
        positions = zip(range(len(mask)), self._episode_index.tolist(), strict=True)
        chosen = [seeds.reset_seed(self.config.seed, index, episode) for index, episode in positions]
        self._episode_index[mask] += 1
        self._returns[mask] = 0.0
        self._lengths[mask] = 0
        return self.envs.reset(chosen, mask)

    def interval(self) -> dict[str, Any]:
        """Counters and means since the last call, as a row of ``metrics.jsonl`` has them; starts a new
        interval.

        The algorithm's metrics are absent when no update fell into the interval. This is the one place where
        the host waits for the device's metrics.
        """
        returns, lengths = zip(*self._finished, strict=True) if self._finished else ((), ())
        row: dict[str, Any] = {
            "env_steps": self.env_steps,
            "updates": self.updates,
            "episodes": self.episodes,
            "episode_return": float(np.mean(returns)) if returns else None,
            "episode_length": float(np.mean(lengths)) if lengths else None,
        }
        if self._updates_in_interval:
            totals = jax.device_get(self._totals)
            row |= {name: float(total) / self._updates_in_interval for name, total in totals.items()}
        self._finished = []
        self._totals = jax.tree.map(jax.numpy.zeros_like, self._totals)
        self._updates_in_interval = 0
        return row

    def snapshot(self, replay: bool = True) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
        """What a resume needs: arrays by group, and JSON values. ``replay`` False leaves the buffer out."""
        groups = {"state": state_io.to_arrays({"state": self.state, "totals": self._totals})}
        meta: dict[str, Any] = {
            "algo": self.config.algo,
            "env": self.config.env,
            "updates": self.updates,
            "episodes": self.episodes,
            "updates_in_interval": self._updates_in_interval,
            "finished": self._finished,
            "episode_index": self._episode_index.tolist(),
            "episode_lengths": self._lengths.tolist(),
            "buffer_began": self._buffer_began,
            "warm_up_rng": self._warm_up.bit_generator.state,
        }
        if replay:
            groups["replay"] = self.buffer.arrays()
            meta["replay"] = {"cursor": self.buffer.cursor, "rng_state": self.buffer.rng_state}
        return groups, meta

    def restore(self, saved: Checkpoint) -> None:
        """Take over a snapshot.

        A checkpoint without a replay buffer starts with an empty one: updates begin again once
        ``learning_starts`` new steps are in it.

        Raises:
            FewstepError: the checkpoint is of another algorithm, environment or network size.
        """
        meta = saved.meta
        for name, own in (("algo", self.config.algo), ("env", self.config.env)):
            if meta[name] != own:
                raise FewstepError(
                    f"the checkpoint is of {name} {meta[name]!r}, the run's config says {own!r}"
                )
        if len(meta["episode_index"]) != self.config.training.envs:
            raise FewstepError(
                f"the checkpoint has {len(meta['episode_index'])} environments, the run's config says "
                f"{self.config.training.envs}"
            )
        template = {"state": self.state, "totals": self._totals}
        tree = state_io.from_arrays(template, saved.groups["state"], f"checkpoint {saved.env_steps}")
        self.state, self._totals = tree["state"], tree["totals"]
        self.env_steps, self.updates, self.episodes = saved.env_steps, meta["updates"], meta["episodes"]
        self._updates_in_interval = meta["updates_in_interval"]
        self._finished = [(value, length) for value, length in meta["finished"]]
        self._warm_up.bit_generator.state = meta["warm_up_rng"]
        if "replay" in meta:
            self.buffer.restore(saved.groups["replay"], **meta["replay"])
            self._buffer_began = meta["buffer_began"]
        else:
            self._buffer_began = self.env_steps
        self._resume_episodes(np.array(meta["episode_index"]), np.array(meta["episode_lengths"]))

    def _resume_episodes(self, index: np.ndarray, lengths: np.ndarray) -> None:
        """Go on after a restore: the running episodes are abandoned and the next ones begin.

        An episode that had not made a step yet begins again with its own seed, so a cut that falls between
        two episodes continues exactly. Restoring a simulator in mid-episode would replace this function
        alone.
        """
        self._episode_index = index - (lengths == 0)
        self._obs = self._start_episodes(np.ones(len(index), bool))

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()
