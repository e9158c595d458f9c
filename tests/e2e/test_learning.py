"""``Model.learn`` as a run: environments as objects, evaluation, callbacks, runs that go on."""

import json
from dataclasses import replace

import gymnasium
import jax
import numpy as np
import pytest

import fewstep
from fewstep import callbacks
from fewstep.algos.sac import SACConfig
from fewstep.cli import main
from fewstep.config import TrainingConfig
from fewstep.errors import FewstepError, UsageError
from fewstep.runs.metrics import read_rows
from fewstep.training import state_io
from tests.e2e.helpers import TINY
from tests.e2e.test_api import FAST

OBSERVATION = np.array([0.3, 0.2, 0.1])
SHORT = {"training.eval_episodes": 2, "training.eval_modes": ["sample"]}


def pendulum(steps=30, **named):
    """A task with a wrapper of its own."""
    env = gymnasium.make("Pendulum-v1", max_episode_steps=steps, **named)
    return gymnasium.wrappers.TransformReward(env, lambda reward: reward / 10)


def tiny(env, **settings):
    return fewstep.Model(TINY, env, seed=2, **FAST, **SHORT, **settings)


def bits(model):
    return {name: leaf.tobytes() for name, leaf in state_io.to_arrays(model.state).items()}


def rows(run, name="metrics.jsonl"):
    return [
        {key: value for key, value in row.items() if not key.startswith("wall_")}
        for row in read_rows(run / name)
    ]


# Environments


def test_an_object_a_function_and_lists_of_them_are_one_environment():
    once = tiny(pendulum).learn(70)
    for env in (pendulum(), [pendulum()], [pendulum], gymnasium.vector.SyncVectorEnv([pendulum])):
        assert bits(tiny(env).learn(70)) == bits(once)
    two = {"training.envs": 2}
    both = tiny(pendulum, **two).learn(70)
    for env in ([pendulum(), pendulum()], gymnasium.vector.SyncVectorEnv([pendulum] * 2)):
        model = tiny(env)
        assert model.config.training.envs == 2
        assert bits(model.learn(70)) == bits(both)


def test_what_is_done_with_an_object_between_two_calls_does_not_matter():
    env = pendulum()
    model = tiny(env)
    assert model.get_env() is env
    for _ in range(7):
        env.reset()
        env.step(np.zeros(1, np.float32))
    model.learn(45)
    env.reset(seed=3)
    model.evaluate(1)
    model.evaluate(1, env=env)
    with pytest.raises(UsageError, match="the environment that is trained on"):
        model.learn(10, eval_env=env, eval_every=5)
    model.learn(25)
    assert bits(model) == bits(tiny(pendulum).learn(70))
    model.close()
    env.reset()  # it is still open


def test_an_object_evaluates_as_one_of_its_own_would():
    given, built = tiny(pendulum()).learn(45), tiny(pendulum).learn(45)
    for one, other in zip(given.evaluate(3), built.evaluate(3), strict=True):
        assert np.array_equal(one, other)
    elsewhere = given.evaluate(2, env=lambda: pendulum(steps=11))[1]
    assert elsewhere.tolist() == [11, 11]


def test_a_function_that_returns_the_training_environment_does_not_evaluate_on_it():
    env = pendulum()
    model = tiny(lambda: env)
    with pytest.raises(UsageError, match=r"the environment that is trained on: a function must build a new"):
        model.evaluate(1)
    with pytest.raises(UsageError, match="the same environment twice"):
        model.evaluate(2)
    with pytest.raises(UsageError, match="the environment that is trained on"):
        model.learn(10, eval_env=env, eval_every=5)
    assert bits(model.learn(70)) == bits(tiny(pendulum).learn(70))


def test_a_model_of_an_object_is_opened_with_one(tmp_path, capsys):
    tiny(pendulum()).learn(40).save(tmp_path / "model", replay=True)
    with pytest.raises(
        UsageError, match=r"a Python object \(Pendulum-v1\).*fewstep\.load\(PATH, env=OBJECT\)"
    ):
        fewstep.load(tmp_path / "model")
    assert main(["resume", str(tmp_path / "model"), "--steps", "80"]) == 2
    assert "a Python object" in capsys.readouterr().err
    assert bits(fewstep.load(tmp_path / "model", env=pendulum()).learn(30)) == bits(tiny(pendulum).learn(70))
    with pytest.raises(UsageError, match="2 environments were given"):
        fewstep.load(tmp_path / "model", env=[pendulum(), pendulum()])


def test_another_process_needs_an_id():
    with pytest.raises(UsageError, match="cannot be sent there"):
        tiny(pendulum(), **{"training.env_process": True})


