"""Presets that stand for somebody's published code name every setting they stand for."""

from fewstep.algos import registry
from fewstep.config import TrainingConfig, presets, resolve, settings

SECTIONS = ("actor", "critic", "divergence", "temperature")
ADAM = {"learning_rate": 3e-4, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "max_grad_norm": 0.0, "decay_steps": 0}
AUTHORS = {f"{section}.{name}": value for section in SECTIONS for name, value in ADAM.items()} | {
    "actor.average": 0,
    "actor.batch_size": 0,
    "actor.bound": "clip",
    "actor.candidates": 10,
    "actor.delay": 1,
    "actor.hidden": (256, 256, 256),
    "actor.steps": 2,
    "actor.time_embed": 64,
    "actor.time_features": 128,
    "critic.activation": "gelu",
    "critic.atoms": 101,
    "critic.ensemble": 2,
    "critic.head": "categorical",
    "critic.head_init": "random",
    "critic.hidden": (256, 256, 256),
    "critic.init": "xavier_uniform",
    "critic.reduce": "min",
    "critic.reward_scale": 1.0,
    "critic.target": "polyak",
    "critic.target_delay": 1,
    "critic.tau": 0.005,
    "critic.trunk": "layernorm",
    "critic.v_max": 1600.0,
    "critic.v_min": -1600.0,
    "discount": 0.99,
    "divergence.log_prob": "averaged",
    "divergence.probe": "gaussian",
    "divergence.probes": 2,
    "proposals.gaussian": 32,
    "proposals.mixing": "ess",
    "proposals.noise": "independent",
    "proposals.points": 1,
    "proposals.policy": 16,
    "proposals.precision": "float32",
    "soft_backup": True,
    "temperature.automatic": True,
    "temperature.initial": 0.01,
    "temperature.maximum": 1e12,
    "temperature.minimum": 1e-12,
    "temperature.objective": "alpha",
    "temperature.target_entropy_per_dim": -0.5,
    "times.clamp": 1e-6,
    "times.equal_share": 0.75,
    "times.grid_share": 0.0,
    "times.mean": -0.4,
    "times.std": 1.0,
    "replay.batch_size": 256,
    "training.action_repeat": 1,
    "training.envs": 1,
    "training.eval_episodes": 10,
    "training.eval_every": 10_000,
    "replay.learning_starts": 10_000,
    "replay.overlap": False,
    "replay.capacity": 1_000_000,
    "training.steps": 1_000_000,
    "replay.updates_per_step": 1.0,
}
"""The shipped config and learner of the authors' code."""

NO_NUMBER = {
    "proposals.block",  # the order of work, not its result
    *(f"replay.dataset.{name}" for name in ("path", "updates", "share")),  # none
    *("actor.network", "critic.network"),  # the built-in ones
    "replay.n_step",  # one
    "replay.normalise_obs",  # as they are
    "replay.noise_repeat",  # new noise at every step
    "replay.reward",  # the environment's own
    "training.checkpoint_every",
    "training.device_env",  # none
    "training.env_process",
    "training.env_restarts",
    "training.env_timeout",
    "training.eval_env",  # the same returns either way
    "training.eval_max_steps",  # beyond every time limit
    "training.eval_modes",  # ours adds the single sample
    "training.keep_checkpoints",
    "training.log_every",
    "training.max_episode_steps",  # the task's own
    *(f"critic.{name}" for name in ("momentum", "warm_up", "renorm")),  # of batch renormalisation
    *(
        f"{section}.{name}" for section in SECTIONS for name in ("decay", "decay_start", "final_share")
    ),  # of a rate that falls
}


def test_mfpo_authors_names_every_setting_that_decides_a_number():
    named = settings.dotted(presets.load("mfpo", "authors", presets.ROOT), "authors")
    known = set(settings.schema(registry.get("mfpo").config)) | set(
        settings.schema(TrainingConfig, "training.")
    )
    general = {name for name in named if not name.startswith("for.")}
    assert general == set(AUTHORS)
    assert known - general == NO_NUMBER


def test_mfpo_authors_is_the_authors_list():
    config = resolve("mfpo", registry.get("mfpo").config, "Ant-v4", preset="authors")
    values = settings.flatten(config.algorithm) | settings.flatten(config.training, "training.")
    assert {name: values[name] for name in AUTHORS} == AUTHORS
    cheetah = resolve("mfpo", registry.get("mfpo").config, "HalfCheetah-v4", preset="authors")
    assert cheetah.algorithm.critic.reduce == "mean"


def test_the_flagship_presets_share_all_but_the_policy():
    def shared(algo: str) -> dict[str, object]:
        config = resolve(algo, registry.get(algo).config, "Swimmer-v4", preset="flagship")
        values = settings.flatten(config.algorithm) | settings.flatten(config.training, "training.")
        names = {"discount", "temperature.initial", "temperature.learning_rate", "actor.delay"}
        names |= {f"actor.{name}" for name in ADAM}
        return {
            k: v for k, v in values.items() if k in names or k.startswith(("replay.", "critic.", "training."))
        }

    gaussian = shared("sac")
    del gaussian["training.eval_modes"]  # SMFP has a mode of its own
    assert gaussian["discount"] == 0.9999
    assert gaussian["critic.trunk"] == "crossq"
    for algo in ("smfp", "mfpo"):
        assert {name: shared(algo)[name] for name in gaussian} == gaussian
