"""Stable-Baselines3's words and what to write here instead: one line in place of a TypeError."""

from collections.abc import Container, Mapping
from typing import Any, NoReturn

from fewstep.errors import UsageError, shown

SETTINGS: dict[str, tuple[str, ...]] = {
    "gamma": ("discount",),
    "learning_rate": ("actor.learning_rate", "critic.learning_rate", "optimiser.learning_rate"),
    "buffer_size": ("replay.capacity",),
    "learning_starts": ("replay.learning_starts",),
    "batch_size": ("replay.batch_size",),
    "tau": ("critic.tau",),
    "policy_delay": ("actor.delay",),
    "target_policy_noise": ("smoothing.noise",),
    "target_noise_clip": ("smoothing.clip",),
    "n_steps": ("rollout.steps", "replay.n_step"),
    "n_epochs": ("rollout.epochs",),
    "clip_range": ("actor.clip",),
    "clip_range_vf": ("critic.clip",),
    "vf_coef": ("critic.weight",),
    "max_grad_norm": ("optimiser.max_grad_norm", "actor.max_grad_norm"),
    "normalize_advantage": ("actor.normalise_advantages",),
    "n_envs": ("training.envs",),
}
"""Arguments -> the settings that take the same value, those that an algorithm has."""

OTHERS: dict[str, tuple[str, ...]] = {
    "batch_size": ("rollout.minibatches",),
    "train_freq": ("replay.updates_per_step",),
    "gradient_steps": ("replay.updates_per_step",),
    "policy_kwargs": ("actor.hidden", "actor.activation", "critic.hidden"),
    "ent_coef": ("temperature.initial", "temperature.automatic", "actor.entropy_weight"),
    "target_entropy": ("temperature.target_entropy_per_dim",),
    "action_noise": ("actor.exploration_noise",),
    "log_interval": ("training.log_every",),
}
"""Arguments -> the settings that decide the same in another way."""

ADVICE = {
    "policy": "every algorithm has its own policy, leave it out",
    "device": "jax chooses the device, or the environment variable JAX_PLATFORMS",
    "tensorboard_log": "`fewstep train` keeps a run, `fewstep sync RUN --to tensorboard` shows it",
    "tb_log_name": "`fewstep train` keeps a run, `fewstep sync RUN --to tensorboard` shows it",
    "reset_num_timesteps": "learn always goes on from where it was; a new model begins anew",
    "eval_env": "learn(..., eval_env=ENV, eval_every=STEPS) evaluates",
    "eval_freq": "learn(..., eval_every=STEPS) evaluates",
    "n_eval_episodes": "training.eval_episodes of the model says how many",
}
"""Arguments that are no settings."""

ATTRIBUTES = {
    "env": "model.get_env() gives one to evaluate on; model.evaluate() plays whole episodes",
    "set_env": "fewstep.load(PATH, env=...) opens a saved model on another environment",
    "replay_buffer": "model.save_replay(PATH) and model.load_replay(PATH) keep the replay buffer",
    "save_replay_buffer": "model.save_replay(PATH) keeps the replay buffer",
    "load_replay_buffer": "model.load_replay(PATH) brings a saved replay buffer back",
    "logger": "learn(..., callback=FUNCTION) gets the metrics, verbose=1 prints them",
    "set_logger": "learn(..., callback=FUNCTION) gets the metrics, verbose=1 prints them",
    "set_random_seed": "give seed= when the model is made",
    "get_parameters": "model.policy and model.state are copies of them; model.save() and load keep them",
    "set_parameters": "model.save() and load keep the parameters",
}
"""Methods and attributes of a model."""


class NoSuchAttribute(UsageError, AttributeError):
    """An attribute of Stable-Baselines3's models that ours lack; ``hasattr`` says no."""


def named_here(name: str, known: Container[str]) -> list[str]:
    """The settings, those that are ``known``, that are or decide what other libraries call ``name``."""
    longer = f"{name[:-3]}.learning_rate" if name.endswith(".lr") else ""
    return [each for each in (*SETTINGS.get(name, ()), *OTHERS.get(name, ()), longer) if each in known]


def refuse_settings(given: Mapping[str, Any], known: Container[str]) -> None:
    """Raise UsageError for the first of ``given`` that is Stable-Baselines3's word and no setting here."""
    for name, value in given.items():
        if name in known:
            continue
        same = [setting for setting in SETTINGS.get(name, ()) if setting in known]
        others = [setting for setting in OTHERS.get(name, ()) if setting in known]
        if same:
            call = ", ".join(f'"{setting}": {shown(value)}' for setting in same)
            raise UsageError(f"{name} is called otherwise here: **{{{call}}}")
        if others:
            names = ", ".join(others)
            raise UsageError(f'{name} is set otherwise here, by {names}: **{{"{others[0]}": ...}}')
        if name in ADVICE:
            raise UsageError(f"{name}: {ADVICE[name]}")


def refuse_arguments(call: str, given: Mapping[str, Any]) -> None:
    """Raise UsageError for the first argument of ``given``, which ``call`` does not have."""
    for name in given:
        if name in ADVICE:
            raise UsageError(f"{call} has no {name}: {ADVICE[name]}")
        found = SETTINGS.get(name, ()) or OTHERS.get(name, ())
        if found:
            raise UsageError(f'{call} has no {name}: give **{{"{found[0]}": ...}} when the model is made')
        raise UsageError(f"{call} has no argument {name!r}")


def environment(name: str, env: Any, extra: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """The environment of ``name(env, *extra, **given)``; it may also be the ``env`` of ``given``, which is
    taken out.

    Raises UsageError if there is none, or more than that was given, as in ``SAC("MlpPolicy", env)``.
    """
    found = [value for value in (env, *extra, given.pop("env", None)) if value is not None]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"an environment is missing: {name}('Pendulum-v1'), or {name}(YOUR_ENV)")
    call = repr(found[1]) if isinstance(found[1], str) else "YOUR_ENV"
    raise UsageError(f"one environment is enough: {name}({call}) instead of {name}({shown(found[0])}, ...)")


def no_attribute(owner: str, name: str) -> NoReturn:
    """Raise the AttributeError for ``owner.name``."""
    if name in ATTRIBUTES:
        raise NoSuchAttribute(f"{owner} has no {name}: {ATTRIBUTES[name]}")
    raise AttributeError(f"{owner!r} object has no attribute {name!r}")