# Settings


def test_the_algorithms_own_config_is_what_it_trains_with():
    config = SACConfig(discount=0.9)
    model = fewstep.SAC("toy/bandit", config=config, **{"critic.hidden": [8]})
    assert model.config.algorithm.discount == 0.9
    assert model.config.algorithm.critic.hidden == (8,)
    assert model.config.algorithm.actor == config.actor


# Runs


def test_a_run_of_learn_is_that_of_the_command_line(tmp_path):
    names = {**FAST, **SHORT, "training.eval_every": 50, "training.checkpoint_every": 40}
    sets = [f"{name}={json.dumps(value)}" for name, value in names.items()]
    command = ["train", TINY, "toy/multigoal", "--seed", "2", "--steps", "100", "--quiet"]
    assert main([*command, "--out", str(tmp_path / "cli"), "--set", *sets]) == 0
    model = fewstep.Model(TINY, "toy/multigoal", seed=2, **names)
    model.learn(100, run=tmp_path / "api")
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert rows(tmp_path / "api", name) == rows(tmp_path / "cli", name)
    config = (tmp_path / "api" / "config.toml").read_text()
    assert config == (tmp_path / "cli" / "config.toml").read_text()


@pytest.mark.parametrize("env", [pendulum, "object"])
def test_a_run_goes_on_after_loading_to_the_bit(env, tmp_path):
    def given():
        return pendulum() if env == "object" else env

    named = {"eval_every": 50, "eval_env": pendulum}
    once = tiny(given()).learn(140, run=tmp_path / "once", **named)
    tiny(given()).learn(70, run=tmp_path / "parts", **named)
    model = fewstep.load(tmp_path / "parts", env=given()).learn(70, run=tmp_path / "parts", **named)
    assert bits(model) == bits(once)
    at = [row["env_steps"] for row in rows(tmp_path / "parts")]
    assert at == [25, 50, 70, 75, 100, 125, 140]
    evaluated = [row["env_steps"] for row in rows(tmp_path / "parts", "evaluations.jsonl")]
    assert evaluated == [50, 70, 100, 140]
    model.learn(10, run=tmp_path / "parts").learn(10, run=tmp_path / "parts")
    assert rows(tmp_path / "parts")[-1]["env_steps"] == 160


def test_a_run_is_not_taken_from_another_model(tmp_path):
    run = tmp_path / "run"
    model = tiny("toy/multigoal").learn(50, run=run)
    with pytest.raises(UsageError, match=r"already holds a run; fewstep\.load"):
        tiny("toy/multigoal").learn(10, run=run)
    assert main(["resume", str(run), "--steps", "75", "--quiet"]) == 0
    with pytest.raises(UsageError, match=r"has gone on without this model"):
        model.learn(10, run=run)
    assert model.num_timesteps == 50
    assert fewstep.load(run).learn(25, run=run).num_timesteps == 100


# Callbacks


def test_a_callback_sees_the_model_after_each_thing(tmp_path):
    seen = []

    def note(name):
        return lambda model, *rest: seen.append((name, model.num_timesteps))

    whole = callbacks.Callback(
        **{name: note(name) for name in ("step", "metrics", "evaluation", "checkpoint")}
    )
    tiny("toy/multigoal", **{"training.checkpoint_every": 50}).learn(
        50, [whole, lambda row: seen.append(("row", row["env_steps"]))], run=tmp_path / "run", eval_every=50
    )
    assert [place for name, place in seen if name == "step"] == list(range(1, 51))
    assert [one for one in seen if one[0] != "step"] == [
        ("metrics", 25),
        ("row", 25),
        ("metrics", 50),
        ("row", 50),
        ("evaluation", 50),
        ("checkpoint", 50),
    ]


@pytest.mark.parametrize("answer", [False, np.bool_(False)])
def test_one_that_returns_false_ends_it_as_the_last_step_would(answer, tmp_path):
    model = tiny("toy/multigoal")
    stop = callbacks.Callback(step=lambda model: answer if model.num_timesteps == 33 else None)
    model.learn(100, stop, run=tmp_path / "run", eval_every=50)
    assert model.num_timesteps == 33
    assert [row["env_steps"] for row in rows(tmp_path / "run")] == [25, 33]
    assert [row["env_steps"] for row in rows(tmp_path / "run", "evaluations.jsonl")] == [33]
    assert fewstep.load(tmp_path / "run").num_timesteps == 33
    assert model.learn(10).num_timesteps == 43


