"""``Model``: an algorithm on an environment, to learn, act, judge, save and load."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Self

import gymnasium
import jax
import numpy as np

from fewstep import config as configs
from fewstep import envs, foreign, habits
from fewstep.algos import registry
from fewstep.algos.contract import Algorithm
from fewstep.api import judging, settled
from fewstep.api.callback import Callbacks, callbacks_of
from fewstep.api.learning import Plan, train
from fewstep.api.predictor import Predictor
from fewstep.api.writing import Opened, writing
from fewstep.config import RunConfig, presets, settings
from fewstep.deploy import export
from fewstep.deploy.formats import registry as formats
from fewstep.envs import Given as Env
from fewstep.envs.layers import repeated
from fewstep.envs.registry import resolve
from fewstep.envs.spaces import ORDINARY
from fewstep.errors import FewstepError, UsageError
from fewstep.interrupts import deferred
from fewstep.runs import checkpoint
from fewstep.runs.layout import RunDir
from fewstep.training import acting, saved_model, saved_replay
from fewstep.training.device import trainer as device
from fewstep.training.run.progress import Screen
from fewstep.training.run.resume import read_config
from fewstep.training.trainer import Trainer


class Model:
    """An algorithm on an environment.

    Args:
        algo: registered algorithm, or ``module:ATTRIBUTE`` of your own. ``MFPO(...)`` fills it in.
        env: environment id (``HalfCheetah-v4``, ``module:Id-v0``, ``toy/multigoal``); a function that builds
            one and is called once per environment; an environment with its wrappers, which is used in place
            and left open; or a list or Gymnasium's ``SyncVectorEnv`` of these, whose length is
            ``training.envs``. No file holds a function or an environment: give it to ``load`` again.
        config: the algorithm's own config (``fewstep.algos.smfp.SMFPConfig(...)``) in place of what the
            preset says of the algorithm.
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
    checkpoints on disk give ``learn`` a ``run``.
    """

    def __init__(
        self,
        algo: str,
        env: Env | None = None,
        /,
        *extra: Any,
        config: Any = None,
        seed: int = 0,
        preset: str = presets.DEFAULT,
        verbose: int = 0,
        **overrides: Any,
    ) -> None:
        given: Env = habits.environment(type(self).__name__, env, extra, overrides)
        algorithm = registry.get(settings.convert(algo, str, "algo"))
        habits.refuse_settings(overrides, configs.known_settings(algorithm.config))
        chosen = settled.config(algo, algorithm, given, config, seed, preset, overrides)
        self._set_up(chosen, algorithm, given, settings.convert(verbose, int, "verbose"))

    @ORDINARY
    def _set_up(self, config: RunConfig, algorithm: Algorithm, env: Env, verbose: int = 0) -> None:
        self.config = config
        self._env, self._verbose = env, verbose
        self._opened: Opened | None = None
        self._algorithm = algorithm
        self._trainer = device.make(config, algorithm, env)
        self._predictor = Predictor(self._trainer)

    @property
    def _lent(self) -> Trainer | None:
        """The trainer, if it steps environments that are the user's."""
        trainer = self._trainer
        return trainer if isinstance(trainer, Trainer) and envs.is_lent(self._env) else None

    def __getattr__(self, name: str) -> NoReturn:
        habits.no_attribute(type(self).__name__, name)

    @property
    def num_timesteps(self) -> int:
        """Environment steps taken so far."""
        return self._trainer.env_steps

    @property
    def policy(self) -> Any:
        """The networks that act, a pytree of arrays; a copy, which further learning leaves as it is."""
        return self._copied(self._trainer.learner.policy)

    @property
    def state(self) -> Any:
        """The algorithm's whole state, a pytree of arrays (``fewstep.functional`` has its functions); a copy,
        which further learning leaves as it is."""
        return self._copied(self._trainer.learner.state)

    def _copied(self, tree: Any) -> Any:
        with self._trainer.learner.careful():
            return jax.tree.map(lambda leaf: leaf.copy(), tree)

    def get_env(self) -> gymnasium.Env[Any, Any]:
        """The (first) environment that was given, or a new one as those of training, which the caller closes.

        What was given may be used between two calls of ``learn``: the next one plays the running episode
        again up to where it was.
        """
        training = self.config.training
        first = envs.several(self._env)[0]
        built = (
            first if isinstance(first, gymnasium.Env) else resolve(first)(None, training.max_episode_steps)
        )
        return repeated(built, training.action_repeat)

    @property
    def observation_space(self) -> Any:
        """The environment's own observation space."""
        return self._predictor.interface.observation_space

    @property
    def action_space(self) -> Any:
        """The environment's own action space."""
        return self._predictor.interface.action_space

    @ORDINARY
    def learn(
        self,
        total_timesteps: int,
        callback: Callbacks | None = None,
        *,
        eval_env: Env | None = None,
        eval_every: int | None = None,
        run: str | Path | None = None,
        progress: bool = False,
        progress_bar: bool = False,
        verbose: int | None = None,
        **unknown: Any,
    ) -> Self:
        """Take (at least) this many more environment steps; may be called again to go on, whatever it raised.

        It is the loop of ``fewstep train``. A model with ``replay.dataset.path`` first makes the updates on
        recorded data that are still to come.

        Args:
            total_timesteps: environment steps, over all environments. At least 1.
            callback: a function, which gets the row of metrics of every ``training.log_every`` steps and of
                the rest; a ``fewstep.callbacks.Callback``, whose functions get the model, too; or a list of
                these. One that returns False ends ``learn``.
            eval_env: what is evaluated on, given as any environment; by default that of training.
            eval_every: environment steps between evaluations (``training.eval_episodes`` episodes); by
                default ``training.eval_every`` where there is a ``run`` or an ``eval_env``, else none.
            run: folder of a run to write, as ``fewstep train`` does: metrics, evaluations, checkpoints,
                policy. A new one, or that from which this model was loaded, or into which it has learned
                before: it is continued.
            progress, progress_bar: show a bar with the time left on a terminal, lines as ``verbose``
                elsewhere (the second is Stable-Baselines3's word for it).
            verbose: in place of the model's own.

        Raises:
            UsageError: an argument is not possible, ``run`` is another model's, or there can be no
                environment to evaluate on.
            NonFiniteError: the environment or the algorithm gave a number that is not finite.
            FewstepError: the environment failed; or the device did, and the message says whether the networks
                are left.
        """
        habits.refuse_arguments("learn", unknown)
        total = settings.convert(total_timesteps, int, "total_timesteps")
        if total < 1:
            raise UsageError(f"total_timesteps must be at least 1, got {total}")
        path = None if run is None else saved_model.path_of(run)
        shown = self._verbose if verbose is None else settings.convert(verbose, int, "verbose")
        bar, trainer = bool(progress or progress_bar), self._trainer
        plan = Plan.of(
            trainer, total, callbacks_of(callback), eval_every, self._env, eval_env, path is not None
        )
        with deferred() as interrupt, Screen(plan.goal, not (bar or shown), bar=bar) as screen:
            if (lent := self._lent) is not None:
                lent.take_back()
            try:
                trainer.config = plan.config
                if path is None:
                    train(self, trainer, plan, None, screen, interrupt)
                else:
                    with writing(trainer, path, self._opened) as self._opened:
                        self.config = plan.config
                        train(self, trainer, plan, self._opened, screen, interrupt)
            finally:
                trainer.config = self.config
        return self

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
        return self._predictor.predict(observation, deterministic), None

    @ORDINARY
    def evaluate(
        self,
        episodes: int = 10,
        actions: str = "native",
        seed: int | None = None,
        env: Env | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths of whole episodes on environments of their own; training is not disturbed.

        With ``training.eval_env`` ``shared`` they are played one after another on the training environment,
        whose running episode is abandoned. So they are on an environment that was given as an object, whose
        episode is then played again up to where it was. An episode that does not end is cut
        (``training.eval_max_steps``), and that is said.

        Args:
            episodes: how many, at least 1.
            actions: ``native`` (the paper's), ``sample``, ``mode`` or ``best-of-N``.
            seed: decides the episodes, 0 to 2**31 - 1; by default the model's.
            env: what to play them on, given as any environment; by default that of training.
        """
        episodes = settings.convert(episodes, int, "episodes")
        if episodes < 1:
            raise UsageError(f"episodes must be at least 1, got {episodes}")
        mode = settings.convert(actions, str, "actions")
        training = replace(self.config.training, eval_episodes=episodes, eval_modes=(mode,))
        config = replace(self.config, seed=self._seed(seed), training=training)
        return judging.evaluate(self._trainer, config, self._lent, self._env, env)

    @ORDINARY
    def record_video(self, path: str | Path, env: Env | None = None, seed: int | None = None) -> float:
        """Film one episode, acting as the paper evaluates, to an ``.mp4`` or ``.gif`` file; gives its return.

        ``env`` is an id, or gives environments with ``render_mode="rgb_array"``; by default that of training.

        Raises:
            UsageError: the environment cannot be drawn, or the path or a package is missing.
        """
        to = saved_model.path_of(path)
        return judging.record(self._trainer, self._seed(seed), self._lent, self._env, env, to)

    def _seed(self, given: int | None) -> int:
        return self.config.seed if given is None else configs.seed_of(given)

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

    @ORDINARY
    def save_replay(self, path: str | Path) -> None:
        """Write the replay buffer as a folder of its own, which ``load_replay`` opens; one saved earlier is
        replaced.

        Raises:
            UsageError: the algorithm has none, or the path holds something else, or cannot be written.
            FewstepError: the disk is full; what was saved before is as it was.
        """
        saved_replay.save(self._trainer, path)

    @ORDINARY
    def load_replay(self, path: str | Path) -> None:
        """Replace the replay buffer by a saved one, of whatever algorithm; its transitions count towards
        ``replay.learning_starts``.

        Raises:
            UsageError: the path holds none, or the algorithm has none, or keeps something for each
                transition.
            FewstepError: it is damaged, or does not fit (sizes, ``replay.capacity``, n-step returns).
        """
        saved_replay.load(self._trainer, path)

    @classmethod
    def load(cls, path: str | Path, env: Env | None = None, **unknown: Any) -> Self:
        """Open a saved model or a run directory; it predicts, evaluates and goes on learning.

        Args:
            path: the folder.
            env: the environment in place of the recorded one. A model that was made with a function or an
                environment needs it.

        Raises:
            UsageError: the path is neither, or is of another algorithm than this class, or needs ``env``, or
                learns on a task on the device, which ``env`` is not.
            FewstepError: its checkpoint is damaged, or does not fit ``env``.
        """
        habits.refuse_arguments("load", unknown)
        run = RunDir.open(saved_model.path_of(path))  # absolute: the algorithm's module may change the folder
        config, algorithm = read_config(run)
        expected = getattr(cls, "algo", config.algo)
        if config.algo != expected:
            raise UsageError(f"{path} is of {config.algo!r}, not of {expected!r}; fewstep.load opens any")
        saved = checkpoint.load_newest(run.checkpoints, warn=foreign.tell)
        if saved is None:
            advice = "it holds a policy alone, which `fewstep evaluate` and `fewstep export` take"
            raise FewstepError(f"{path} has no checkpoint" + (f": {advice}" if run.policy.is_dir() else ""))
        if env is not None:
            config = settled.moved(config, env)
            saved.meta["env"] = config.env
        model = cls.__new__(cls)
        model._set_up(config, algorithm, config.env if env is None else env)
        model._trainer.restore(saved)
        model._opened = Opened.of(run, saved, model._trainer)
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
