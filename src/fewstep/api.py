"""The Python face, with the habits of Stable-Baselines3: construct, ``learn``, ``predict``, ``save``,
``load``.

``stable_baselines3.common.evaluation.evaluate_policy`` accepts a ``Model``.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Self

import gymnasium
import numpy as np

from fewstep import config as configs
from fewstep import envs, foreign, habits
from fewstep.algos import registry
from fewstep.algos.contract import ActionMode, Algorithm
from fewstep.config import RunConfig, presets, settings
from fewstep.deploy import export
from fewstep.deploy.formats import registry as formats
from fewstep.envs.interface import Interface
from fewstep.envs.spaces import ORDINARY
from fewstep.errors import FewstepError, UsageError
from fewstep.interrupts import at_once, deferred
from fewstep.runs import checkpoint
from fewstep.runs.layout import RunDir
from fewstep.runs.metrics import require_finite
from fewstep.training import acting, saved_model, seeds
from fewstep.training.device import trainer as device
from fewstep.training.evaluation.evaluate import Evaluator
from fewstep.training.run.progress import Screen, about, cut_note, interval_line
from fewstep.training.run.resume import read_config

Callback = Callable[[dict[str, Any]], object]
Env = str | Callable[[], gymnasium.Env[Any, Any]]
"""An environment's id, or a function of no arguments that builds one."""