def test_what_one_raises_comes_out_and_the_run_is_saved(tmp_path):
    def fail(model, row):
        raise ValueError("my own mistake\nat length")

    model = tiny("toy/multigoal")
    with pytest.raises(ValueError, match="my own mistake"):
        model.learn(100, callbacks.Callback(metrics=fail), run=tmp_path / "run")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "a callback raised ValueError: my own mistake at step 25\n" in log
    assert fewstep.load(tmp_path / "run").num_timesteps == 25


def test_the_ready_ones(tmp_path):
    judged = {"eval_every": 20}
    assert tiny("toy/multigoal").learn(200, callbacks.stop_on_return(-1e6), **judged).num_timesteps == 20
    assert tiny("toy/multigoal").learn(60, callbacks.stop_on_return(1e6), **judged).num_timesteps == 60

    seen = []
    watch = callbacks.Callback(
        evaluation=lambda model, row: seen.append((np.mean(row["returns"]), model.num_timesteps))
    )
    keep = [
        callbacks.keep_best(tmp_path / "best"),
        callbacks.checkpoint_every(40, tmp_path / "all", replay=True),
    ]
    model = tiny("toy/multigoal", **{"training.checkpoint_every": 30})
    model.learn(110, [*keep, watch], run=tmp_path / "run", **judged)
    best = max(value for value, _ in seen)
    first = next(step for value, step in seen if value == best)
    assert fewstep.load(tmp_path / "best").num_timesteps == first
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["step-000000040", "step-000000080"]
    again = fewstep.load(tmp_path / "all" / "step-000000040").learn(70)
    assert bits(again) == bits(model)
    assert bits(fewstep.load(tmp_path / "run")) == bits(model)
    with pytest.raises(UsageError, match="steps must be at least 1"):
        callbacks.checkpoint_every(0, tmp_path)


def test_each_evaluation_is_noticed_once(tmp_path):
    """Also those before the first step, on recorded data, and the first one of another model."""
    saved, names = [], ("sample", "mode")
    models = [tiny("toy/multigoal") for _ in range(2)]
    for model in models:
        model.save = lambda path: saved.append(path)
    best = callbacks.keep_best(tmp_path / "best").evaluation
    for model, updates, value in ((0, 10, 1.0), (0, 20, 2.0), (0, 30, 1.5), (1, 30, 3.0)):
        for name in names:
            row = {"env_steps": 0, "updates": updates, "actions": name}
            best(models[model], row | {"returns": [value if name == "sample" else 9.0]})
    assert len(saved) == 3


def test_nothing_is_due_before_the_first_step(tmp_path):
    class Model:
        def __init__(self, steps, **training):
            self.num_timesteps, self.saved = steps, []
            self.config = SACConfig.__new__(SACConfig)
            object.__setattr__(self.config, "training", TrainingConfig(**training))

        def save(self, path, replay):
            self.saved.append(path.name)

    offline = Model(0)
    every = callbacks.checkpoint_every(700, tmp_path).step
    every(offline)
    assert not offline.saved
    device = Model(1000, device_env="brax/ant", log_every=1000)  # the first dispatch
    callbacks.checkpoint_every(700, tmp_path).step(device)
    assert device.saved == ["step-000001000"]


def test_playing_elsewhere_leaves_an_object_alone():
    resets = []

    class Counted(gymnasium.Wrapper):
        def reset(self, **named):
            resets.append(named)
            return super().reset(**named)

    model = tiny(Counted(pendulum())).learn(45)
    before = len(resets)
    model.evaluate(1, env=pendulum)
    model.evaluate(1, env=pendulum())
    assert len(resets) == before
    model.evaluate(1)
    assert len(resets) > before


def test_an_object_is_stepped_as_it_is_whatever_its_name():
    env = pendulum()
    env.unwrapped.spec = replace(env.unwrapped.spec, id="gymnax/Pendulum-v1")
    config = tiny(env).config
    assert config.env == "object/gymnax/Pendulum-v1"
    assert config.training.device_env is None


def test_a_film_every_so_many_steps(tmp_path):
    pytest.importorskip("imageio")

    class Drawn(gymnasium.Wrapper):
        """Pendulum without its pictures' library."""

        def render(self):
            return np.zeros((32, 32, 3), np.uint8)

    def drawn():
        return Drawn(pendulum(steps=5, render_mode="rgb_array"))

    film = callbacks.record_video(20, tmp_path / "films", drawn, suffix=".gif")
    model = tiny(pendulum).learn(45, film)
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == [
        "step-000000020.gif",
        "step-000000040.gif",
    ]
    assert bits(model) == bits(tiny(pendulum).learn(45))


# What a model gives


