"""The Python face, with the habits of Stable-Baselines3: construct, ``learn``, ``predict``, ``save``,
``load``.

``stable_baselines3.common.evaluation.evaluate_policy`` accepts a ``Model``.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from fewstep import presets
from fewstep.algos import registry
from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.config import RunConfig, resolve
from fewstep.deploy.formats import registry as formats
from fewstep.deploy import export
from fewstep.errors import FewstepError, UsageError
from fewstep.runs import checkpoint
from fewstep.runs.layout import RunDir
from fewstep.runs.metrics import require_finite
from fewstep.training import acting, policy_io, seeds
from fewstep.training.evaluate import Evaluator
from fewstep.training.interface import Interface
from fewstep.training.loop import saved_policy
from fewstep.training.resume import read_config
from fewstep.training.trainer import Trainer

Callback = Callable[[dict[str, Any]], None]


class Model:
    """An algorithm on an environment.

    Args:
        algo: registered algorithm, or ``module:ATTRIBUTE`` of your own. ``MFPO(...)`` fills it in.
        env: environment id (``HalfCheetah-v4``, ``module:Id-v0``, ``toy/multigoal``).
        seed: 0 to 2**31 - 1.
        preset: named settings to start from (``fewstep presets ALGO``).
        **overrides: single settings by name, ``**{"critic.atoms": 51, "training.envs": 4}``.

    Raises:
        UsageError: an unknown name, or a value that is not possible.

    Ctrl-C during ``learn`` is an ordinary ``KeyboardInterrupt``; the model stays usable. For runs that keep
    metrics, evaluations and checkpoints on disk use ``fewstep train``.
    """

    def __init__(
        self, algo: str, env: str, *, seed: int = 0, preset: str = presets.DEFAULT, **overrides: Any
    ) -> None:
        algorithm = registry.get(algo)
        config = resolve(algo, algorithm.config, env, seed=seed, preset=preset, overrides=overrides)
        self._set_up(config, algorithm)

    def _set_up(self, config: RunConfig, algorithm: Algorithm) -> None:
        self.config = config
        self._algorithm = algorithm
        self._trainer = Trainer(config, algorithm)
        self._interface = Interface(config.env)
        self._predict_key = seeds.key(config.seed, seeds.Stream.PREDICT)
        self._predictions = 0
        self._bound: dict[ActionMode, acting.Acting] = {}
        self._bound_to: Any = None

    @property
    def num_timesteps(self) -> int:
        """Environment steps taken so far."""
        return self._trainer.env_steps

    @property
    def observation_space(self) -> Any:
        """The environment's own observation space."""
        return self._interface.observation_space

    @property
    def action_space(self) -> Any:
        """The environment's own action space."""
        return self._interface.action_space

    def learn(self, total_timesteps: int, callback: Callback | None = None) -> Self:
        """Take (at least) this many more environment steps; may be called again to go on.

        Args:
            total_timesteps: environment steps, over all environments. At least 1.
            callback: gets the row of metrics of every ``training.log_every`` steps and of the rest.

        Raises:
            NonFiniteError: the environment or the algorithm gave a number that is not finite.
            FewstepError: the environment failed.
        """
        if total_timesteps < 1:
            raise UsageError(f"total_timesteps must be at least 1, got {total_timesteps}")
        goal = self._trainer.env_steps + total_timesteps
        every = self.config.training.log_every
        logged = self._trainer.env_steps
        while self._trainer.env_steps < goal:
            self._trainer.advance()
            if self._trainer.env_steps // every > logged // every or self._trainer.env_steps >= goal:
                logged = self._trainer.env_steps
                row = self._trainer.interval()
                for name, value in row.items():
                    require_finite(name, value, logged)
                if callback is not None:
                    callback(row)
        return self

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        """Choose actions, in the environment's own units and shape.

        Args:
            observation: one observation of the environment's space, or a batch of them (one more leading
                axis, for dict spaces in every entry).
            state, episode_start: accepted for Stable-Baselines3's sake; the policies have no memory.
            deterministic: False draws one sample. True chooses as the paper evaluates (for MFPO the best of N
                by the critics) with the same noise at every call, so that one observation always gives one
                action. ``evaluate`` gives the paper's numbers, with fresh noise.

        Returns:
            The action (or batch of actions), and None.

        Raises:
            UsageError: the observation does not fit the space.
        """
        flat, batched = self._interface.flatten(observation)
        if deterministic:
            mode, counter = self._algorithm.native(self.config.algorithm), 0
        else:
            self._predictions += 1
            mode, counter = ActionMode(), self._predictions
        actions = self._interface.to_env(self._acting(mode)(flat, counter))
        return (actions if batched else actions[0]), None

    def _acting(self, mode: ActionMode) -> acting.Acting:
        """What acts in this mode now; made again once there has been an update."""
        state = self._trainer.learner.state
        if self._bound_to is not state:
            self._bound_to, self._bound = state, {}
        if mode not in self._bound:
            algorithm, cfg, spec = self._algorithm, self.config.algorithm, self._trainer.spec
            self._bound[mode] = acting.bind(
                algorithm, cfg, spec, mode, self._trainer.policy, self._predict_key
            )
        return self._bound[mode]

    def evaluate(
        self, episodes: int = 10, actions: str = "native", seed: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths of whole episodes on environments of their own; training is not disturbed.

        Args:
            episodes: how many, at least 1.
            actions: ``native`` (the paper's), ``sample``, ``mode`` or ``best-of-N``.
            seed: decides the episodes; by default the model's.
        """
        if episodes < 1:
            raise UsageError(f"episodes must be at least 1, got {episodes}")
        evaluator = Evaluator(
            self._algorithm,
            self.config.algorithm,
            self.config.env,
            episodes=episodes,
            modes=[actions],
            seed=self.config.seed if seed is None else seed,
            max_episode_steps=self.config.training.max_episode_steps,
        )
        row = evaluator.evaluate(self._trainer.policy, self._trainer.env_steps, self._trainer.updates)[0]
        evaluator.close()
        return np.array(row["returns"]), np.array(row["lengths"])

    def save(self, path: str | Path, replay: bool = False) -> None:
        """Write the model as a folder that ``load`` and ``fewstep evaluate`` open; one saved earlier is
        replaced.

        Args:
            path: the folder.
            replay: also keep what updates are made from: the replay buffer, or the rollout that has been
                begun. Without it, a loaded model that goes on learning first collects
                ``training.learning_starts`` new steps, or begins a new rollout.

        Raises:
            UsageError: the path holds something else, such as a run.
        """
        final = Path(path)
        if final.exists() and not (final / "checkpoints").is_dir():
            raise UsageError(f"{final} exists and is not a saved model; choose another path")
        if (final / "provenance.json").exists():
            raise UsageError(f"{final} is a run; choose another path")
        fresh = final.with_name(f".{final.name}.saving")
        shutil.rmtree(fresh, ignore_errors=True)
        run = RunDir.create(fresh, self.config.to_toml())
        groups, meta = self._trainer.snapshot(replay)
        checkpoint.save(run.checkpoints, self._trainer.env_steps, groups, meta, keep=1)
        policy_io.save(run.policy, saved_policy(self._trainer), self.config.algo)
        if final.exists():
            old = final.with_name(f".{final.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
            fresh.rename(final)
            shutil.rmtree(old)
        else:
            fresh.rename(final)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open a saved model or a run directory; it predicts, evaluates and goes on learning.

        Raises:
            UsageError: the path is neither, or is of another algorithm than this class.
            FewstepError: its checkpoint is damaged.
        """
        run = RunDir.open(Path(path))
        config, algorithm = read_config(run)
        expected = getattr(cls, "algo", config.algo)
        if config.algo != expected:
            raise UsageError(f"{path} is of {config.algo!r}, not of {expected!r}; fewstep.load opens any")
        damaged: list[str] = []
        saved = checkpoint.load_newest(run.checkpoints, warn=damaged.append)
        if saved is None:
            raise FewstepError(f"{path} has no checkpoint")
        model = cls.__new__(cls)
        model._set_up(config, algorithm)
        model._trainer.restore(saved)
        return model

    def export(
        self, path: str | Path, to: str = "numpy", *, actions: str = "sample", noise: str = "input"
    ) -> list[Path]:
        """Write the policy as it is now as a file that acts without the training library.

        Args:
            path: the file; the format's suffix is added if it is missing.
            to: ``numpy``, ``onnx``, ``stablehlo`` or ``c`` (docs/export.md).
            actions: ``sample``, one draw per action; ``mode``, the noise-free action; ``native`` or
                ``best-of-N``, the best of N draws by the critics, which are then inside.
            noise: ``input``, the caller gives it; ``inside``, the artefact can also draw it.

        Returns:
            The files written. ``fewstep.deploy.load`` opens all but those of ``c``.

        Raises:
            UsageError: an unknown format, something this algorithm cannot do, or a package that is missing.
            FewstepError: the policy holds numbers that are not finite, or the disk is full.
        """
        formats.get(to)
        exported = export.pack(
            self._algorithm,
            self.config.algorithm,
            self._trainer.policy,
            self._interface.info,
            env_steps=self._trainer.env_steps,
            updates=self._trainer.updates,
            actions=actions,
            noise=noise,
        )
        return formats.write(exported, to, Path(path))

    def close(self) -> None:
        """Close the environments."""
        self._trainer.close()


class _Named(Model):
    """A model whose class says which algorithm it is."""

    algo: str

    def __init__(self, env: str, *, seed: int = 0, preset: str = presets.DEFAULT, **overrides: Any) -> None:
        super().__init__(self.algo, env, seed=seed, preset=preset, **overrides)


class MFPO(_Named):
    """Mean Flow Policy Optimization; ``Model`` has the methods, ``fewstep presets mfpo`` the presets."""

    algo = "mfpo"


class SMFP(_Named):
    """Stochastic MeanFlow Policies; ``Model`` has the methods, ``fewstep presets smfp`` the presets."""

    algo = "smfp"


class SAC(_Named):
    """Soft Actor-Critic; ``Model`` has the methods, ``fewstep presets sac`` the presets."""

    algo = "sac"


class PPO(_Named):
    """Proximal Policy Optimization; ``Model`` has the methods, ``fewstep presets ppo`` the presets."""

    algo = "ppo"


class CrossQ(_Named):
    """CrossQ; ``Model`` has the methods, ``fewstep presets crossq`` the presets."""

    algo = "crossq"


class TD3(_Named):
    """Twin Delayed DDPG; ``Model`` has the methods, ``fewstep presets td3`` the presets."""

    algo = "td3"


def load(path: str | Path) -> Model:
    """Open a saved model or a run directory of any algorithm."""
    return Model.load(path)