class Model:
    """An algorithm on an environment.

    Args:
        algo: registered algorithm, or ``module:ATTRIBUTE`` of your own. ``MFPO(...)`` fills it in.
        env: environment id (``HalfCheetah-v4``, ``module:Id-v0``, ``toy/multigoal``), or a function that
            builds one and is called once per environment. A model of a function is saved without it: give it
            to ``load`` again.
        seed: 0 to 2**31 - 1, Python's or numpy's.
        preset: named settings to start from (``fewstep presets ALGO``).
        verbose: 1 prints one line per ``training.log_every`` steps of ``learn`` on standard error, 0 nothing.
        **overrides: single settings by name, ``**{"critic.atoms": 51, "training.envs": 4}``, or by section,
            ``critic={"atoms": 51}``; numpy's numbers and arrays are taken as Python's (``fewstep settings
            ALGO`` lists all).

    Raises:
        UsageError: an unknown name, or a value that is not possible.

    Ctrl-C during ``learn`` is an ordinary ``KeyboardInterrupt``, raised at the end of the step (in an
    environment's own code, at once): the model stays usable. For runs that keep metrics, evaluations and
    checkpoints on disk use ``fewstep train``.
    """

    def __init__(
        self,
        algo: str,
        env: Env | None = None,
        /,
        *extra: Any,
        seed: int = 0,
        preset: str = presets.DEFAULT,
        verbose: int = 0,
        **overrides: Any,
    ) -> None:
        given: Env = habits.environment(type(self).__name__, env, extra, overrides)
        algorithm = registry.get(settings.convert(algo, str, "algo"))
        habits.refuse_settings(overrides, configs.known_settings(algorithm.config))
        name = envs.name_of(given)
        config = configs.resolve(algo, algorithm.config, name, seed=seed, preset=preset, overrides=overrides)
        self._set_up(config, algorithm, given, settings.convert(verbose, int, "verbose"))

    @ORDINARY
    def _set_up(self, config: RunConfig, algorithm: Algorithm, env: Env, verbose: int = 0) -> None:
        self.config = config
        self._env, self._verbose = env, verbose
        self._algorithm = algorithm
        self._trainer = device.make(config, algorithm, env)
        self._interface = Interface(self._trainer.envs)
        self._predict_key = seeds.key(config.seed, seeds.Stream.PREDICT)
        self._predictions = 0
        self._bound: dict[tuple[ActionMode, bool], acting.Acting] = {}
        self._bound_to: Any = None

    def __getattr__(self, name: str) -> NoReturn:
        habits.no_attribute(type(self).__name__, name)

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

    @ORDINARY
    def learn(
        self,
        total_timesteps: int,
        callback: Callback | None = None,
        *,
        progress_bar: bool = False,
        verbose: int | None = None,
        **unknown: Any,
    ) -> Self:
        """Take (at least) this many more environment steps; may be called again to go on, whatever it raised.

        A model with ``replay.dataset.path`` first makes the updates on recorded data that are still to come.

        Args:
            total_timesteps: environment steps, over all environments. At least 1.
            callback: gets the row of metrics of every ``training.log_every`` steps and of the rest.
            progress_bar: show a bar with the time left on a terminal, lines as ``verbose`` elsewhere.
            verbose: in place of the model's own.

        Raises:
            NonFiniteError: the environment or the algorithm gave a number that is not finite.
            FewstepError: the environment failed; or the device did, and the message says whether the networks
                are left.
        """
        habits.refuse_arguments("learn", unknown)
        total = settings.convert(total_timesteps, int, "total_timesteps")
        if total < 1:
            raise UsageError(f"total_timesteps must be at least 1, got {total}")
        if callback is not None and not callable(callback):
            raise UsageError("callback must be a function, which gets each row of metrics: lambda row: ...")
        shown = self._verbose if verbose is None else settings.convert(verbose, int, "verbose")
        goal = self._trainer.env_steps + total
        quiet = not (progress_bar or shown)
        with deferred() as interrupt, Screen(goal, quiet, bar=bool(progress_bar)) as screen:
            self._learn(goal, screen, interrupt, callback)
        return self

    def _learn(
        self, goal: int, screen: Screen, interrupt: Callable[[], None], callback: Callback | None
    ) -> None:
        trainer, every = self._trainer, self.config.training.log_every
        logged, began = trainer.clock, time.monotonic()
        while trainer.env_steps < goal:
            trainer.advance()
            screen.step(trainer.env_steps, trainer.updates)
            interrupt()
            if trainer.clock // every > logged // every or trainer.env_steps >= goal:
                row, now, steps = trainer.interval(), time.monotonic(), trainer.env_steps
                rate = {"wall_env_steps_per_second": (steps - max(0, logged)) / max(now - began, 1e-9)}
                logged, began = trainer.clock, now
                for name, value in row.items():
                    require_finite(name, value, steps)
                screen.progress(interval_line(row | rate, goal), steps, about(row))
                if callback is not None:
                    at_once(callback, row)

    @ORDINARY
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
                by the critics) with the same noise for every observation and at every call: the action is a
                function of policy and observation alone, to the bit, in a batch as by itself.
                ``evaluate`` gives the paper's numbers, with fresh noise.

        Returns:
            The action (or batch of actions), and None. An empty batch gives an empty batch.

        Raises:
            UsageError: the observation does not fit the space.
        """
        flat, batched = self._interface.flatten(observation)
        if not len(flat):
            return self._interface.to_env(flat), None
        if deterministic:
            mode, counter = self._algorithm.native(self.config.algorithm), 0
        else:
            self._predictions += 1
            mode, counter = ActionMode(), self._predictions
        with self._trainer.learner.careful():
            chosen = self._acting(mode, each=deterministic)(flat, counter)
        actions = self._interface.to_env(chosen)
        return (actions if batched else actions[0]), None

    def _acting(self, mode: ActionMode, each: bool = False) -> acting.Acting:
        """What acts in this mode now, on ``each`` row by itself; made anew once there has been an update."""
        state = self._trainer.learner.state
        if self._bound_to is not state:
            self._bound_to, self._bound = state, {}
        if (mode, each) not in self._bound:
            algorithm, cfg, spec = self._algorithm, self.config.algorithm, self._trainer.spec
            bind = acting.bind_each if each else acting.bind
            self._bound[mode, each] = bind(
                algorithm, cfg, spec, mode, self._trainer.policy, self._predict_key
            )
        return self._bound[mode, each]

    @ORDINARY
    def evaluate(
        self, episodes: int = 10, actions: str = "native", seed: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths of whole episodes on environments of their own; training is not disturbed.

        With ``training.eval_env`` ``shared`` they are played one after another on the training environment,
        whose running episode is abandoned. An episode that does not end is cut (``training.eval_max_steps``),
        and that is said.

        Args:
            episodes: how many, at least 1.
            actions: ``native`` (the paper's), ``sample``, ``mode`` or ``best-of-N``.
            seed: decides the episodes, 0 to 2**31 - 1; by default the model's.
        """
        episodes = settings.convert(episodes, int, "episodes")
        if episodes < 1:
            raise UsageError(f"episodes must be at least 1, got {episodes}")
        modes = (settings.convert(actions, str, "actions"),)
        training = replace(self.config.training, eval_episodes=episodes, eval_modes=modes)
        seed = self.config.seed if seed is None else configs.seed_of(seed)
        config = replace(self.config, seed=seed, training=training)
        evaluator = Evaluator.of(config, self._algorithm, self._env)
        trainer = self._trainer
        with trainer.lent() as shared:
            row = evaluator.evaluate(trainer.policy, trainer.env_steps, trainer.updates, on=shared)[0]
        evaluator.close()
        if cut := cut_note(row):
            foreign.tell(f"{cut}: their returns are those of unfinished episodes")
        return np.array(row["returns"]), np.array(row["lengths"])

    @ORDINARY
    def save(self, path: str | Path, replay: bool = False) -> None:
        """Write the model as a folder that ``load`` and ``fewstep evaluate`` open; one saved earlier is
        replaced.

        Args:
            path: the folder. Of a link, what it points to is replaced. Other files that have come to lie in a
                saved model, such as a report, stay.
            replay: also keep what updates are made from: the replay buffer, or the rollout that has been
                begun. Without it, a loaded model that goes on learning first collects
                ``replay.learning_starts`` new steps, or begins a new rollout.

        Raises:
            UsageError: the path holds something else, such as a run, or cannot be written.
            FewstepError: the disk is full. In either case what was saved before is as it was.
        """
        saved_model.save(self._trainer, path, replay)

    @classmethod
    def load(cls, path: str | Path, env: Env | None = None, **unknown: Any) -> Self:
        """Open a saved model or a run directory; it predicts, evaluates and goes on learning.

        Args:
            path: the folder.
            env: the environment in place of the recorded one. A model that was made with a function needs it.

        Raises:
            UsageError: the path is neither, or is of another algorithm than this class, or needs ``env``.
            FewstepError: its checkpoint is damaged, or does not fit ``env``.
        """
        habits.refuse_arguments("load", unknown)
        run = RunDir.open(saved_model.path_of(path))  # absolute: the algorithm's module may change the folder
        config, algorithm = read_config(run)
        expected = getattr(cls, "algo", config.algo)
        if config.algo != expected:
            raise UsageError(f"{path} is of {config.algo!r}, not of {expected!r}; fewstep.load opens any")
        damaged: list[str] = []
        saved = checkpoint.load_newest(run.checkpoints, warn=damaged.append)
        if saved is None:
            raise FewstepError(f"{path} has no checkpoint")
        if env is not None:
            config = replace(config, env=envs.name_of(env))
            saved.meta["env"] = config.env
        model = cls.__new__(cls)
        model._set_up(config, algorithm, config.env if env is None else env)
        model._trainer.restore(saved)
        return model

    @ORDINARY
    def export(
        self,
        path: str | Path,
        to: str = "numpy",
        *,
        actions: str = "sample",
        noise: str = "input",
        prefix: str | None = None,
    ) -> list[Path]:
        """Write the policy as it is now as a file that acts without the training library.

        Args:
            path: the file; the format's suffix is added if it is missing.
            to: ``numpy``, ``onnx``, ``stablehlo`` or ``c`` (docs/export.md).
            actions: ``sample``, one draw per action; ``mode``, the noise-free action; ``native`` or
                ``best-of-N``, the best of N draws by the critics, which are then inside.
            noise: ``input``, the caller gives it; ``inside``, the artefact can also draw it; ``fixed``, it is
                that of ``predict(deterministic=True)``, which ``native`` then equals.
            prefix: with ``c``, what every name in the files begins with (``fewstep``), so that several
                policies can be linked into one program.

        Returns:
            The files written. ``fewstep.deploy.load`` opens all but those of ``c``.

        Raises:
            UsageError: an unknown format, something this algorithm cannot do, or a package that is missing.
            FewstepError: the policy holds numbers that are not finite, or the disk is full.
        """
        formats.get(to, prefix)
        exported = export.pack(
            self._algorithm,
            self.config.algorithm,
            self._trainer.policy,
            self._trainer.info,
            env_steps=self._trainer.env_steps,
            updates=self._trainer.updates,
            actions=actions,
            noise=noise,
            fixed=acting.deterministic_key(self.config.seed),
        )
        return formats.write(exported, to, saved_model.path_of(path), prefix)

    def close(self) -> None:
        """Close the environments."""
        self._trainer.close()


class NamedModel(Model):
    """A model whose class says which algorithm it is, ``fewstep.SAC`` and its kin (``model_class``)."""

    algo: str

    def __init__(
        self,
        env: Env | None = None,
        /,
        *extra: Any,
        seed: int = 0,
        preset: str = presets.DEFAULT,
        verbose: int = 0,
        **overrides: Any,
    ) -> None:
        super().__init__(self.algo, env, *extra, seed=seed, preset=preset, verbose=verbose, **overrides)


@functools.cache
def model_class(algo: str) -> type[NamedModel]:
    """The class of a registered algorithm, ``SAC`` for ``sac``."""
    doc = f"{registry.get(algo).title}. ``Model`` has the methods, ``fewstep presets {algo}`` the presets."
    name = registry.entries()[algo].model
    return type(name, (NamedModel,), {"algo": algo, "__doc__": doc, "__module__": "fewstep"})


def load(path: str | Path, env: Env | None = None, **unknown: Any) -> Model:
    """Open a saved model or a run directory of any algorithm (``Model.load``)."""
    return Model.load(path, env, **unknown)