def test_policy_and_state_are_copies_that_stay():
    model = tiny("toy/multigoal").learn(30)
    policy, before = model.policy, bits(model)
    held = [np.array(leaf) for leaf in jax.tree.leaves(policy)]
    model.learn(30)
    assert all(np.array_equal(leaf, old) for leaf, old in zip(jax.tree.leaves(policy), held, strict=True))
    assert bits(model) != before


def test_a_replay_buffer_by_itself(tmp_path):
    model = tiny("toy/multigoal").learn(50)
    model.save_replay(tmp_path / "replay")
    model.learn(10)
    model.save_replay(tmp_path / "replay")  # replaces
    other = fewstep.SAC(
        "toy/multigoal", preset="small", **FAST, **{"actor.hidden": [8], "critic.hidden": [8]}
    )
    other.load_replay(tmp_path / "replay")
    ours, theirs = (one._trainer.experience.buffer.arrays() for one in (model, other))
    assert len(theirs["reward"]) == 60
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    seen = []
    assert other._trainer.warm_up_action() is None  # what was loaded counts towards learning_starts
    assert other._trainer.first_update()[0] == 0
    other.learn(5, seen.append)
    assert seen[-1]["updates"] == 5
    with pytest.raises(UsageError, match="is not a saved replay buffer"):
        model.save_replay(tmp_path)
    with pytest.raises(UsageError, match="is not a saved model"):
        model.save(tmp_path / "replay")
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pickle", ".npy")]


def test_trained_critics_keep_the_scale_of_their_rewards(tmp_path):
    divided = {"replay.reward": "bounded"}
    giver, taker, fresh = (tiny("Pendulum-v1", **divided) for _ in range(3))
    giver.learn(30).save_replay(tmp_path / "replay")
    taker.learn(45)
    before = taker._trainer.experience.metrics()
    taker.load_replay(tmp_path / "replay")
    fresh.load_replay(tmp_path / "replay")
    given = giver._trainer.experience.metrics()
    assert taker._trainer.experience.metrics() == before != given
    assert fresh._trainer.experience.metrics() == given


def test_a_replay_buffer_that_does_not_fit_is_refused(tmp_path):
    tiny("toy/multigoal").learn(30).save_replay(tmp_path / "replay")
    with pytest.raises(FewstepError, match="saved replay field"):
        tiny("Pendulum-v1").load_replay(tmp_path / "replay")

    def several(envs):
        small = {"actor.hidden": [8], "critic.hidden": [8], "replay.n_step": 3, "training.envs": envs}
        return fewstep.SAC("toy/multigoal", preset="small", **FAST, **small)

    several(2).learn(30).save_replay(tmp_path / "two")
    several(2).load_replay(tmp_path / "two")
    with pytest.raises(FewstepError, match=r"is of 2 environments .* it needs training.envs=2, here it is 1"):
        several(1).load_replay(tmp_path / "two")
    with pytest.raises(UsageError, match="learns from its own steps alone"):
        fewstep.PPO("toy/bandit").load_replay(tmp_path / "replay")
    with pytest.raises(UsageError, match="keeps something of its own for every transition"):
        fewstep.DIPO("toy/bandit").load_replay(tmp_path / "replay")
    next((tmp_path / "replay").rglob("replay.safetensors")).write_bytes(b"torn")
    with pytest.raises(FewstepError, match="is damaged"):
        tiny("toy/multigoal").load_replay(tmp_path / "replay")


# Stable-Baselines3


def evaluate_policy(model, env, n_eval_episodes=10, deterministic=True):
    """What Stable-Baselines3's function of this name asks of a model, on one environment."""
    returns = []
    for _ in range(n_eval_episodes):
        observation, _ = env.reset()
        state, starts, done, total = None, np.ones(1, bool), False, 0.0
        while not done:
            actions, state = model.predict(
                observation[None], state=state, episode_start=starts, deterministic=deterministic
            )
            observation, reward, terminated, truncated, _ = env.step(actions[0])
            done = terminated or truncated
            starts, total = np.array([done]), total + float(reward)
        returns.append(total)
    return np.mean(returns), np.std(returns)


def real_evaluate_policy():
    pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed (it brings torch)")
    from stable_baselines3.common.evaluation import evaluate_policy

    return evaluate_policy


@pytest.mark.parametrize("real", [False, True])
def test_evaluate_policy_takes_the_model_and_its_environment(real):
    judge = real_evaluate_policy() if real else evaluate_policy
    for env in (pendulum(), pendulum):
        model = tiny(env).learn(40)
        mean, std = judge(model, model.get_env(), n_eval_episodes=2)
        assert np.isfinite([mean, std]).all()
        assert bits(model.learn(30)) == bits(tiny(pendulum).learn(70))
